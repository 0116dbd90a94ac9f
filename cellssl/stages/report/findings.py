"""findings: runs and their scores in; the answer at the top of the page, and what was done to find it, out."""

from __future__ import annotations

from collections.abc import Sequence

from cellssl.artifacts.contents import metrics_of, section_of
from cellssl.artifacts.tables import read_fields
from cellssl.counting import counted
from cellssl.reporting import seed_statistics
from cellssl.reporting.seed_statistics import number
from cellssl.stages.fetch.sample import first_look
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.check import Check, in_short
from cellssl.stages.report.hit_sentences import treatments_in_short
from cellssl.stages.report.label_free_checks import collapses
from cellssl.stages.report.learned_labels_check import arms_with_labels, learned_by
from cellssl.stages.report.runs import Run, has_treatments, part_of, scored_assignments
from cellssl.stages.shared.card_shapes import (
    FetchMetrics,
    FetchSection,
    SplitSection,
    segment_metrics,
)

PARTS = {"test": "that were kept for testing", "train": "of training", "val": "that were kept for tuning"}
SENTENCES_OF_SWEEP = 3
"""Sentences of a sweep at the top of the page; its section has all."""


def answer(runs: list[Run], scores: ScoresByArm, checked: Sequence[Check], of_sweep: Sequence[str] = ()) -> list[str]:
    """Return the answer, and how sure it is, for the top of the page; warnings that come before any answer first."""
    warnings = [*_no_result(runs), *collapses([run for run in runs if run.arm == scores.leading], scores)]
    found = list(of_sweep[:SENTENCES_OF_SWEEP]) or [_of_hits_or_clusters(runs, scores)]
    return [*warnings, *found, in_short(checked)]


def _of_hits_or_clusters(runs: list[Run], scores: ScoresByArm) -> str:
    """Return the answer where treatments were searched for; else what the clusters of the leading arm agree with."""
    if sentence := treatments_in_short(runs, scores):
        return sentence
    run = next(one for one in runs if one.arm == scores.leading)
    if scores.has_labels and scores.over_seeds(run.arm)["ami"].n:
        return _separation(run, scores, run.arm)
    sizes = scored_assignments(run.cluster)["cluster"].value_counts().sort_index()
    sizes = sizes[sizes.index >= 0]
    what = f"{run.clusters.cells:,} {'cells' if has_treatments(run) else 'images'}"
    if sizes.empty:
        return f"With “{run.arm}” no group stands out among {what}."
    spread = f"of {sizes.min():,} to {sizes.max():,}" if len(sizes) > 1 else f"of {sizes.iloc[0]:,}"
    judge = (
        "the picture shows which treatments they hold" if has_treatments(run) else "what they mean the eye must judge"
    )
    return (
        f"With “{run.arm}”, {what} fall into {counted(len(sizes), 'cluster')} {spread}; no cell has a label to compare "
        f"them with: {judge}."
    )


def of_clusters(runs: list[Run], scores: ScoresByArm) -> list[str]:
    """Return how well the clusters of the leading arm agree with the label, and how they compare with the baselines."""
    if not scores.has_labels:
        return ["No cell is labelled, so how well clusters agree with a label is not known."]
    found = f"{_separation(runs[0], scores, scores.leading)} {HOW_TO_READ}"
    return [found, " ".join([_baselines(scores), *_upper_bound(scores)])]


HOW_TO_READ = (
    "AMI (adjusted mutual information) is the agreement of clusters with a label: 0 chance, 1 full; ± standard "
    "deviation over seeds."
)


def what_was_done(runs: list[Run], scores: ScoresByArm) -> list[str]:
    """Return which cells were compared, and how, in a few paragraphs."""
    others = collapses([run for run in runs if run.arm != scores.leading], scores)
    return [_data(runs[0]), _question(runs, scores), *arms_with_labels(runs), *others]


def first_looks(runs: list[Run]) -> list[str]:
    """Return in words which samples of fields the runs stand on; nothing where all fields were taken."""
    fetched = {run.fetch.fingerprint: metrics_of(run.fetch, FetchMetrics) for run in runs if run.fetch is not None}
    looks = [first_look(one.planned, one.sampled_of) for one in fetched.values() if one.sampled_of is not None]
    return list(dict.fromkeys(looks))


def _no_result(runs: list[Run]) -> list[str]:
    """Return that the page shows a sample of the fields, and no result."""
    looks = first_looks(runs)
    if not looks:
        return []
    return [
        f"This is {'; '.join(looks)} (fetch.sample), and no result: it shows whether images, nuclei and settings are "
        "as they should be. Leave fetch.sample out to use all fields."
    ]


def _data(run: Run) -> str:
    """Return which cells, plates, wells and compounds there are."""
    fields = read_fields(run.segment)
    treated = fields[~fields["control"].astype(bool)]
    dataset = section_of(run.fetch, FetchSection).dataset.name if run.fetch else "unknown"
    kept = segment_metrics(run.segment).kept
    if not has_treatments(run) and "dropped.parquet" not in run.segment.card.files:
        return f"{kept:,} images of the data set “{dataset}”; no compound is known."
    kind = "Simulated cells" if dataset == "simulated" else f"Cells of the data set “{dataset}”"
    wells = fields[["plate", "well"]].drop_duplicates()
    where = f"{counted(fields['plate'].nunique(), 'plate')}, {counted(len(wells), 'well')}"
    if not has_treatments(run):
        n_fields = counted(len(fields), "field")
        return f"{kind}: {where}, {n_fields} of view, {counted(kept, 'cell')}; no compound is known."
    compounds = sorted(treated["compound"].dropna().astype(str).unique())
    doses = treated["dose_micromolar"].dropna().nunique()
    listed = f"{len(compounds)} compounds" if len(compounds) > 4 else ", ".join(compounds) or "no known compound"
    at = f" at {doses} doses" if doses > 1 else ""
    controls = fields[fields["control"].astype(bool)][["plate", "well"]].drop_duplicates()
    return f"{kind}: {where} ({_of_them(len(controls))}), {counted(len(fields), 'field')} of view; {listed}{at}."


def _of_them(controls: int) -> str:
    return "1 of them an untreated control" if controls == 1 else f"{controls} of them untreated controls"


def _question(runs: list[Run], scores: ScoresByArm) -> str:
    """Return what was done with the cells, and how to read the numbers."""
    run = runs[0]
    section = section_of(run.split, SplitSection) if run.split else SplitSection()
    label = ""
    if section.treated:
        doses = section.treated.doses
        which = "all doses" if doses == "all" else f"doses: {doses}"
        label = f" A cell counts as treated if its well got {', '.join(section.treated.compounds)} ({which})."
    elif section.classes:
        label = f" The label of a cell is its “{section.classes}”, one of {scores.number_of_classes}."
    ks = sorted({(row["k"], min(row["k"], row["clusters_filled"])) for row in scores.rows})
    numbers = " or ".join(str(filled) for _, filled in ks) + " clusters"
    if asked := sorted({k for k, filled in ks if filled < k}):
        numbers += f" ({' or '.join(map(str, asked))} were asked for; the others are empty)"
    arms, seeds = len({one.arm for one in runs}), len({one.seed for one in runs})
    without = "" if any(map(learned_by, runs)) else " without using any label"
    part = part_of(run)
    where = (
        f"the {run.clusters.cells:,} cells {PARTS.get(part, f'of the part “{part}”')}" if part != "all" else "all cells"
    )
    return (
        f"{counted(arms, 'arm')}, {counted(seeds, 'seed')} each. Every arm (one way to describe a cell) turns a cell "
        f"into a list of numbers, its vector{without}. "
        f"Then {where} are grouped into {numbers}, and the clusters are compared with what is known about the "
        f"cells.{label}"
    )


def _separation(run: Run, scores: ScoresByArm, arm: str) -> str:
    over_seeds = scores.over_seeds(arm)
    nuisances = {name: over_seeds[f"ami_{name}"] for name in ("plate", "density") if f"ami_{name}" in over_seeds}
    column = section_of(run.split, SplitSection).classes if run.split else None
    what = f"the {scores.number_of_classes} classes of “{column}”" if column else "treated and untreated cells"
    what = f"with “{arm}”, {what}"
    return seed_statistics.separation(
        what, over_seeds["ami"], over_seeds["shuffled"], nuisances, shuffled_sd=scores.shuffled_sd(arm)
    )


def _baselines(scores: ScoresByArm) -> str:
    baselines = [arm for arm in scores.baselines if scores.over_seeds(arm)["ami"].n]
    comparison = seed_statistics.best_against_baselines(scores.rows, baselines, "ami")
    if not baselines:
        return f"{comparison} So it is not known whether training helped at all."
    listed = ", ".join(f"{arm} {scores.over_seeds(arm)['ami']}" for arm in baselines)
    return f"Baselines, which learn nothing: {listed}. {comparison}"


def _upper_bound(scores: ScoresByArm) -> list[str]:
    bounds = [row["ceiling"] for row in scores.rows if row["ceiling"] is not None]
    bound = number(seed_statistics.mean_sd(bounds).mean)
    if not bounds or bound == "1.00":
        return []
    return [
        f"Upper bound of the AMI given the labels: {bound}, because many treated cells of this simulation look "
        "untreated."
    ]
