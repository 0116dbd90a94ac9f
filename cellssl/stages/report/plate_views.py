"""plate_views: runs in; the section with a heat map per plate out."""

from __future__ import annotations

from cellssl.engine.build import Job
from cellssl.reporting.html import Section
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.runs import Run


def plate_section(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the section with a heat map per plate."""
    return []
