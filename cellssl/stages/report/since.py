"""since: runs of now and of an earlier page in; the section on what changed since then, and since.csv, out."""

from __future__ import annotations

from collections.abc import Sequence

from cellssl.engine.build import Job
from cellssl.reporting.html import Block, Bullets, Folded, Heading, Paragraph, Section, Table, Value
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.hit_sentences import leading_run
from cellssl.stages.report.runs import Run, collect_earlier, row_of, scored_assignments
from cellssl.stages.report.since_arms import ArmPair, MatchedArms, matched_arms
from cellssl.stages.report.since_data import DataChange
from cellssl.stages.report.since_scores import HEADER, ScoreChange, score_changes
from cellssl.stages.report.since_settings import (
    in_words,
    setting_blocks,
    setting_differences,
    version_blocks,
    version_differences,
)
from cellssl.stages.report.since_treatments import (
    all_compared,
    compared_treatments,
    treatment_blocks,
    treatment_sentences,
)
from cellssl.stages.report.sweep_results import SweepResults

ANCHOR = "since"
HEADLINE_SCORES = ("ami", "silhouette")
"""Scores of the sentence at the top: the first that is known then and now."""


def since_section(job: Job, runs: Sequence[Run], scores: ScoresByArm) -> list[Section]:
    """Return what changed since the results that the page was asked to compare with; nothing where there are none."""
    then = collect_earlier(job.inputs, job.context.store)
    if not then:
        return []
    described = job.card.section["since"]
    if "sweep" in described:
        then = SweepResults(described["sweep"], then).shown()
    arms = matched_arms(then, runs)
    blocks = _blocks(job, runs, scores, arms, since_words(described["named"]))
    return [Section("What changed since then", blocks, anchor=ANCHOR)]


def since_metrics(sections: Sequence[Section]) -> dict[str, str]:
    """Return what changed as a sentence for the card of the page, called "since"; nothing where nothing is compared."""
    of_since = (block for section in sections if section.anchor == ANCHOR for block in section.blocks)
    return next(({"since": block.text} for block in of_since if isinstance(block, Paragraph)), {})


def since_words(named: Sequence[str]) -> str:
    """Return what the earlier results are called: the fingerprints that the user named."""
    return named[0] if len(named) == 1 else f"{named[0]} and {len(named) - 1} more"


def _blocks(job: Job, runs: Sequence[Run], scores: ScoresByArm, arms: MatchedArms, since: str) -> list[Block]:
    if arms.is_the_same:
        return [Paragraph(f"Nothing changed since {since}: this page shows the very same results.")]
    if not arms.pairs:
        return [Paragraph(f"Nothing can be compared with {since}. {' '.join(_unpaired(arms))}")]
    leading = _leading(runs, scores, arms)
    changes = {pair.arm: score_changes(pair.arm, *_rows(pair, scores)) for pair in arms.pairs}
    with_hits = _with_hits(runs, scores, arms)
    treatments = compared_treatments(*with_hits.first) if with_hits else None
    data = DataChange.of(leading)
    settings, versions = setting_differences(arms.pairs), version_differences(arms.pairs)
    found = [change.sentence() for change in _headlines(changes[leading.arm])]
    found += treatment_sentences(treatments) if treatments is not None else []
    found += [data.sentence()]
    more = [in_words(settings, "setting"), in_words(versions, "version"), *_unpaired(arms)]
    bullets = [words for words in more if words]
    blocks: list[Block] = [Paragraph(f"Since {since}: {'; '.join(found)}."), *([Bullets(bullets)] if bullets else [])]
    blocks += [Heading("Scores, then and now"), *_score_tables(leading, changes), *_same_cells(arms.pairs)]
    if with_hits and treatments is not None:
        blocks += [Heading("Treatments, then and now"), *treatment_blocks(with_hits, treatments)]
        _write_treatments(job, arms)
    blocks += [Heading("Data, then and now"), data.block()]
    blocks += [Heading("Settings that differ"), *setting_blocks(settings, len(arms.pairs))]
    return [*blocks, Heading("Versions that differ"), *version_blocks(versions)]


def _leading(runs: Sequence[Run], scores: ScoresByArm, arms: MatchedArms) -> ArmPair:
    """Return the leading arm of now, or else the first arm that both pages have."""
    return next((pair for pair in arms.pairs if pair.arm == scores.leading), arms.pairs[0])


def _with_hits(runs: Sequence[Run], scores: ScoresByArm, arms: MatchedArms) -> ArmPair | None:
    """Return the arm whose treatments are compared: that of the section on treatments, or else the first with hits."""
    found = [pair for pair in arms.pairs if all(run.hits_artifact is not None for run in pair.first)]
    run = leading_run(runs, scores)
    return min(found, key=lambda pair: run is None or pair.arm != run.arm, default=None)


def _rows(pair: ArmPair, scores: ScoresByArm) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Return the scores of an arm then and now, one row per seed; those of now are computed already."""
    return [row_of(run) for run in pair.then], scores.rows_of(pair.arm)


def _headlines(changes: Sequence[ScoreChange]) -> list[ScoreChange]:
    """Return the change that the sentence at the top has, where there is one."""
    known = {change.score.name: change for change in changes if change.is_known}
    return [known[name] for name in HEADLINE_SCORES if name in known][:1]


def _score_tables(leading: ArmPair, changes: dict[str, list[ScoreChange]]) -> list[Block]:
    caption = (
        "Then and now: mean ± standard deviation over seeds. Difference: now minus then, over the seeds that both have "
        "(or of the two means, where they have none in common), with the 95 % interval of its mean by Student’s t. The "
        "difference of one seed does not show whether other seeds would differ likewise."
    )
    blocks: list[Block] = [Table(HEADER, [change.row() for change in changes[leading.arm]], caption)]
    others = [change.row() for arm, each in changes.items() if arm != leading.arm for change in each]
    return (
        [*blocks, Folded("Scores of all other arms, then and now", [Table(HEADER, others, caption)])]
        if others
        else blocks
    )


def _same_cells(pairs: Sequence[ArmPair]) -> list[Block]:
    """Return the agreement of the clusters of then and of now, for arms that cluster cells of one segmentation."""
    from cellssl.profiling.cluster_scores import agreement

    rows: list[list[Value]] = []
    for pair in pairs:
        then, now = pair.first
        if then.segment.fingerprint != now.segment.fingerprint or then.cluster.fingerprint == now.cluster.fingerprint:
            continue
        both = scored_assignments(then.cluster).merge(
            scored_assignments(now.cluster), on="cell_id", suffixes=("_then", "_now")
        )
        if len(both) > 1:
            names = both["cluster_then"].astype(str).tolist()
            rows.append([pair.arm, now.seed, agreement(names, both["cluster_now"].to_numpy())["ami"], len(both)])
    if not rows:
        return []
    caption = (
        "Agreement of the clusters of then with those of now, over the cells that both cluster: 1 is the same groups, "
        "0 is what chance gives. Numbers of clusters do not count."
    )
    return [Table(["arm", "seed", "AMI of clusters then and now", "cells"], rows, caption)]


def _unpaired(arms: MatchedArms) -> list[str]:
    """Return which arms only one of both has, and which arms have other names now."""
    renamed = [
        f"“{pair.then[0].arm}” of then is “{pair.arm}” now." for pair in arms.pairs if pair.then[0].arm != pair.arm
    ]
    only_now = [f"New arms, with nothing to compare: {', '.join(arms.only_now)}."] if arms.only_now else []
    only_then = [f"Arms of then that are not here: {', '.join(arms.only_then)}."] if arms.only_then else []
    return [*renamed, *only_now, *only_then]


def _write_treatments(job: Job, arms: MatchedArms) -> None:
    """Write since.csv, one row per arm, seed and treatment."""
    from cellssl.artifacts.tables import write_csv

    if (table := all_compared(arms.pairs)) is not None:
        write_csv(table, job.draft.file("since.csv"))
