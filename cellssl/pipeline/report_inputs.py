"""report_inputs: what a report is made of, by recipe or by hand, and what it is compared with, in; its plan out."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cellssl.artifacts.card import BY_RECIPE, kind_of_input
from cellssl.artifacts.contents import not_as_written
from cellssl.artifacts.store import Artifact, Store
from cellssl.bounded import read_json
from cellssl.config.recipe import Recipe, is_a_recipe, load
from cellssl.engine.cards import card_for
from cellssl.errors import IntegrityError, UsageError
from cellssl.pipeline.grid import ADDED
from cellssl.pipeline.planned import Planned
from cellssl.stages.report.runs import EARLIER, by_hand, collect, is_earlier

POINTER_SINCE = "report-since"
"""Pointer to a report with a comparison: it stands beside the one to the report without, and both are kept."""
POINTER_THEN = "report-since-then"
"""Pointer to what that report was compared with: the report that the page names is kept as long as the page is."""
IN_SINCE = ("report", "cluster", *ADDED)
"""Kinds of results that a report can be compared with."""


@dataclass(frozen=True)
class Earlier:
    """Earlier results, which a report compares its own with."""

    artifacts: tuple[Artifact, ...]
    """What the user named."""
    inputs: Mapping[str, Artifact]
    """ARM/SEED/STAGE -> artifact."""
    sweep: Any = None
    """The sweep of an earlier report that has one, as its card describes it."""

    @property
    def named(self) -> list[str]:
        """Fingerprints of what the user named."""
        return [one.fingerprint for one in self.artifacts]

    def identity(self) -> dict[str, Any]:
        """Return what the card of the report says of it."""
        return {"since": {"named": self.named, **({} if self.sweep is None else {"sweep": self.sweep})}}


def plan_report(
    recipe: Recipe,
    given: Mapping[str, Artifact],
    upstream: Mapping[str, Planned],
    command_line: str,
    arm: str,
    earlier: Earlier | None = None,
) -> Planned:
    """Plan the report on artifacts named by hand, or on planned ones; both are called ARM/SEED/STAGE.

    Earlier results are inputs, too, called since/ARM/SEED/STAGE.
    """
    settings = recipe.settings("report")
    before = {} if earlier is None else {f"{EARLIER}{name}": one for name, one in earlier.inputs.items()}
    inputs = {name: artifact.fingerprint for name, artifact in given.items()}
    inputs |= {name: planned.fingerprint for name, planned in upstream.items()}
    compared = {} if earlier is None else earlier.identity()
    identity = {"recipe": recipe.name, "order": list(inputs), **_sweep_of(recipe, inputs), **compared}
    inputs |= {name: artifact.fingerprint for name, artifact in before.items()}
    card = card_for("report", settings.algorithm(), settings, inputs, {}, identity=identity)
    pointer = "" if earlier is None else POINTER_SINCE
    named = {**given, **before}
    return Planned(
        "report", command_line, arm, None, settings, inputs, card, given=named, upstream=upstream, pointer=pointer
    )


def named_results(store: Store, references: Sequence[str]) -> tuple[Store, dict[str, Artifact]]:
    """Return cluster artifacts, and evaluations and hits of their vectors, by arm, and a store that has all inputs."""
    found = [_result(store, reference) for reference in references]
    for artifact in found:
        store = store.with_store_of(artifact)
    return store, by_hand(found, store)


def _result(store: Store, reference: str) -> Artifact:
    """Return one artifact that a report is to be made of; what is none may be a recipe that is misspelled."""
    try:
        return store.resolve(reference, ("cluster", *ADDED))
    except UsageError as error:
        if not error.message.startswith("there is no artifact"):
            raise
        raise UsageError(error.message, hint=f"{error.hint}; or give a recipe") from error


def earlier_results(store: Store, references: Sequence[str]) -> tuple[Store, Earlier]:
    """Return the results of an earlier report, or earlier results named by hand, and a store that has all inputs.

    Raises UsageError for artifacts of other kinds, and where one that the earlier page was made of is gone.
    """
    found = [_earlier_result(store, reference) for reference in references]
    for artifact in found:
        store = store.with_store_of(artifact)
    reports = [artifact for artifact in found if artifact.card.kind == "report"]
    if reports and len(found) > 1:
        raise UsageError(
            f"--since names {len(found)} artifacts, and {reports[0].path} is a report",
            hint="give one report, or cluster artifacts, their evaluations and hits",
        )
    inputs = _results_of(reports[0], store) if reports else by_hand(found, store)
    try:
        collect(inputs, store)  # what the results stand on is read, too: it is better to miss it now than half-way
    except UsageError as error:
        raise UsageError(f"--since {found[0].fingerprint}: {error.message}", hint=error.hint) from error
    sweep = reports[0].card.section.get("sweep") if reports else None
    return store, Earlier(tuple(found), inputs, sweep)


def _earlier_result(store: Store, reference: str) -> Artifact:
    """Return what one --since names; UsageError with the name of its last report where that is a recipe."""
    if is_a_recipe(reference):
        last, root = _last_report(store, load(reference).name), shlex.quote(str(store.root))
        raise UsageError(
            f"--since takes results, and {reference} is a recipe: its results of today may not be those that you mean",
            hint=f"{last}; cellssl status --store {root} lists all results",
        )
    try:
        return store.resolve(reference, IN_SINCE)
    except UsageError as error:
        raise UsageError(f"--since: {error.message}", hint=error.hint) from error


def _last_report(store: Store, recipe: str) -> str:
    """Return how to name the report of a recipe that was made last."""
    for pointer in sorted((store.root / BY_RECIPE / recipe).glob("*/*/report.json"), key=_age):
        with suppress(OSError, ValueError, KeyError, TypeError, IntegrityError):
            if (found := store.find("report", read_json(pointer)["fingerprint"])) is not None:
                return f"its last report is --since report/{found.fingerprint}"
    return f"{store.root} holds no report of {recipe}"


def _age(file: Path) -> float:
    with suppress(OSError):
        return -file.stat().st_mtime
    return 0.0


def _results_of(report: Artifact, store: Store) -> dict[str, Artifact]:
    """Return ARM/SEED/STAGE -> artifact that a report shows, in its order; not what it is compared with itself."""
    order = report.card.section.get("order")
    names = [name for name in (order if isinstance(order, list) else []) if name in report.card.inputs]
    names = list(dict.fromkeys([*names, *report.card.inputs]))
    found: dict[str, Artifact] = {}
    gone: list[str] = []
    for name in (name for name in names if not is_earlier(name)):
        if name.count("/") != 2 or not name.split("/")[1].isdecimal():
            raise not_as_written(report, "artifact.json", f"it has an input {name!r}")
        artifact = store.find(kind_of_input(name), report.card.inputs[name])
        if artifact is None:
            gone.append(f"{kind_of_input(name)}/{report.card.inputs[name]}")
        else:
            found[name] = artifact
    if gone:
        raise UsageError(
            f"{len(gone)} of {len(gone) + len(found)} results that {report.path} shows are not in {store.root}; "
            f"first: {gone[0]}",
            hint="name the store that has them with one more --store, make them again with the recipe of that time, "
            "or give --since the cluster artifacts that are still there",
        )
    return found


def _sweep_of(recipe: Recipe, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """Return what the report needs of a sweep: its settings, and the point that each input belongs to."""
    reported_arms = {name.split("/")[0] for name in fingerprints}
    points = {name: asdict(point) for name, point in recipe.points.items() if name in reported_arms}
    if recipe.sweep is None or not points:
        return {}
    knobs = {name: {"knob": knob.knob, "values": list(knob.points())} for name, knob in recipe.sweep.knobs.items()}
    return {
        "sweep": {
            "knobs": knobs,
            "together": recipe.sweep.together,
            "choose": recipe.sweep.choose,
            "points": points,
        }
    }
