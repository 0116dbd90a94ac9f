"""arms: runs and their scores in; the section that compares the arms: what each is, its scores, its neighbours, out."""

from __future__ import annotations

from cellssl.engine.build import Job
from cellssl.reporting.html import Block, Folded, Section
from cellssl.stages.report import figures
from cellssl.stages.report.arm_differences import difference_table
from cellssl.stages.report.arm_neighbours import neighbour_blocks
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.arm_tables import arm_blocks, fitted_table
from cellssl.stages.report.hit_arms import found_by_cell_count, replicates_table
from cellssl.stages.report.hit_sentences import leading_run
from cellssl.stages.report.paired_differences import paired_blocks
from cellssl.stages.report.runs import Run, first_seeds
from cellssl.stages.report.score_tables import agreement_tables, paper_table, run_table, score_blocks
from cellssl.stages.report.view_strips import ViewStrips


def arms_section(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return what each arm is, how it scores, how the arms differ, and which cells each takes for alike."""
    shown = first_seeds(runs)
    with_hits = leading_run(runs, scores)
    blocks: list[Block] = [
        *arm_blocks(runs, ViewStrips(job.context.store)),
        *score_blocks(scores, found_by_cell_count(with_hits.hits if with_hits else None)),
        *([paper_table(scores, job.settings.paper_ami)] if job.settings.paper_ami else []),
        *paired_blocks(job, runs, scores),
        *neighbour_blocks(job, shown, scores),
        *_bars(job, scores),
        *replicates_table(runs, scores, with_hits),
        *agreement_tables(runs),
        run_table(scores),
        *difference_table(shown),
        *fitted_table(shown),
    ]
    return [Section("The arms compared", blocks, anchor="arms")]


def _bars(job: Job, scores: ScoresByArm) -> list[Block]:
    """Return the AMI of every seed as bars, folded; the table of scores says as much of a single seed."""
    if all(len(scores.rows_of(arm)) == 1 for arm in scores.arms):
        return []
    return [Folded("AMI of every seed, as bars", found)] if (found := figures.ami_bars(job, scores)) else []
