"""cluster_rows: runs in; the section on clusters, one row each, out."""

from __future__ import annotations

from cellssl.engine.build import Job
from cellssl.reporting.html import Section
from cellssl.stages.report import figures
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.runs import Run


def cluster_section(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the section on clusters."""
    return figures.clusters(runs)
