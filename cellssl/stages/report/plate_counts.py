"""plate_counts: a run in; the numbers of kept and dropped nuclei of every plate, and plates that lost most, out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellssl.counting import counted
from cellssl.stages.report.runs import Run
from cellssl.stages.segment.counts import IN_WORDS, read_counts_of_plates

CURES = {
    "edge": "look at the contact sheet, whether they are nuclei",
    "too_small": "lower segment.min_area_um2 (or min_area_px), or correct fetch.dataset.pixel_um",
    "too_large": "raise segment.max_area_um2 (or max_area_px), or correct fetch.dataset.pixel_um",
    "window_outside": 'use smaller windows, or segment.border = "reflect"',
    "ragged": "lower segment.quality.min_solidity",
    "saturated": "raise segment.quality.max_saturated",
    "blurred": "lower segment.quality.min_focus",
    "flagged_field": "see segment.quality.drop_fields, and field_flags in fields.parquet",
}
"""Reason -> what to do where most nuclei of a plate are dropped for it; `cells_per_well` does what was asked for."""
PLATES_NAMED = 3
"""Plates that lost most of their nuclei and are named in the checks."""


def counts_of_plates(run: Run) -> list[dict[str, Any]]:
    """Return the numbers of nuclei of every plate; none for crops of a data set, and for earlier versions."""
    table = read_counts_of_plates(run.segment) if "dropped.parquet" in run.segment.card.files else None
    return (
        [] if table is None else [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    )


def share_kept(counts: Mapping[str, int]) -> float:
    """Return the share of the nuclei of a plate that became cells."""
    return counts["kept"] / max(1, counts["detected"])


def mostly_dropped(run: Run) -> list[str]:
    """Return for every plate that lost more than half of its nuclei for one reason the numbers, and what decides it."""
    found = [
        f"plate {row['plate']}: {row[reason]:,} of {row['detected']:,} nuclei were dropped, {IN_WORDS[reason]}: {cure}"
        for row in counts_of_plates(run)
        for reason, cure in CURES.items()
        if 2 * row[reason] > row["detected"]
    ]
    more = len(found) - PLATES_NAMED
    return [*found[:PLATES_NAMED], *([f"so it is on {counted(more, 'further plate')}"] if more > 0 else [])]
