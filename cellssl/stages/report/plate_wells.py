"""plate_wells: a run in; one row per well out, with its place on the plate, its treatment and every score of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from cellssl.artifacts.tables import explained, read_csv, read_fields
from cellssl.profiling.well_positions import FORMATS, well_positions
from cellssl.reporting.natural_sort import natural_key
from cellssl.stages.report.hit_tables import SPELLED_FLAGS, names_of
from cellssl.stages.report.runs import Run

if TYPE_CHECKING:
    import pandas as pd

DISTANCE, CELLS = "distance_from_controls", "n"
COUNTED = ("dose_micromolar", "n_fields", "n_fields_quarantined", "n_detected", "n", "n_drawn")
"""Columns of numbers of the table of wells of a clustering, besides shares and distances."""
OF_HITS = (DISTANCE, "average_precision", "cell_count_ratio")
"""Columns of the table of wells of hits that plates are coloured by."""
CONTROL_WELL = "control well"
"""What `hit_tables.compared_with` says where treated wells were compared with control wells."""
OF_FIELDS = {"field_focus": "focus", "field_background": "background"}
"""Columns of the field table whose mean over the fields of a well plates are coloured by."""
HIGHEST_QUANTILE = 0.98
"""Where the greatest effects are far above the others, the scale of colours ends here, so that others differ, too."""
FROM_LOWEST = ("n", "cell_count_ratio", "focus", "background")
"""Scores whose scale begins at the lowest value: from 0 on, a difference of a fifth at the edge would not be seen."""
Kind = Literal["number", "count", "share"]


@dataclass(frozen=True)
class Score:
    """What plates can be coloured by."""

    key: str
    """The column of `wells_of_run` that has it."""
    name: str
    kind: Kind
    explained: str


@dataclass(frozen=True)
class Scale:
    """The values of the darkest and of the lightest colour, for all plates alike."""

    low: float
    high: float
    is_cut: bool
    """Whether some values are above `high`; they have the last colour."""


@dataclass(frozen=True)
class Layout:
    """The rows and columns in which wells are drawn."""

    rows: int
    columns: int
    plate_wells: int | None
    """The format of the plate; None where no well has a position, so that wells stand in the order of their names."""


def wells_of_run(run: Run) -> pd.DataFrame:
    """Return plate, well, control, treatment and all known scores of the wells of a run; empty without wells."""
    import pandas as pd

    if "wells.csv" not in run.cluster.card.files:
        return pd.DataFrame({"plate": [], "well": []})
    path = run.cluster.file("wells.csv")
    shares = [*(f"share_of_cluster_{number}" for number in range(run.clusters.k)), "share_of_noise"]
    with explained(path):
        table = read_csv(path, [*COUNTED, *shares, DISTANCE])
        table = table.assign(
            control=_flags(table["control"]) if "control" in table else False,
            treatment=names_of(_with_content(table)) if _has_compounds(table) else "",
        )
        wells = table[["plate", "well", "control", "treatment"]].assign(**_counts(table))
        wells = wells.assign(**{name: table[name] for name in shares if name in table})
        wells = wells.assign(**{DISTANCE: table[DISTANCE]} if DISTANCE in table else {})
    return _with_fields(_with_hits(wells, run), run)


def _flags(column: pd.Series[str]) -> list[bool]:
    return [SPELLED_FLAGS[str(text)] for text in column]


def _has_compounds(table: pd.DataFrame) -> bool:
    return "compound" in table and bool(table["compound"].notna().any())


def _with_content(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with a dose; that of a solvent is 0, and left out of its name."""
    if "dose_micromolar" not in table:
        return table.assign(dose_micromolar=None)
    return table.assign(dose_micromolar=table["dose_micromolar"].where(table["dose_micromolar"] != 0))


def _counts(table: pd.DataFrame) -> dict[str, pd.Series[float]]:
    """Return the number of cells, and the shares of nuclei and fields that were lost, as far as they are known."""
    found = {"n": table["n"]} if "n" in table else {}
    if "n" in table and "n_detected" in table and (table["n_detected"] > table["n"]).any():
        found["dropped"] = 1 - table["n"] / table["n_detected"].where(table["n_detected"] > 0)
    if "n_fields_quarantined" in table and table["n_fields_quarantined"].any():
        found["quarantined"] = table["n_fields_quarantined"] / table["n_fields"]
    return found


def _with_hits(wells: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Return the wells with the scores of the search for hits, whose distances count in those between controls."""
    if run.hits_artifact is None or "wells.csv" not in run.hits_artifact.card.files:
        return wells
    path = run.hits_artifact.file("wells.csv")
    with explained(path):
        table = read_csv(path, OF_HITS)
        known = ["plate", "well", *(name for name in OF_HITS if name in table)]
        kept = wells.drop(columns=[DISTANCE] if DISTANCE in table and DISTANCE in wells else [])
        return kept.merge(table[known], on=["plate", "well"], how="left", validate="one_to_one")


def _with_fields(wells: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Return the wells with the mean quality of their fields, where the fields were segmented."""
    fields = read_fields(run.segment)
    known = {name: ours for name, ours in OF_FIELDS.items() if name in fields and fields[name].notna().any()}
    if not known:
        return wells
    means = fields.groupby(["plate", "well"])[list(known)].mean().rename(columns=known).reset_index()
    means = means.astype({"plate": "string", "well": "string"})
    return wells.merge(means, on=["plate", "well"], how="left", validate="one_to_one")


def scores_of(wells: pd.DataFrame, other: str | None) -> list[Score]:
    """Return what the wells can be coloured by, the most useful scores first.

    `other` is what a search for hits compared wells with ("control well"); None where there was none.
    """
    all_scores = [
        Score(DISTANCE, "distance from controls", "number", _unit(wells, other)),
        Score(CELLS, "cells per well", "count", "cells that segmentation kept"),
        Score("average_precision", "average precision", "number", f"1 where replicates are nearer than all {other}s"),
        Score(
            "cell_count_ratio",
            "relative cell count",
            "number",
            f"cells per well, divided by those of {other}s of the plate",
        ),
        *(
            Score(name, name.replace("share_of_", "share of ").replace("_", " "), "share", "of the cells drawn")
            for name in wells.columns
            if str(name).startswith("share_of_")
        ),
        Score("dropped", "share of nuclei dropped", "share", "of the nuclei that were found"),
        Score("quarantined", "share of fields not used", "share", "of the fields of the well"),
        Score("focus", "focus", "number", "mean over fields; higher is sharper"),
        Score("background", "background", "number", "mean over fields"),
    ]
    return [one for one in all_scores if one.key in wells and wells[one.key].notna().any()]


def _unit(wells: pd.DataFrame, other: str | None) -> str:
    """Return what a distance of 1 means: without two control wells on any plate, none of them has a distance."""
    if other is None:
        return "of the mean profile of a well from that of the control wells, in units of the spread of their cells"
    if other == CONTROL_WELL and DISTANCE in wells and not wells[DISTANCE][wells["control"]].notna().any():
        return "no plate has two control wells, so 1 is as far as the median of all wells and distances rank wells only"
    return f"1 is as far as a typical {other} lies from the others"


def scale_of(values: np.ndarray, score: Score) -> Scale:
    """Return the scale of the colours of a score over all plates."""
    known = values[np.isfinite(values)]
    lowest = float(known.min())
    low = lowest if score.key in FROM_LOWEST else min(0.0, lowest)
    high = float(known.max())
    if score.key == DISTANCE:
        quantile = float(np.quantile(known, HIGHEST_QUANTILE))
        if high > 1.5 * quantile > low:
            return Scale(low, quantile, True)
    return Scale(low, high if high > low else low + 1.0, False)


def placed(wells: pd.DataFrame) -> tuple[pd.DataFrame, Layout]:
    """Return the wells with the row and column where they are drawn, from 1, whether that is known, and the edge.

    Wells whose names say no position, or one that another well of the plate has, stand below the plate.
    """
    order = sorted(
        range(len(wells)), key=lambda row: (natural_key(wells["plate"].iloc[row]), natural_key(wells["well"].iloc[row]))
    )
    wells = wells.iloc[order].reset_index(drop=True)
    found = well_positions([str(name) for name in wells["well"]])
    wells = wells.assign(row=found.row, column=found.column, edge=found.edge, is_placed=found.known)
    wells["is_placed"] &= ~wells.duplicated(["plate", "row", "column"])
    if found.plate_wells is None:
        columns = math.ceil(math.sqrt(wells.groupby("plate").size().max()))
        rows = 0
    else:
        rows, columns = FORMATS[found.plate_wells]
    below = wells[~wells["is_placed"]].groupby("plate").cumcount()
    wells.loc[below.index, "row"] = rows + 1 + below // columns
    wells.loc[below.index, "column"] = 1 + below % columns
    wells = wells.assign(edge=wells["edge"] & wells["is_placed"]).astype({"row": int, "column": int})
    wells = wells.sort_values(["row", "column"], kind="stable")
    plates = {name: place for place, name in enumerate(sorted(wells["plate"].unique(), key=natural_key))}
    wells = wells.sort_values("plate", key=lambda names: names.map(plates), kind="stable", ignore_index=True)
    return wells, Layout(max(rows, int(wells["row"].max())), columns, found.plate_wells)


def edge_means(wells: pd.DataFrame, key: str) -> dict[str, tuple[float, int, float, int]]:
    """Return plate -> mean and number of the control wells at the edge, and of the inner ones, where it has both."""
    known = wells[wells["control"] & wells["is_placed"] & wells[key].notna()]
    found = {}
    for plate, of_plate in known.groupby("plate", sort=False):
        at_edge, inner = of_plate[key][of_plate["edge"]], of_plate[key][~of_plate["edge"]]
        if len(at_edge) and len(inner):
            found[str(plate)] = (float(at_edge.mean()), len(at_edge), float(inner.mean()), len(inner))
    return found
