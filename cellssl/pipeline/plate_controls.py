"""plate_controls: planned or fetched fields in; UsageError out where a stage misses controls or treatments.

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
"""The stages that may need controls, or treatments."""


def check_planned_controls(
    recipe: Recipe, arm: str, stages: Collection[str], plates: Mapping[str, Sequence[Field]], store: Store
) -> None:
    """Raise UsageError where planned plates have no control, or no treatment, and one of these stages needs one."""
    controls = recipe.settings("fetch", arm).controls
    with_controls, with_treatments = set(), set()
    for plate in in_use(recipe, arm, plates):
        for field in plates[plate]:
            if is_control(field.compound, field.control_type, controls):
                with_controls.add(plate)
            elif field.compound is not None:
                with_treatments.add(plate)
    _check_hits(recipe, arm, stages, with_controls, with_treatments)
    _check_plates(needing_controls(recipe, arm, stages, store), in_use(recipe, arm, plates), with_controls)


def check_fetched_controls(fetched: Artifact, recipe: Recipe, arm: str, stages: Collection[str], store: Store) -> None:
    """Raise UsageError where fetched plates have no control, or no treatment, and one of these stages needs one."""
    from cellssl.artifacts.tables import read_fields

    if need_wells(recipe, arm, stages, store):
        fields = read_fields(fetched)
        used = in_use(recipe, arm, list(fields["plate"].unique()))
        control, known = fields["control"].to_numpy(bool), fields["compound"].notna().to_numpy(bool)
        with_controls, with_treatments = (
            set(fields["plate"][rows]) & set(used) for rows in (control, known & ~control)
        )
        _check_hits(recipe, arm, stages, with_controls, with_treatments)
        _check_plates(needing_controls(recipe, arm, stages, store), used, with_controls)


def need_wells(recipe: Recipe, arm: str, stages: Collection[str], store: Store) -> bool:
    """Return whether one of these stages needs controls or treatments, of every plate or of any."""
    return _searches(recipe, arm, stages) or bool(needing_controls(recipe, arm, stages, store))


def _searches(recipe: Recipe, arm: str, stages: Collection[str]) -> bool:
    """Return whether hits are searched for among the wells of the data set."""
    return "hits" in stages and recipe.settings("hits", arm).table is None


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


def _check_hits(
    recipe: Recipe, arm: str, stages: Collection[str], with_controls: set[str], with_treatments: set[str]
) -> None:
    """Raise UsageError where no plate has what hits needs; plates without controls are left out beside others."""
    if not _searches(recipe, arm, stages):
        return
    if not with_treatments:
        raise UsageError(
            "no well has a treatment, and hits finds which treatments changed the cells",
            hint="name the column of compounds (fetch.dataset.columns.compound) or a plate map, or leave [hits] out",
        )
    if not with_controls and recipe.settings("hits", arm).reference == "controls":
        raise UsageError(
            "no plate has a control well, and hits compares treated wells with control wells",
            hint="name the controls in fetch.controls, or compare every well with all others of its plate: set "
            'hits.reference = "all"',
        )


def _check_plates(needing: Sequence[tuple[str, str]], plates: Sequence[str], with_controls: set[str]) -> None:
    missing = [plate for plate in plates if plate not in with_controls]
    if missing and needing:
        key, cure = needing[0]
        more = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
        raise UsageError(
            f"plate {missing[0]}{more} has no control well, but {key} is fitted on the controls of every plate",
            hint=f"name the controls in fetch.controls, leave such plates out (fetch.exclude_plates), or {cure}",
        )
