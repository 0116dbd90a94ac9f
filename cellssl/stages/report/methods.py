"""methods: runs in; a paragraph on methods that can be pasted into a paper out."""

from __future__ import annotations

from cellssl.engine.build import Job
from cellssl.reporting.html import Section
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.runs import Run


def methods_section(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the section with the paragraph on methods."""
    return []
