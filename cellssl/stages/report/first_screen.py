"""first_screen: runs and their scores in; the picture of the answer, and typical changed cells beside it, out."""

from __future__ import annotations

from cellssl.engine.build import Job
from cellssl.reporting.html import Block
from cellssl.stages.report import answer_cells, answer_picture
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.hit_sentences import leading_run
from cellssl.stages.report.runs import Run


def pictures(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Block]:
    """Return the effect of every treatment and typical cells of the surest; without hits what the clusters hold."""
    run = leading_run(runs, scores)
    if run is not None and (found := answer_picture.picture_of_hits(job, run)):
        return [*found, *answer_cells.draw(job, run, answer_cells.strip_of_hits(run))]
    run = next(one for one in runs if one.arm == scores.leading)
    cells = answer_cells.clustered_cells(run)
    strip = answer_cells.strip_of_clusters(run, cells)
    return [*answer_picture.picture_of_clusters(job, run, cells), *answer_cells.draw(job, run, strip)]
