"""plate_counts: a run in; the numbers of kept and dropped nuclei of every plate, and plates that lost most, out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cellssl.artifacts.contents import section_of
from cellssl.artifacts.tables import read_fields
from cellssl.counting import counted
from cellssl.stages.report.runs import Run
from cellssl.stages.segment.counts import IN_WORDS, limit_and_cure, read_counts_of_plates, reason_of_most
from cellssl.stages.segment.settings import Settings
from cellssl.stages.shared.card_shapes import LimitsSection

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
    counts = counts_of_plates(run)
    lost = [(row, reason) for row in counts if (reason := reason_of_most(row)) is not None]
    more = len(lost) - PLATES_NAMED
    further = [f"so it is on {counted(more, 'further plate')}"] if more > 0 else []
    return [*_lost_in_words(run, lost[:PLATES_NAMED]), *further] if lost else []


def _lost_in_words(run: Run, lost: Sequence[tuple[Mapping[str, Any], str]]) -> Iterator[str]:
    """Yield a sentence with the limit that dropped most nuclei of a plate, the one that its log names."""
    section = section_of(run.segment, LimitsSection)
    settings = Settings(**section.model_dump())
    sizes_um = read_fields(run.segment).groupby("plate")["pixel_um"].median()
    for row, reason in lost:
        of = f"{row[reason]:,} of {row['detected']:,} nuclei were dropped, {IN_WORDS[reason]}"
        cure = limit_and_cure(reason, settings, float(sizes_um.get(row["plate"], float("nan"))))
        yield f"plate {row['plate']}: {of}: {cure}"
