"""earlier_models: a planned stage in; UsageError out where its cells do not fit an earlier model that the recipe names.

Everything is compared as soon as it is known: settings when they are planned, before any work; what only fetched images
tell (`check_fetched`) before they are segmented. The stages compare the finished cells once more.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from cellssl.artifacts.store import Artifact
from cellssl.errors import UsageError
from cellssl.stages.cluster.earlier import check_same_model
from cellssl.stages.pretrain.initial_weights import check_same_channels
from cellssl.stages.shared import preparation
from cellssl.stages.shared.preparation import Preparation, check_same

if TYPE_CHECKING:
    from cellssl.pipeline.plan import Planned, Planner


def check_planned(planner: Planner, planned: Planned) -> None:
    """Raise UsageError where a stage does not fit the earlier model, weights or clusters that the recipe names."""
    match planned.stage:
        case "segment":
            check_settings(planner)
        case "embed" if "segment" in planner.stages and (model := _model(planner, planned)):
            _check(planner, model, _preparation(planner))
        case "pretrain" if "segment" in planner.stages and "init_from" in planned.inputs:
            earlier = planner.store.get("pretrain", planned.inputs["init_from"])
            check_same_channels(earlier, _preparation(planner).get("channels"))
        case "cluster" if "assign_to" in planned.inputs:
            earlier = planner.store.get("cluster", planned.inputs["assign_to"])
            embed = planned.given.get("embed") or planned.upstream["embed"]
            check_same_model(earlier, embed.card, planner.store)


def check_settings(planner: Planner) -> None:
    """Raise UsageError where the settings of the cells differ from those of the model that [embed] names."""
    if model := _named_model(planner):
        _check(planner, model, _preparation(planner))


def check_fetched(planner: Planner, fetched: Artifact) -> None:
    """Raise UsageError where fetched images differ from those of the model that [embed] names."""
    from cellssl.artifacts.tables import read_fields
    from cellssl.stages.segment.inputs import channels_of

    if model := _named_model(planner):
        fields = read_fields(fetched)
        _check(planner, model, preparation.of_fields(fields, channels_of(fields)))


def _check(planner: Planner, model: Artifact, here: Preparation) -> None:
    check_same(model, preparation.of_model(model, planner.store), here, planner.settings("embed").accept)


def _model(planner: Planner, embed: Planned) -> Artifact | None:
    """Return the earlier model of a planned embed: the one that a command line names, or the one in its section."""
    if "pretrain" in embed.given:
        return embed.given["pretrain"]
    return planner.store.get("pretrain", embed.inputs["model"]) if "model" in embed.inputs else None


def _named_model(planner: Planner) -> Artifact | None:
    """Return the earlier model in the section [embed]; None where it is not in these stores, as `embed` will say."""
    with suppress(UsageError):
        for reference, kinds in planner.settings("embed").artifact_references().values():
            return planner.store.resolve(reference, kinds)
    return None


def _preparation(planner: Planner) -> Preparation:
    """Return what is known of the cells before any work."""
    segment, dataset = planner.settings("segment"), planner.settings("fetch").dataset
    if "fetch" in planner.given:  # its images are not those that the recipe would fetch
        return preparation.of_section(segment.all_values(), segment.algorithm(), finished_crops=True)
    section = preparation.of_section(segment.all_values(), segment.algorithm(), finished_crops=dataset.gives_crops)
    return {**section, **preparation.of_dataset(dataset)}
