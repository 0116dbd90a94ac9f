"""plate_controls: planned or fetched fields in; UsageError out where a chain of normalisers, or hits, misses controls.

It is said before any work where the user's own tables show it, and else before fetched images are segmented.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from cellssl.artifacts.store import Artifact, Store
from cellssl.config import plugins
from cellssl.config.recipe import Recipe
from cellssl.datasets.base import Field
from cellssl.datasets.tables.controls import is_control
from cellssl.errors import UsageError
from cellssl.profiling.normaliser import FOLDER
from cellssl.stages.cluster.metrics import links_of

OF_EVERY_PLATE = ("cluster", "evaluate")
"""The stages that normalise vectors, some by the controls of every plate."""
STAGES = (*OF_EVERY_PLATE, "hits")
"""The stages that may need controls."""


def check_planned_controls(
    recipe: Recipe, arm: str, stages: Collection[str], plates: Mapping[str, Sequence[Field]], store: Store
) -> None:
    """Raise UsageError where planned plates have no control, and one of these stages needs one."""
    controls = recipe.settings("fetch", arm).controls
    with_controls = {
        plate
        for plate, fields in plates.items()
        if any(is_control(field.compound, field.control_type, controls) for field in fields)
    }
    _check(recipe, arm, stages, store, in_use(recipe, arm, plates), with_controls)


def check_fetched_controls(fetched: Artifact, recipe: Recipe, arm: str, stages: Collection[str], store: Store) -> None:
    """Raise UsageError where fetched plates have no control, and one of these stages needs one."""
    from cellssl.artifacts.tables import read_fields

    if need_controls(recipe, arm, stages, store):
        fields = read_fields(fetched)
        with_controls = set(fields["plate"][fields["control"].to_numpy(bool)])
        _check(recipe, arm, stages, store, in_use(recipe, arm, list(fields["plate"].unique())), with_controls)


def need_controls(recipe: Recipe, arm: str, stages: Collection[str], store: Store) -> bool:
    """Return whether one of these stages needs controls: on every plate, or on any."""
    return bool(_needing_any(recipe, arm, stages) or needing_controls(recipe, arm, stages, store))


def _needing_any(recipe: Recipe, arm: str, stages: Collection[str]) -> bool:
    """Return whether one of these stages compares wells with controls; it leaves out plates that have none."""
    if "hits" not in stages:
        return False
    settings = recipe.settings("hits", arm)
    return settings.table is None and settings.reference == "controls"


def needing_controls(recipe: Recipe, arm: str, stages: Collection[str], store: Store) -> list[tuple[str, str]]:
    """Return which of these stages need controls on every plate: the setting, and the cure beside naming controls."""
    wanted = set(stages)
    return [found for stage in OF_EVERY_PLATE if stage in wanted for found in _needing(recipe, stage, arm, store)]


def _needing(recipe: Recipe, stage: str, arm: str, store: Store) -> Iterator[tuple[str, str]]:
    """Yield the setting whose chain is fitted on the controls of every plate, and the cure beside naming controls."""
    settings = recipe.settings(stage, arm)
    if stage == "evaluate" and settings.table is not None:
        return
    cure = f'set {stage}.normalise = ["zscore", "l2"]'
    names = [link.plugin_name() for link in settings.normalise]
    key = f"{stage}.normalise"
    if stage == "cluster" and settings.assign_to:
        names = []
        with suppress(UsageError, LookupError, TypeError):  # the stage says what is wrong with it
            names = list(links_of(store.resolve(settings.assign_to, ("cluster",)).card.metrics))
        key, cure = "the earlier clustering", "cluster the earlier plates with a chain that needs none"
    known = [name for name in names if name in plugins.names(FOLDER)]
    if any(plugins.load(FOLDER, name).Settings.of_plate for name in known):
        yield key, cure


def in_use(recipe: Recipe, arm: str, plates: Iterable[str]) -> list[str]:
    """Return the plates whose cells are embedded: those of the split, where it names some."""
    chosen = recipe.settings("split", arm).plates if recipe.settings("embed", arm).cells == "split" else ()
    return [plate for plate in plates if not chosen or plate in chosen]


def _check(
    recipe: Recipe, arm: str, stages: Collection[str], store: Store, plates: Sequence[str], with_controls: set[str]
) -> None:
    missing = [plate for plate in plates if plate not in with_controls]
    if missing and len(missing) == len(plates) and _needing_any(recipe, arm, stages):
        raise UsageError(
            "no plate has a control well, and hits compares treated wells with control wells",
            hint="name the controls in fetch.controls, or compare every well with all others of its plate: set "
            'hits.reference = "all"',
        )
    if missing and (needing := needing_controls(recipe, arm, stages, store)):
        key, cure = needing[0]
        more = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
        raise UsageError(
            f"plate {missing[0]}{more} has no control well, but {key} is fitted on the controls of every plate",
            hint=f"name the controls in fetch.controls, leave such plates out (fetch.exclude_plates), or {cure}",
        )
