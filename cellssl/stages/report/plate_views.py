"""plate_views: runs in; the section with a heat map per plate, coloured by any score, out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.counting import counted
from cellssl.engine.build import Job
from cellssl.reporting import theme
from cellssl.reporting.html import Block, Interactive, Paragraph, Section, Table, Value
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.figure_files import write_figure
from cellssl.stages.report.hit_tables import compared_with
from cellssl.stages.report.plate_wells import (
    CELLS,
    DISTANCE,
    Layout,
    Scale,
    Score,
    edge_means,
    placed,
    scale_of,
    scores_of,
    wells_of_run,
)
from cellssl.stages.report.runs import Run, first_seeds, has_treatments
from cellssl.stages.report.tables_common import ROWS_SHOWN

if TYPE_CHECKING:
    import pandas as pd

PLATES_DRAWN = 8
"""Number of plates that a figure has, and that the page shows at once."""
IN_FIGURE = (DISTANCE, CELLS)
VALUES_SHOWN = 300_000
"""Number of values on the page at most; arms beyond it are left out, those of the leading arm never."""
SHADES = 16


@dataclass(frozen=True)
class Arm:
    """The wells of one arm, as `wells_of_run` returns them."""

    name: str
    wells: pd.DataFrame
    other: str | None
    """What a search for hits compared wells with; None where there was none."""


def plate_section(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the section with a heat map per plate; none where the wells have neither treatments nor positions."""
    order = sorted(first_seeds(runs), key=lambda run: run.arm != scores.leading)
    leading, tables = order[0], {run.arm: wells_of_run(run) for run in order}
    if tables[leading.arm].empty:
        return []
    wells, layout = placed(tables[leading.arm])
    if layout.plate_wells is None and not has_treatments(leading):
        return []
    found = scores_of(wells, _other(leading))
    if not found:
        return []
    fallback = [*_figure(job, leading, wells, layout, found), *_edge_table(leading, wells, found)]
    arms = [Arm(f"{run.arm}, seed {run.seed}", tables[run.arm], _other(run)) for run in order]
    data = plate_data(arms, wells, layout)
    blocks: list[Block] = [
        Paragraph(_INTRODUCTION),
        Interactive("plates", data, fallback),
        *_left_out(len(arms) - len(data["arms"])),
    ]
    return [Section("Plates", blocks, anchor="plates")]


def _other(run: Run) -> str | None:
    return compared_with(run.hits_artifact) if run.hits_artifact is not None else None


def _left_out(arms: int) -> list[Block]:
    numbers = "wells.csv of their clusters and hits has the numbers."
    return [Paragraph(f"{counted(arms, 'further arm')} not among the choices; {numbers}")] if arms else []


_INTRODUCTION = (
    "One square per well. A row, column or edge that stands out in wells of different treatments comes from the plate, "
    "not from the treatments."
)


def _figure(job: Job, run: Run, wells: pd.DataFrame, layout: Layout, found: Sequence[Score]) -> list[Block]:
    """Return the figure of effect and number of cells, for print and where there is no JavaScript."""
    from cellssl.reporting.figures.plate_heatmaps import PlateMap, Shades, plate_heatmaps

    shown = [score for score in found if score.key in IN_FIGURE] or list(found[:1])
    names = list(dict.fromkeys(wells["plate"]))
    drawn = wells[wells["plate"].isin(names[:PLATES_DRAWN])]
    keys = [score.key for score in shown]
    plates = [
        PlateMap(
            str(name),
            of_plate["row"].to_numpy(int),
            of_plate["column"].to_numpy(int),
            of_plate["control"].to_numpy(bool),
            of_plate[keys].to_numpy(float, na_value=math.nan).T,
        )
        for name, of_plate in drawn.groupby("plate", sort=False)
    ]
    scales = {score.key: scale_of(_numbers(wells, score.key), score) for score in shown}
    shades = [Shades(one.name, (at := scales[one.key]).low, at.high, at.is_cut) for one in shown]
    figure = plate_heatmaps(plates, shades, layout.rows, layout.columns)
    more = len(names) - len(plates)
    left_out = f" {counted(more, 'further plate')} are shown by the page in a browser." if more > 0 else ""
    what = "; ".join(f"{score.name}: {score.explained}" for score in shown)
    cut = (
        " A scale that ends in a point shows higher values in its last colour." if any(s.is_cut for s in shades) else ""
    )
    caption = (
        f"“{run.arm}”, seed {run.seed}: one square per well; n = {len(drawn):,} wells. {what}. Every score has one "
        f"scale of colours over all plates; control wells are outlined, wells without a value hatched.{cut}{left_out}"
    )
    columns = ["plate", "well", "row", "column", "control", "treatment", *keys]
    return [write_figure(job, "plates.png", figure, caption, theme.drawing, drawn[columns])]


def _edge_table(run: Run, wells: pd.DataFrame, found: Sequence[Score]) -> list[Block]:
    """Return the means of control wells at the edge and of inner ones, for the scores of the figure."""
    rows: list[list[Value]] = [
        [plate, score.name, at_edge, n_edge, inner, n_inner]
        for score in found
        if score.key in IN_FIGURE
        for plate, (at_edge, n_edge, inner, n_inner) in edge_means(wells, score.key).items()
    ]
    if not rows:
        return []
    heads = ["plate", "score", "mean at the edge", "n at the edge", "mean of inner wells", "n of inner wells"]
    caption = f"“{run.arm}”, seed {run.seed}: control wells in the first and last rows and columns, and all others."
    return [Table(heads, rows[:ROWS_SHOWN], caption)]


def plate_data(
    arms: Sequence[Arm], wells: pd.DataFrame, layout: Layout, most_values: int = VALUES_SHOWN
) -> dict[str, Any]:
    """Return what the script draws, the first arms where there are too many; equal columns of values are there once."""
    names = list(dict.fromkeys(wells["treatment"]))
    columns: dict[tuple[float | None, ...], int] = {}
    shown: list[dict[str, Any]] = []
    for arm in arms:
        table = wells[["plate", "well"]].merge(arm.wells, on=["plate", "well"], how="left", validate="one_to_one")
        scores = [(score, _numbers(table, score.key)) for score in scores_of(table, arm.other)]
        drawn = [tuple(_short(value) for value in values) for _, values in scores]
        if shown and len({*columns, *drawn}) * len(wells) > most_values:
            break
        places = [columns.setdefault(values, len(columns)) for values in drawn]
        of_arm = [
            _score(score, scale_of(values, score), place) for (score, values), place in zip(scores, places, strict=True)
        ]
        shown.append({"name": arm.name, "scores": of_arm})
    return {
        "rows": layout.rows,
        "columns": layout.columns,
        "placedRows": layout.rows if layout.plate_wells is None else _format_rows(layout),
        "hasPositions": layout.plate_wells is not None,
        "atOnce": PLATES_DRAWN,
        "plates": list(dict.fromkeys(map(str, wells["plate"]))),
        "treatments": names,
        "wells": _well_rows(wells, names),
        "shades": _shades(),
        "arms": shown,
        "values": [list(values) for values in columns],
    }


def _format_rows(layout: Layout) -> int:
    from cellssl.profiling.well_positions import FORMATS

    return FORMATS[layout.plate_wells][0] if layout.plate_wells else layout.rows


def _score(score: Score, scale: Scale, place: int) -> dict[str, Any]:
    return {
        "key": score.key,
        "name": score.name,
        "kind": score.kind,
        "explained": score.explained,
        "low": _short(scale.low),
        "high": _short(scale.high),
        "isCut": scale.is_cut,
        "values": place,
    }


def _well_rows(wells: pd.DataFrame, treatments: Sequence[str]) -> list[list[Any]]:
    """Return for every well the index of its plate, its name, row, column, treatment, and control, edge and placed."""
    plates = {name: place for place, name in enumerate(dict.fromkeys(wells["plate"]))}
    places = {name: place for place, name in enumerate(treatments)}
    return [
        [
            plates[row["plate"]],
            str(row["well"]),
            int(row["row"]),
            int(row["column"]),
            places[row["treatment"]],
            int(row["control"]),
            int(row["edge"]),
            int(row["is_placed"]),
        ]
        for row in wells.to_dict("records")
    ]


def _shades() -> list[str]:
    """Return colours at equal steps of the colour map; the script draws those between them."""
    import matplotlib
    from matplotlib.colors import to_hex

    return [to_hex(colour) for colour in matplotlib.colormaps[theme.COLOUR_MAP](np.linspace(0, 1, SHADES))]


def _numbers(table: pd.DataFrame, key: str) -> np.ndarray:
    values: np.ndarray = table[key].to_numpy(float, na_value=math.nan)
    return values


def _short(value: float) -> float | None:
    """Return a number with four significant digits; None for what JSON lacks."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
