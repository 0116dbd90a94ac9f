"""hit_sentences: runs with hits in; how many treatments are active, with which arms and seeds, in sentences, out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cellssl.counting import counted
from cellssl.stages.hits.metrics import HitsMetrics
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.hit_tables import compared_with, names_of, treatments_of
from cellssl.stages.report.runs import Run, first_seeds

if TYPE_CHECKING:
    import pandas as pd

SUREST_NAMED = 2
"""Treatments that may share the smallest q-value and are still named as the surest."""
UNKNOWN_COUNT = "How many cells each well has is not known, so it is not known what their number alone would find."


def leading_run(runs: Sequence[Run], scores: ScoresByArm) -> Run | None:
    """Return the first run with hits of the leading arm, or else of a trained arm, or else of any arm."""
    with_hits = [run for run in runs if run.hits is not None]
    order = [scores.leading, *scores.trained, *scores.baselines]
    return min(with_hits, key=lambda run: order.index(run.arm), default=None)


def treatments_in_short(runs: Sequence[Run], scores: ScoresByArm) -> str:
    """Return how many treatments changed the cells, in one sentence for the top of the page; empty without hits."""
    run = leading_run(runs, scores)
    if run is None or run.hits is None:
        return ""
    table, found = treatments_of(run.found_hits), run.hits
    plates = counted(found.plates, "plate")
    if not found.tested:
        return f"Which treatments changed the cells cannot be tested with so few wells ({plates}){_largest(table)}."
    asked = f"false discovery rate below {100 * found.alpha:g} %: q < {found.alpha:g}; {plates}; by “{run.arm}”"
    if not found.active:
        if found.tested == 1:
            return f"The one tested treatment, {_tested(table)}, did not clearly change the cells ({asked})."
        return f"None of {found.tested:,} tested treatments clearly changed the cells ({asked})."
    if found.tested == 1:
        return f"The one tested treatment, {_tested(table)}, changed the cells ({asked})."
    most = surest(table[[each is True for each in table["active"]]])
    return f"{found.active:,} of {found.tested:,} tested treatments changed the cells ({asked}{most})."


def _tested(table: pd.DataFrame) -> str:
    """Return the name of the only treatment that was tested."""
    return names_of(table[table["q_value"].notna()])[0]


def surest(active: pd.DataFrame) -> str:
    """Return which active treatments have the smallest q-value; where these are many, which has the largest effect."""
    first = names_of(active[active["q_value"] == active["q_value"].min()])
    if len(first) == len(active) <= SUREST_NAMED:
        return f": {' and '.join(first)}"
    if 0 < len(first) <= SUREST_NAMED:
        return f"; most surely {' and '.join(first)}"
    return _largest(active)


def _largest(table: pd.DataFrame) -> str:
    """Return which of several treatments has the largest effect; nothing where none has an effect."""
    if len(table) < 2 or not round(table["effect"].max(), 2) > 0:
        return ""
    place = int(table["effect"].to_numpy(float, na_value=float("-inf")).argmax())
    return f"; largest effect: {names_of(table)[place]}"


def activity_sentence(run: Run, found: HitsMetrics) -> str:
    """Return when a treatment is active, how many are, and how many differ in their number of cells."""
    if not found.tested:
        return _untested(run)
    rest = found.treatments - found.tested
    untested = f" {counted(rest, 'further treatment')} could not be tested." if rest else ""
    return (
        f"A treatment is active where its wells are more like each other than like {compared_with(run.found_hits)}s, "
        f"at q < {found.alpha:g}. {_counts(run, found)}. {_by_count(found)}{untested}"
    )


def _untested(run: Run) -> str:
    assert run.hits is not None
    return (
        f"With “{run.arm}” (seed {run.seed}), no treatment could be tested, so there are effects and ranks, and no "
        f"q-values: a test needs two wells of a treatment on plates with two {compared_with(run.found_hits)}s, and "
        f"enough of both for a p-value of {run.hits.alpha:g}."
    )


def _counts(run: Run, found: HitsMetrics) -> str:
    verb = "is" if 1 in (found.active, found.tested) else "are"
    return (
        f"With “{run.arm}” (seed {run.seed}), {found.active:,} of {counted(found.tested, 'tested treatment')} {verb} "
        "active"
    )


def _by_count(found: HitsMetrics) -> str:
    alone = found.active_by_cell_count
    return UNKNOWN_COUNT if alone is None else f"A test of the number of cells alone finds {alone:,}."


def beside_baselines(runs: Sequence[Run], run: Run) -> str:
    """Return how many treatments the baselines find, other than this run; nothing where there are none."""
    baselines = [one for one in first_seeds(list(runs)) if one.is_baseline and one.arm != run.arm]
    found = [f"{one.arm} {one.hits.active:,}" for one in baselines if one.hits is not None and one.hits.tested]
    who = "Other baselines" if run.is_baseline else "Baselines, which learn nothing,"
    return f" {who} find: {', '.join(found)}." if found else ""


def over_seeds(runs: Sequence[Run], run: Run) -> str:
    """Return how many treatments are active with each seed of an arm, and with all of them; nothing for one seed."""
    seeds = [one for one in runs if one.arm == run.arm and one.hits is not None and one.hits.tested]
    if len(seeds) < 2:
        return ""
    active = []
    for one in seeds:
        table = treatments_of(one.found_hits)
        active.append({name for name, found in zip(names_of(table), table["active"], strict=True) if found is True})
    if all(each == active[0] for each in active):
        return f" All {len(seeds)} seeds of “{run.arm}” find the same treatments." if active[0] else ""
    counts = ", ".join(f"{len(each):,}" for each in active)
    return (
        f" The {len(seeds)} seeds of “{run.arm}” find {counts}; {len(set.intersection(*active)):,} are active with "
        "all of them."
    )
