"""check: a recipe in a store in; what does not fit together in its tables, images and sections out, before any work."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cellssl.artifacts.hash_cache import UnknownHashError
from cellssl.artifacts.store import Artifact
from cellssl.config.recipe import Recipe
from cellssl.datasets.base import Field
from cellssl.datasets.transfer.threads import run_in_thread
from cellssl.engine.build import RunContext
from cellssl.errors import UsageError
from cellssl.events import Event
from cellssl.pipeline.blocks import check_blocks, check_measurable
from cellssl.pipeline.effective import effective_settings
from cellssl.pipeline.estimates import is_remote
from cellssl.pipeline.hits_design import PlannedWell, design_sentences, fetched_wells, planned_wells
from cellssl.pipeline.planned import Planned
from cellssl.pipeline.plate_controls import STAGES, check_fetched_controls, check_planned_controls, need_wells
from cellssl.pipeline.plates import plan_plate
from cellssl.pipeline.session import Session
from cellssl.stages.fetch import findings as kinds
from cellssl.stages.fetch.check import check_plates
from cellssl.stages.fetch.findings import Check, Finding, Tolerances, in_order, kinds_of
from cellssl.stages.fetch.stage import fields_of, planned_plates
from cellssl.stages.segment.inputs import check_channels


def check_recipe(session: Session, context: RunContext, arms: Sequence[str]) -> Generator[Event, None, Check]:
    """Return everything that does not fit together in these arms; of images, only the headers are read.

    Raises UsageError where the recipe fetches nothing or has a block that cannot be made; what a table or a setting
    makes impossible is raised as `fetch` raises it, and a channel that [segment] names and no image has, as `segment`
    does.
    """
    recipe = session.recipe
    arms = [arm for arm in arms if recipe.has("fetch", arm)]
    if not arms:
        raise UsageError(
            f"{recipe.source} has no section [fetch], so there is nothing to check",
            hint="give a recipe with a data set; cellssl explain fetch lists its settings",
        )
    for arm in arms:
        check_measurable(recipe, arm)
        check_blocks(recipe, arm, session.store)
        if recipe.has("pretrain", arm):
            effective_settings(recipe, "pretrain", arm).check_weights()
    checks = []
    for arm in _different(recipe, arms):
        checks.append((yield from _check_arm(session, arm, context)))
    return _joined(checks)


def check_planned(session: Session, context: RunContext, arms: Sequence[str]) -> Generator[Event, None, None]:
    """Raise UsageError where settings do not fit the rows of the user's own tables; no image is opened."""
    recipe = session.recipe
    if has_own_images(recipe, arms):
        for arm in _different(recipe, [arm for arm in arms if recipe.has("fetch", arm)]):
            _check_micrometres(recipe.settings("segment", arm), (yield from _plates_of(session, arm, context)))


def check_plate_controls(
    session: Session, context: RunContext, wanted: Mapping[str, Collection[str]]
) -> Generator[Event, None, None]:
    """Raise UsageError where plates lack controls or treatments that a stage needs; `wanted`: the stages of every arm.

    The plates are those that are fetched, or those of the user's own tables. What must be downloaded before plates are
    known is checked after `fetch`.
    """
    recipe, store = session.recipe, session.store
    for arm, stages in wanted.items():
        if not recipe.has("fetch", arm) or session.given or not need_wells(recipe, arm, stages, store):
            continue
        if (fetched := _fetched(session, arm)) is not None:
            check_fetched_controls(fetched, recipe, arm, stages, store)
        elif recipe.settings("fetch", arm).external_files():
            check_planned_controls(recipe, arm, stages, (yield from _plates_of(session, arm, context)), store)


@dataclass(frozen=True)
class HitsRemark:
    """What the wells of a plan do not allow hits to find."""

    sentence: str
    arms: tuple[str, ...]
    """The arms that it holds for; none where it holds for all that search for hits."""

    def in_words(self) -> str:
        """Return the sentence, with the arms where it does not hold for all."""
        return f"hits of {', '.join(self.arms)}: {self.sentence}" if self.arms else f"hits: {self.sentence}"


def hits_remarks(
    session: Session, context: RunContext, wanted: Mapping[str, Collection[str]]
) -> Generator[Event, None, list[HitsRemark]]:
    """Return what the wells of the plan do not allow hits to find; `wanted` has the stages of every arm.

    Nothing is said of a sample of fields, and where the wells are not known before a download, or come in an external
    table: then the stage says it.
    """
    recipe = session.recipe
    searching = [arm for arm, stages in wanted.items() if "hits" in stages]
    arms = [arm for arm in searching if recipe.has("fetch", arm) and _plans_wells(recipe, arm) and not session.given]
    said: dict[str, list[str]] = {}
    for alike in _alike(recipe, arms, ("fetch", "split", "hits")):
        wells = yield from _wells_of(session, alike[0], context)
        for sentence in design_sentences(wells, recipe.settings("hits", alike[0])):
            said.setdefault(sentence, []).extend(alike)
    return [HitsRemark(sentence, () if len(of) == len(searching) else tuple(of)) for sentence, of in said.items()]


def _plans_wells(recipe: Recipe, arm: str) -> bool:
    return recipe.settings("hits", arm).table is None and recipe.settings("fetch", arm).sample is None


def _wells_of(session: Session, arm: str, context: RunContext) -> Generator[Event, None, list[PlannedWell]]:
    """Return the wells that are fetched or planned; none where the plan is not known without a download."""
    if (fetched := _fetched(session, arm)) is not None:
        return fetched_wells(session.recipe, arm, fetched)
    if is_remote(session.recipe.settings("fetch", arm).dataset):
        return []
    return planned_wells(session.recipe, arm, (yield from _plates_of(session, arm, context)))


def wanted_of(session: Session, planned: Iterable[Planned] | None = None) -> dict[str, set[str]]:
    """Return the stages of every arm that are still to be made of a plan; without a plan, all that a report shows."""
    found: dict[str, set[str]] = {}
    if planned is None:
        for arm, _, stage in session.grid("report"):
            found.setdefault(arm, set()).add(stage)
    for one in planned or ():
        if one.stage in STAGES and session.store.find(one.stage, one.fingerprint) is None:
            found.setdefault(one.arm, set()).add(one.stage)
    return found


def _fetched(session: Session, arm: str) -> Artifact | None:
    """Return what `fetch` has made, where that is known without reading an image."""
    with suppress(UnknownHashError), session.store.hashes.only_known():
        return session.store.find("fetch", session.planner(arm, session.seeds()[0]).plan("fetch").fingerprint)
    return None


def is_fetched(session: Session, arms: Sequence[str]) -> bool:
    """Return whether all that `fetch` would make is finished; reads no image, so False where one has changed."""
    arms = [arm for arm in arms if session.recipe.has("fetch", arm)]
    try:
        with session.store.hashes.only_known():
            if session.selection.plate is not None:
                part = plan_plate(session, "fetch", session.selection.plate)
                return session.state(part.card, part.counted) == "done"
            planned = [session.planner(arm, session.seeds()[0]).plan("fetch") for arm in arms]
            return all(session.state(one.card, one.settings) == "done" for one in planned)
    except UnknownHashError:
        return False


def has_own_images(recipe: Recipe, arms: Sequence[str]) -> bool:
    """Return whether any arm reads images that lie on this machine and are the user's; downloads nothing."""
    fetching = [
        recipe.settings("fetch", arm) for arm in _different(recipe, [a for a in arms if recipe.has("fetch", a)])
    ]
    return any(not settings.dataset.gives_crops and settings.external_files() for settings in fetching)


def summary_of(check: Check) -> dict[str, Any]:
    """Return the counts of a check, as scripts read them."""
    return {
        "plates": check.plates,
        "fields": check.fields,
        "files": check.files,
        "errors": kinds_of(check.errors),
        "warnings": kinds_of(check.warnings),
        "notes": kinds_of(check.of("note")),
        "bad_plates": dict(check.bad_plates),
    }


def _different(recipe: Recipe, arms: Sequence[str]) -> list[str]:
    """Return the first of all arms that fetch, judge and label the same."""
    return [alike[0] for alike in _alike(recipe, arms, ("fetch", "segment", "split"))]


def _alike(recipe: Recipe, arms: Sequence[str], stages: Sequence[str]) -> list[list[str]]:
    """Return the arms in groups that have the same settings of these stages."""
    found: dict[str, list[str]] = {}
    for arm in arms:
        key = repr([recipe.settings(stage, arm) for stage in stages if recipe.has(stage, arm)])
        found.setdefault(key, []).append(arm)
    return list(found.values())


def _check_arm(session: Session, arm: str, context: RunContext) -> Generator[Event, None, Check]:
    recipe, plate = session.recipe, session.selection.plate
    settings = recipe.settings("fetch", arm)
    tolerances = Tolerances(settings.max_failures, recipe.settings("segment", arm).max_failures)
    plates = yield from _plates_of(session, arm, context)
    _check_channels(recipe.settings("segment", arm), plates)
    _check_micrometres(recipe.settings("segment", arm), plates)
    remarks = yield from run_in_thread(partial(settings.dataset.remarks, settings.controls))
    check = yield from check_plates(plates, settings.controls, tolerances, context, remarks)
    if plate is not None or not recipe.has("split", arm):
        return check
    return _with(check, _against_split(recipe.settings("split", arm), plates))


def _plates_of(session: Session, arm: str, context: RunContext) -> Generator[Event, None, dict[str, list[Field]]]:
    """Return the planned fields of every plate, or of the only plate that is selected."""
    settings, plate = session.recipe.settings("fetch", arm), session.selection.plate
    if plate is None:
        return (yield from run_in_thread(partial(planned_plates, settings, context)))
    return {plate: (yield from run_in_thread(partial(fields_of, settings, plate, context)))}


def _check_micrometres(settings: Any, plates: Mapping[str, Sequence[Field]]) -> None:
    """Raise UsageError, as `segment` would, where its limits or windows do not fit the pixel sizes of a plate.

    What headers say of a pixel does not count there either. Finished crops of a data set have no limits.
    """
    import pandas as pd

    from cellssl.stages.segment.selection import check_areas, check_pixel_sizes

    for fields in plates.values():
        rows = [(field.field_id, field.plate, field.pixel_um) for field in fields if field.images]
        if rows:
            table = pd.DataFrame(rows, columns=["field_id", "plate", "pixel_um"]).astype({"pixel_um": float})
            check_pixel_sizes(settings, table)
            check_areas(settings, table)


def _check_channels(segment: Any, plates: Mapping[str, Sequence[Field]]) -> None:
    """Raise UsageError where [segment] names a channel that the fields lack; crops of a data set have no images."""
    channels = next((list(field.images) for fields in plates.values() for field in fields if field.images), None)
    if channels is not None:
        check_channels(segment, channels)


def _against_split(split: Any, plates: Mapping[str, Sequence[Field]]) -> Iterator[Finding]:
    """Yield what the section [split] names and the table does not have."""
    doses: dict[str | None, set[float]] = {}
    for field in (field for fields in plates.values() for field in fields):
        doses.setdefault(field.compound, set()).update([field.dose_micromolar] if field.dose_micromolar else [])
    wanted = split.treated.compounds if split.treated is not None else ()
    for name in wanted:
        if name not in doses:
            words = f"split.treated names the compound {name!r}, and no well has it"
            yield Finding(kinds.RECIPE, words, "correct split.treated, or the table")
        elif split.treated.doses != "all" and len(doses[name]) == 1:
            words = f"split.treated chooses doses ({split.treated.doses}) of {name!r}, which has one dose only"
            yield Finding(kinds.RECIPE, words, 'write doses = "all", or correct the doses in the table')
    for setting in ("plates", "test_plates"):
        for name in (name for name in getattr(split, setting) if name not in plates):
            words = f"split.{setting} names the plate {name!r}, and the table has no such plate"
            yield Finding(kinds.RECIPE, words, f"correct split.{setting}, or the table")


def _with(check: Check, more: Iterator[Finding]) -> Check:
    return replace(check, findings=in_order([*check.findings, *more]))


def _joined(checks: Sequence[Check]) -> Check:
    """Return the checks of several arms as one: what they share comes once, errors first."""
    first = checks[0]
    if len(checks) == 1:
        return first
    findings = in_order(dict.fromkeys(one for each in checks for one in each.findings))
    bad = {plate: why for each in checks for plate, why in each.bad_plates.items()}
    most = max(checks, key=lambda each: each.fields)
    recalled = all(each.is_recalled for each in checks)
    return Check(most.fields, most.files, findings, bad, most.plates, recalled)
