"""tables_common: runs and their rows of numbers in, the sections of the page that are tables out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cellssl.reporting.seed_statistics import MeanSd, mean_sd, number
from cellssl.stages.report.runs import Run

if TYPE_CHECKING:
    pass


WORDS = {
    "knn": "kNN",
    "linear": "linear probe",
    "split": "test part, told by the train part",
    "leave_one_plate_out": "each plate, told by the others",
    "leave_one_well_out": "each well, told by the others",
    "nsc": "NSC: the nearest treatment of another compound has the same mechanism",
    "nscb": "NSCB: as NSC, and of another batch",
    "map_replicates": "mAP: a well finds its replicates before controls",
    "map_mechanism": "mAP: a treatment finds its mechanism before others",
    "profiles": "profiles of wells",
}


ROWS_SHOWN = 400
"""Of longer tables the first rows are on the page, and all in the artifact that they come from."""


def by_arm(runs: list[Run]) -> dict[str, list[Run]]:
    grouped: dict[str, list[Run]] = {}
    for one in runs:
        grouped.setdefault(one.arm, []).append(one)
    return grouped


def seed_range(values: Iterable[float | None]) -> str:
    found: MeanSd = mean_sd(float("nan") if value is None else value for value in values)
    return str(found)


def interval_text(pair: list[float] | None) -> str:
    return "–" if pair is None or pair[0] is None else f"{number(pair[0])} to {number(pair[1])}"


def shortened(rows: Any, file: str = "evaluation.json") -> str:
    return f"The first {ROWS_SHOWN} of {len(rows):,} rows; {file} has all." if len(rows) > ROWS_SHOWN else ""
