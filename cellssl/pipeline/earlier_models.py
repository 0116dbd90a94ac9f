"""earlier_models: planned cells in; UsageError out where they do not fit an earlier model that the recipe names.

Everything is compared as soon as it is known: settings when they are planned, before any work; what only fetched images
tell, before they are segmented. The stages compare the finished cells once more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellssl.artifacts.store import Artifact, Store
from cellssl.errors import UsageError
from cellssl.stages.cluster.earlier import check_same_model
from cellssl.stages.pretrain.initial_weights import check_same_channels
from cellssl.stages.shared import preparation
from cellssl.stages.shared.preparation import Preparation, check_same

if TYPE_CHECKING:
    from cellssl.artifacts.card import Card


@dataclass(frozen=True)
class EarlierModels:
    """The models, weights and clusters that the recipe names, and what it says of the cells that are meant for them."""

    settings: Callable[[str], Any]
    """Returns the settings of a stage."""
    store: Store
    given: Mapping[str, Artifact]
    """Artifacts that take the place of planned ones, by stage."""

    def check_settings(self) -> None:
        """Raise UsageError where the settings of the cells differ from those of the model that [embed] names."""
        if model := self._named_model():
            self._check(model, self._preparation())

    def check_fetched(self, fetched: Artifact) -> None:
        """Raise UsageError where fetched images differ from those of the model that [embed] names."""
        from cellssl.artifacts.tables import read_fields
        from cellssl.stages.segment.inputs import channels_of

        if model := self._named_model():
            fields = read_fields(fetched)
            self._check(model, preparation.of_fields(fields, channels_of(fields)))

    def check_embed(self, inputs: Mapping[str, str]) -> None:
        """Raise UsageError where planned cells differ from those of the model that `embed` takes.

        `inputs` are the fingerprints of its inputs.
        """
        model = self.given.get("pretrain")
        if model is None and "model" in inputs:
            model = self.store.get("pretrain", inputs["model"])
        if model is not None:
            self._check(model, self._preparation())

    def check_first_weights(self, fingerprint: str) -> None:
        """Raise UsageError where a training starts from an encoder of other channels."""
        check_same_channels(self.store.get("pretrain", fingerprint), self._preparation().get("channels"))

    def check_clusters(self, fingerprint: str, embed: Card) -> None:
        """Raise UsageError where cells are assigned to clusters of embeddings of another model."""
        check_same_model(self.store.get("cluster", fingerprint), embed, self.store)

    def _check(self, model: Artifact, here: Preparation) -> None:
        check_same(model, preparation.of_model(model, self.store), here, self.settings("embed").accept)

    def _named_model(self) -> Artifact | None:
        """Return the earlier model in the section [embed]; None where it is not in these stores, as embed will say."""
        with suppress(UsageError):
            for reference, kinds in self.settings("embed").artifact_references().values():
                return self.store.resolve(reference, kinds)
        return None

    def _preparation(self) -> Preparation:
        """Return what is known of the cells before any work."""
        segment, dataset = self.settings("segment"), self.settings("fetch").dataset
        if "fetch" in self.given:  # its images are not those that the recipe would fetch
            return preparation.of_section(segment.all_values(), segment.algorithm(), finished_crops=True)
        section = preparation.of_section(segment.all_values(), segment.algorithm(), finished_crops=dataset.gives_crops)
        return {**section, **preparation.of_dataset(dataset)}
