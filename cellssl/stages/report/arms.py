"""arms: runs and their scores in; the section on arms, one row each, out."""

from __future__ import annotations

from cellssl.engine.build import Job
from cellssl.reporting.html import Section
from cellssl.stages.report import figures
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.arm_tables import arm_section
from cellssl.stages.report.runs import Run
from cellssl.stages.report.score_tables import agreement_tables, result_blocks


def arms_section(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the scores and the arms."""
    first, *others = result_blocks(scores, job.settings.paper_ami)
    blocks = [first, *figures.ami_bars(job, scores), *others, *agreement_tables(runs)]
    return [Section("Results", blocks, anchor="arms"), *arm_section(runs)]
