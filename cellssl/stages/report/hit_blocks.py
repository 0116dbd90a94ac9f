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
from cellssl.stages.report.figure_files import write_figure
from cellssl.stages.report.hit_sentences import activity_sentence, beside_baselines, over_seeds
from cellssl.stages.report.hit_tables import compared_with, curves_of, names_of, treatments_of, unit_of, wells_of
from cellssl.stages.report.runs import Run
from cellssl.stages.report.tables_common import ROWS_SHOWN, interval_text, rows_note

if TYPE_CHECKING:
    import pandas as pd

FIRST_ROWS = 20
"""Number of treatments that are shown without unfolding."""
DOSE_PANELS = 6
HEADER = (
    *(
        "treatment",
        "wells",
        "active",
        "q",
        "effect",
        "95 % of effect",
        "cells changed",
        "relative cell count",
        "most like",
    ),
    *("nearest mechanism", "remark"),
)
EXPLAINED = {
    "active": "Active: its wells are more like each other than like {other}s. Active ones first, then by q and effect.",
    "q": "q: false discovery rate; p-values (of the mean average precision against {other}s) corrected for the number "
    "of treatments (Benjamini and Hochberg).",
    "effect": "Effect: how far its wells lie, in the same direction, from {other}s. 0: no effect; {unit}.",
    "cells changed": "Cells changed: at least this share of its cells looks unlike those of {other}s.",
    "relative cell count": "Relative cell count: cells per well, divided by those of {other}s of the plate.",
    "most like": "Most like: the nearest treatment of another compound, in brackets the similarity, where above 0, and "
    "whether it is not active itself; for active treatments only.",
    "nearest mechanism": "Nearest mechanism: that of the treatment it is most like, where this one is active.",
}
"""Column of the table of treatments -> how to read it."""
HOW_TO_READ = "How to read this table"
IN_CSV = "hits.csv has all columns, such as all intervals."


def hit_blocks(job: Job, runs: Sequence[Run], run: Run) -> list[Block]:
    """Return what the hits of one of the runs show: sentences, the table of treatments, and figures."""
    assert run.hits is not None
    table = treatments_of(run.found_hits)
    heads, rows = treatment_rows(table)
    other, unit = compared_with(run.found_hits), unit_of(run)
    explained = [text.format(other=other, unit=unit) for head, text in EXPLAINED.items() if head in heads]
    caption = (
        f"Treatments against {other}s by “{run.arm}”, seed {run.seed}; n = {len(rows):,}. Effect: {unit}; q: false "
        "discovery rate."
    )
    found = f"{activity_sentence(run, run.hits)}{over_seeds(runs, run)}{beside_baselines(runs, run)}"
    blocks: list[Block] = [Paragraph(text) for text in (found, run.hits.is_it_real) if text]
    if run.hits.cautions:
        blocks += [Paragraph("What makes these hits doubtful:"), Bullets(run.hits.cautions)]
    blocks += [Table(heads, rows[:FIRST_ROWS], caption), Folded(HOW_TO_READ, [Bullets([*explained, IN_CSV])])]
    return [*blocks, *_rest(heads, rows[FIRST_ROWS:]), *_points(job, run, table), *_doses(job, run, table)]


def treatment_rows(table: pd.DataFrame) -> tuple[list[str], list[list[Value]]]:
    """Return heads and rows of the table of treatments; columns that have no value are left out."""
    active = {name for name, is_active in zip(names_of(table), table["active"], strict=True) if is_active}
    rows = [_row(name, row, active) for name, row in zip(names_of(table), table.to_dict("records"), strict=True)]
    kept = [place for place in range(len(HEADER)) if any(row[place] not in (None, "–", "") for row in rows)]
    return [HEADER[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _row(name: str, row: dict[Any, Any], active: set[str]) -> list[Value]:
    return [
        name,
        int(row["wells"]),
        row["active"],
        _two_digits(row["q_value"]),
        _two_decimals(row["effect"]),
        _interval(row["effect_low"], row["effect_high"]),
        _percent(row["changed_share"]),
        _two_decimals(row["cell_count_ratio"]),
        *(_nearest(row, active) if row["active"] else ("", "")),
        _text(row["remark"]),
    ]


def _interval(low: Any, high: Any) -> str:
    bounds = (_number(low), _number(high))
    return interval_text(None if bounds[0] is None or bounds[1] is None else (bounds[0], bounds[1]))


def _two_digits(value: Any) -> str:
    found = _number(value)
    return "–" if found is None else f"{found:.2g}"


def _two_decimals(value: Any) -> str:
    found = _number(value)
    return "–" if found is None else number(found)


def _percent(value: Any) -> str:
    share = _number(value)
    return "–" if share is None else f"{100 * share:.0f} %"


def _nearest(row: dict[Any, Any], active: set[str]) -> tuple[str, str]:
    """Return the nearest treatment, and its mechanism if it is active; nothing where even this one is not similar."""
    similarity = _number(row["nearest_similarity"])
    if similarity is None or similarity <= 0:
        return "", ""
    name = _text(row["nearest_treatment"])
    if name not in active:
        return f"{name} ({similarity:.2f}; not active)", ""
    return f"{name} ({similarity:.2f})", _text(row["nearest_moa"])


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
        f"“{run.arm}”, seed {run.seed}: effect against the number of cells, one point per treatment (n = {shown:,}; "
        f"{_wells(table)}). Vertical line: as many cells as in {other}s. Horizontal line: effect of "
        f"{unit_of(run).replace(': ', ', ', 1)}. Active treatments are named where there is room.{left_out}"
    )
    drawn = table[["compound", "dose_micromolar", "effect", "cell_count_ratio"]].assign(state=_states(table["active"]))
    return [write_figure(job, "hits", figure, caption, theme.drawing, drawn)]


def _wells(table: pd.DataFrame) -> str:
    """Return how many wells each treatment has."""
    low, high = int(table["wells"].min()), int(table["wells"].max())
    return f"{counted(low, 'well')} each" if low == high else f"{low:,} to {high:,} wells each"


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
    dose, distance = (
        wells[name].to_numpy(float, na_value=math.nan) for name in ("dose_micromolar", "distance_from_controls")
    )
    names, control = [_text(name) for name in wells["compound"]], wells["control"].to_numpy(np.bool_)
    figure = dose_response.effect_curves(dose, distance, names, control, curves)
    of_all = f", for the {len(curves)} of {len(fitted):,} compounds with an EC50 whose effect is largest"
    other, which = compared_with(run.found_hits), of_all if len(fitted) > len(curves) else ""
    caption = (
        f"“{run.arm}”, seed {run.seed}: distance from {other}s against dose{which}; one point per well, with the "
        "fitted curve. Dashed: EC50 with its 95 % interval. At the left: control wells, mean ± standard deviation."
    )
    drawn = wells[wells["control"] | wells["compound"].isin(list(curves))]
    return [write_figure(job, "hits-doses", figure, caption, theme.drawing, drawn)]


def not_computed(found: HitsMetrics) -> list[Block]:
    """Return what the wells do not allow, with the reasons, folded."""
    if not found.not_computed:
        return []
    by_reason: dict[str, list[str]] = {}
    for name, reason in found.not_computed.items():
        by_reason.setdefault(reason, []).append(name.replace("_", " "))
    items = [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]
    return [Folded("Not computed, and why", [Bullets(items)])]
