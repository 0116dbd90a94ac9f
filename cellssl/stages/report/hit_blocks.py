"""hit_blocks: a run with hits in; sentences, tables and figures on which treatments changed the cells out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cellssl.counting import counted
from cellssl.engine.build import Job
from cellssl.reporting import theme
from cellssl.reporting.figures import dose_response
from cellssl.reporting.figures import hits as hit_figures
from cellssl.reporting.html import Block, Bullets, Folded, Paragraph, Table, Value
from cellssl.reporting.seed_statistics import number
from cellssl.stages.hits.metrics import HitsMetrics
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.figures import write_figure
from cellssl.stages.report.hit_tables import compared_with, curves_of, names_of, treatments_of, wells_of
from cellssl.stages.report.runs import Run, first_seeds
from cellssl.stages.report.tables_common import ROWS_SHOWN, interval_text, rows_note

if TYPE_CHECKING:
    import pandas as pd

FIRST_ROWS = 20
"""Number of treatments that are shown without unfolding."""
DOSE_PANELS = 6
UNKNOWN_COUNT = "How many cells each well has is not known, so it is not known what their number alone would find."
HEADER = (
    *(
        "treatment",
        "wells",
        "active",
        "q",
        "effect",
        "95 % of effect",
        "cells changed",
        "cell count ratio",
        "most like",
    ),
    *("nearest mechanism", "remark"),
)
EXPLAINED = {
    "active": "Active treatments first, then by q and by effect.",
    "q": "q: p-value (mean average precision against {other}s), corrected for the number of treatments (Benjamini and "
    "Hochberg).",
    "effect": "Effect: distance from {other}s; 1 is as far as a typical {other}.",
    "cells changed": "Cells changed: at least this share of the cells looks unlike those of {other}s.",
    "cell count ratio": "Cell count ratio: cells per well, relative to {other}s of the plate.",
    "most like": "Most like: the nearest treatment of another compound (similarity); a treatment that is not active is "
    "like many, so it is not shown there.",
    "nearest mechanism": "Nearest mechanism: that of the nearest treatment of another compound that has one.",
}
"""Column of the table of treatments -> what its caption says about it."""
IN_CSV = "hits.csv has more, such as all intervals."


def leading_run(runs: Sequence[Run], scores: ScoresByArm) -> Run | None:
    """Return the first run with hits of the leading arm, or else of a trained arm, or else of any arm."""
    with_hits = [run for run in runs if run.hits is not None]
    order = [scores.leading, *scores.trained, *scores.baselines]
    return min(with_hits, key=lambda run: order.index(run.arm), default=None)


def hit_blocks(job: Job, runs: Sequence[Run], run: Run) -> list[Block]:
    """Return what the hits of one of the runs show: sentences, the table of treatments, and figures."""
    assert run.hits is not None
    table = treatments_of(run.found_hits)
    heads, rows = _treatment_rows(table)
    explained = [text.format(other=compared_with(run.found_hits)) for head, text in EXPLAINED.items() if head in heads]
    caption = " ".join([f"“{run.arm}”, seed {run.seed}.", *explained, IN_CSV])
    found = f"{activity_sentence(run, run.hits)}{_beside_baselines(runs, run)}"
    sentences = [Paragraph(text) for text in (found, run.hits.is_it_real) if text]
    first = Table(heads, rows[:FIRST_ROWS], caption)
    return [*sentences, first, *_rest(heads, rows[FIRST_ROWS:]), *_points(job, run, table), *_doses(job, run, table)]


def activity_sentence(run: Run, found: HitsMetrics) -> str:
    """Return how many treatments are active, and how many of them the number of cells alone finds."""
    where = f"With “{run.arm}” (seed {run.seed})"
    if not found.tested:
        return (
            f"{where}, no treatment could be tested, so there are effects and ranks, and no q-values: a test needs two "
            "wells of a treatment, and two control wells on their plate."
        )
    rest = found.treatments - found.tested
    untested = f" {counted(rest, 'further treatment')} could not be tested." if rest else ""
    verb = "is" if found.active == 1 else "are"
    alone = found.active_by_cell_count
    by_count = f"The same test on the number of cells alone finds {alone:,}." if alone is not None else UNKNOWN_COUNT
    return (
        f"{where}, {found.active:,} of {counted(found.tested, 'tested treatment')} {verb} active: their wells are more "
        f"like each other than like {compared_with(run.found_hits)}s, at q < {found.alpha:g}. {by_count}{untested}"
    )


def _beside_baselines(runs: Sequence[Run], run: Run) -> str:
    """Return how many treatments the baselines find; nothing where the run is one, or there are none."""
    baselines = [one for one in first_seeds(list(runs)) if one.is_baseline and one.hits is not None and one.hits.tested]
    if run.is_baseline or not baselines:
        return ""
    each = ", ".join(f"{one.arm} {one.hits.active:,}" for one in baselines if one.hits is not None)
    return f" Baselines, which learn nothing, find: {each}."


def _treatment_rows(table: pd.DataFrame) -> tuple[list[str], list[list[Value]]]:
    """Return heads and rows of the table of treatments; columns that have no value are left out."""
    rows = [_row(name, row) for name, row in zip(names_of(table), table.to_dict("records"), strict=True)]
    kept = [place for place in range(len(HEADER)) if any(row[place] not in (None, "–", "") for row in rows)]
    return [HEADER[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _row(name: str, row: dict[Any, Any]) -> list[Value]:
    is_shown = row["active"] is not False
    return [
        name,
        int(row["wells"]),
        row["active"],
        _number(row["q_value"]),
        _two_decimals(row["effect"]),
        _interval(row["effect_low"], row["effect_high"]),
        _percent(row["changed_share"]),
        _two_decimals(row["cell_count_ratio"]),
        _nearest(row) if is_shown else "",
        _text(row["nearest_moa"]) if is_shown else "",
        _text(row["remark"]),
    ]


def _interval(low: Any, high: Any) -> str:
    bounds = (_number(low), _number(high))
    return interval_text(None if bounds[0] is None or bounds[1] is None else (bounds[0], bounds[1]))


def _two_decimals(value: Any) -> str:
    found = _number(value)
    return "–" if found is None else number(found)


def _percent(value: Any) -> str:
    share = _number(value)
    return "–" if share is None else f"{100 * share:.0f} %"


def _nearest(row: dict[Any, Any]) -> str:
    similarity = _number(row["nearest_similarity"])
    name = _text(row["nearest_treatment"])
    return f"{name} ({similarity:.2f})" if name and similarity is not None else name


def _number(value: Any) -> float | None:
    """Return a number of a table as Python's own; None where it is missing."""
    import pandas as pd

    return None if pd.isna(value) or math.isinf(value) else float(value)


def _text(value: Any) -> str:
    import pandas as pd

    return "" if pd.isna(value) else str(value)


def _rest(heads: Sequence[str], rows: Sequence[Sequence[Value]]) -> list[Block]:
    """Return the further treatments, folded."""
    if not rows:
        return []
    note = rows_note(rows, "hits.csv") or "hits.csv has the treatments of all arms and seeds."
    return [Folded(counted(len(rows), "further treatment"), [Table(heads, rows[:ROWS_SHOWN], note)])]


def _points(job: Job, run: Run, table: pd.DataFrame) -> list[Block]:
    """Return the figure of effect against cell count."""
    effect, ratio = (table[name].to_numpy(float, na_value=math.nan) for name in ("effect", "cell_count_ratio"))
    shown = sum(math.isfinite(one) and math.isfinite(other) for one, other in zip(effect, ratio, strict=True))
    if not shown:
        return []
    other = compared_with(run.found_hits)
    figure = hit_figures.effect_against_count(effect, ratio, _states(table["active"]), names_of(table), other)
    lost = len(table) - shown
    left_out = f" Not shown: {counted(lost, 'treatment')} without cells." if lost else ""
    caption = (
        f"“{run.arm}”, seed {run.seed}: effect against the number of cells, one point per treatment; at the dotted "
        f"lines, treated wells are like {other}s. An effect near the vertical line is not one on the number of cells."
        f"{left_out}"
    )
    return [write_figure(job, "hits.png", figure, caption, theme.drawing)]


def _states(active: Iterable[bool | None]) -> list[hit_figures.State]:
    words: dict[bool | None, hit_figures.State] = {True: "active", False: "not active", None: "not tested"}
    return [words[each] for each in active]


def _doses(job: Job, run: Run, table: pd.DataFrame) -> list[Block]:
    """Return the figure of effect against dose, of those compounds with an EC50 whose effect is largest."""
    import numpy as np

    fitted = curves_of(run.found_hits)
    by_effect = table.sort_values("effect", ascending=False, kind="stable")["compound"].dropna().unique()
    curves = {str(name): fitted[name] for name in [name for name in by_effect if name in fitted][:DOSE_PANELS]}
    if not curves:
        return []
    wells = wells_of(run.found_hits)
    dose, effect = (wells[name].to_numpy(float, na_value=math.nan) for name in ("dose_micromolar", "effect"))
    names, control = [_text(name) for name in wells["compound"]], wells["control"].to_numpy(np.bool_)
    figure = dose_response.effect_curves(dose, effect, names, control, curves)
    of_all = f", for the {len(curves)} of {len(fitted):,} compounds with an EC50 whose effect is largest"
    caption = (
        f"“{run.arm}”, seed {run.seed}: effect against dose{of_all if len(fitted) > len(curves) else ''}; one point "
        "per well, and the fitted curve. Dashed: EC50, with its 95 % interval; at the left the control wells with "
        "their standard deviation."
    )
    return [write_figure(job, "hits-doses.png", figure, caption, theme.drawing)]


def not_computed(found: HitsMetrics) -> list[Block]:
    """Return what the wells do not allow, with the reasons, folded."""
    if not found.not_computed:
        return []
    items = [f"{name.replace('_', ' ')}: {reason}" for name, reason in found.not_computed.items()]
    return [Folded("Not computed, and why", [Bullets(items)])]
