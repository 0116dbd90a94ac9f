"""cell_map: runs in; the section with the map of cells out."""

from __future__ import annotations

from cellssl.engine.build import Job
from cellssl.reporting.html import Section
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.runs import Run


def map_section(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the section with the map of cells."""
    return []
