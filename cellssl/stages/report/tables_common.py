"""tables_common: values over seeds and intervals in, their text in the tables of the page out."""

from __future__ import annotations

from collections.abc import Iterable, Sized

from cellssl.reporting.seed_statistics import mean_sd, number
from cellssl.stages.report.runs import Run

PART_NAMES = {
    "knn": "kNN",
    "linear": "linear probe",
    "split": "train/test split",
    "leave_one_plate_out": "leave-one-plate-out",
    "leave_one_well_out": "leave-one-well-out",
    "nsc": "mechanism of the nearest treatment of another compound (NSC)",
    "nscb": "mechanism of the nearest treatment of another compound and batch (NSCB)",
    "map_replicates": "replicates of a well rank above controls (mAP)",
    "map_mechanism": "treatments of the same mechanism rank above others (mAP)",
    "profiles": "profiles of wells",
}
"""Part of an evaluation -> how tables name it."""
CELL_COUNT = "cell count"
"""The row of what the number of cells of a well finds alone."""
ROWS_SHOWN = 400
"""Largest number of rows of a table on the page; the artifact that it comes from has all rows."""


def by_arm(runs: list[Run]) -> dict[str, list[Run]]:
    """Return arm -> its runs."""
    grouped: dict[str, list[Run]] = {}
    for one in runs:
        grouped.setdefault(one.arm, []).append(one)
    return grouped


def mean_sd_text(values: Iterable[float | None]) -> str:
    """Return mean ± standard deviation of the values that are known."""
    return str(mean_sd(float("nan") if value is None else value for value in values))


def interval_text(bounds: tuple[float, float] | None) -> str:
    """Return "low to high", or a dash where the interval is not known."""
    return "–" if bounds is None else f"{number(bounds[0])} to {number(bounds[1])}"


def rows_note(rows: Sized, file: str = "evaluation.json") -> str:
    """Return a note that the table is cut, and where all rows are; nothing where it is not."""
    return f"The first {ROWS_SHOWN} of {len(rows):,} rows; {file} has all rows." if len(rows) > ROWS_SHOWN else ""
