"""earlier_models: planned cells in; UsageError out where they do not fit an earlier model that the recipe names.

Everything is compared as soon as it is known: settings when they are planned, before any work; what only fetched images
tell, before they are segmented. The stages compare the finished cells once more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from cellssl.artifacts.store import Artifact, Store
from cellssl.errors import UsageError
from cellssl.pipeline.planned import Planned
from cellssl.stages.cluster.earlier import check_same_model
from cellssl.stages.embed.models import check_is_there
from cellssl.stages.pretrain.initial_weights import check_same_channels
from cellssl.stages.shared import preparation
from cellssl.stages.shared.preparation import Preparation, check_same


class EarlierModels:
    """The models, weights and clusters that a recipe names, beside what is planned and given."""

    def __init__(
        self,
        store: Store,
        settings: Callable[[str], Any],
        given: Mapping[str, Artifact],
        planned: Mapping[str, Planned],
    ) -> None:
        """Take the settings of every stage by its name; `given` and `planned` may fill later."""
        self._store, self._settings, self._given, self._planned = store, settings, given, planned

    def check_planned(self, planned: Planned) -> None:
        """Raise UsageError where a stage does not fit the earlier model, weights or clusters that the recipe names."""
        match planned.stage:
            case "segment":
                self.check_settings()
            case "embed" if model := self._model(planned):
                check_is_there(model, planned.settings)
                if "segment" in self._planned:
                    self._check(model, self._preparation())
            case "pretrain" if "segment" in self._planned and "init_from" in planned.inputs:
                earlier = planned.given["init_from"]
                check_same_channels(earlier, self._preparation().get("channels"))
            case "cluster" if "assign_to" in planned.inputs:
                earlier = self._store.get("cluster", planned.inputs["assign_to"])
                embed = planned.given.get("embed") or planned.upstream["embed"]
                check_same_model(earlier, embed.card, self._store)

    def check_settings(self) -> None:
        """Raise UsageError where the settings of the cells differ from those of an earlier model in the recipe."""
        self._check_named(self._preparation)

    def check_fetched(self, fetched: Artifact) -> None:
        """Raise UsageError where fetched images differ from those of an earlier model in the recipe."""
        from cellssl.artifacts.tables import read_fields
        from cellssl.stages.segment.inputs import channels_of

        def of_fetched() -> Preparation:
            fields = read_fields(fetched)
            here = preparation.of_fields(fields, channels_of(fields))
            return preparation.resampled(here, self._settings("segment").all_values())

        self._check_named(of_fetched)

    def _check_named(self, prepared: Callable[[], Preparation]) -> None:
        """Compare cells with the model that [embed] names; where it names none, with the one that training starts from.

        `prepared` is called only where there is such a model.
        """
        if self._settings("embed").artifact_references():
            if model := self._named_model("embed"):
                self._check(model, prepared())
        elif earlier := self._named_model("pretrain"):
            check_same_channels(earlier, prepared().get("channels"))

    def _check(self, model: Artifact, here: Preparation) -> None:
        check_same(model, preparation.of_model(model, self._store), here, self._settings("embed").accept)

    def _model(self, embed: Planned) -> Artifact | None:
        """Return the earlier model of a planned embed: the one that a command line names, or the one in its section."""
        return embed.earlier_model() if {"pretrain", "model"} & embed.given.keys() else None

    def _named_model(self, stage: str) -> Artifact | None:
        """Return the earlier model in the section of a stage; None where these stores lack it; the stage says so."""
        with suppress(UsageError):
            for reference, kinds in self._settings(stage).artifact_references().values():
                return self._store.resolve(reference, kinds)
        return None

    def _preparation(self) -> Preparation:
        """Return what is known of the cells before any work."""
        segment, dataset = self._settings("segment"), self._settings("fetch").dataset
        if "fetch" in self._given:  # its images are not those that the recipe would fetch
            return preparation.of_section(segment.all_values(), segment.algorithm(), finished_crops=True)
        section = preparation.of_section(segment.all_values(), segment.algorithm(), finished_crops=dataset.gives_crops)
        return preparation.resampled({**section, **preparation.of_dataset(dataset)}, segment.all_values())
