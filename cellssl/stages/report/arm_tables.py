"""arm_tables: runs in; tables of what each arm is, and of which cells fitted its normalisation, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cellssl.artifacts.contents import section_of
from cellssl.reporting.html import Block, Folded, Paragraph, Rich, Table, Value
from cellssl.stages.report.arm_differences import differences_in_words
from cellssl.stages.report.runs import Run, active_branches, first_seeds
from cellssl.stages.report.tables_common import PART_NAMES, by_arm
from cellssl.stages.report.vector_words import LINKS, MEASURED, chain_words
from cellssl.stages.report.view_strips import DRAWS, ViewStrips
from cellssl.stages.shared.card_shapes import (
    ClusterSection,
    embed_blocks,
    embed_section,
    pretrain_metrics,
    pretrain_section,
)
from cellssl.stages.shared.fitted_link import FittedLink

DIFFERS = "differs in"
"""Head of the column that keeps arms apart which would else read the same."""


def arm_blocks(runs: list[Run], strips: ViewStrips) -> list[Block]:
    """Return what each trained arm is, what each baseline is, and how their vectors were clustered."""
    seeds = {arm: ", ".join(str(run.seed) for run in arm_runs) for arm, arm_runs in by_arm(runs).items()}
    shown = first_seeds(runs)
    trained = [run for run in shown if not run.is_baseline]
    baselines = [run for run in shown if run.is_baseline]
    blocks: list[Block] = []
    if trained:
        blocks.append(_trained_table(trained, strips, seeds))
    if baselines:
        rows = [[run.arm, _describe(run), difference, seeds[run.arm]] for run, difference in _described(baselines)]
        caption = "Baselines: they learn nothing from these cells."
        blocks.append(_without_empty(["baseline", "vector of a cell", DIFFERS, "seeds"], rows, caption))
    return [*blocks, *_clusterings(shown)]


def _trained_table(runs: list[Run], strips: ViewStrips, seeds: Mapping[str, str]) -> Table:
    """Return one row per trained arm: its views, what it minimises, its network, and how long it was trained."""
    strip_of = {run.arm: strips.of(run) for run in runs}
    rows: list[list[Value | Rich]] = [
        [run.arm, strip_of[run.arm], *_training(run), difference, seeds[run.arm]]
        for run, difference in _described(runs)
    ]
    header = ["arm", "views", "loss", "encoder", "epochs", "steps", DIFFERS, "seeds"]
    caption = (
        f"Trained arms. Views: one cell as it is, and under {DRAWS} random views of each branch; the network learns to "
        "give them the same vector. Cell and random numbers are the same in all rows. Loss: weight × objective "
        "(branch)."
    )
    if any(difference for _, difference in _described(runs)):
        caption += (
            f" “{DIFFERS}”: settings in which arms that read the same are not; arrows go from the first to this one."
        )
    return _without_empty(header, rows, caption)


def _described(runs: list[Run]) -> list[tuple[Run, str]]:
    """Return every run with the settings in which it differs from runs that would read the same."""
    reads = [_describe(run) if run.is_baseline else _training(run) for run in runs]
    return list(zip(runs, differences_in_words(runs, reads), strict=True))


def _training(run: Run) -> list[Value]:
    """Return loss, encoder, epochs and steps of an arm; of blocks with learned models, each by its name."""
    if not run.trained:
        return [_describe(run), None, None, None]
    losses, encoders, epochs, steps = [], [], [], []
    for part in run.trained:
        branches = active_branches(part.trained)
        of_part = " + ".join(
            f"{branch.weight:g} × {branch.objective.get('name', 'loss')} ({part.named(name)})"
            for name, branch in branches.items()
        )
        losses.append(of_part)
        encoders.append(pretrain_section(part.trained).encoder.name)
        epochs.append(f"{pretrain_section(part.trained).epochs:g}")
        steps.append(f"{pretrain_metrics(part.trained).steps:,}")
    blocks = f"joins {_block_words(run)}; " if run.blocks else ""
    each = (", ".join(dict.fromkeys(values)) for values in (encoders, epochs, steps))
    return [blocks + "; ".join(losses), *each]


def _clusterings(runs: list[Run]) -> list[Block]:
    """Return how the vectors were clustered: a sentence where all arms are alike, else a table."""
    words = {run.arm: _clusters(run) for run in runs}
    if len(set(words.values())) == 1:
        return [Paragraph(f"Clusters{' of all arms' * (len(runs) > 1)}: {next(iter(words.values()))}.")]
    arms_of: dict[str, list[str]] = {}
    for arm, text in words.items():
        arms_of.setdefault(text, []).append(arm)
    table = Table(["arms", "clusters"], [[", ".join(arms), text] for text, arms in arms_of.items()])
    return [Folded("How vectors were clustered, which is not the same in all arms", [table])]


def _without_empty(header: Sequence[str], rows: Sequence[Sequence[Value | Rich]], caption: str) -> Table:
    """Return a table without the columns in which no row has anything."""
    used = [place for place in range(len(header)) if any(row[place] not in ("", None) for row in rows)]
    return Table([header[place] for place in used], [[row[place] for place in used] for row in rows], caption)


def _clusters(run: Run) -> str:
    """Return how the vectors of a run were clustered."""
    found = run.clusters
    empty = f" ({found.filled} with cells)" if found.filled is not None else ""
    how = f"{found.method['name']}, k = {found.k}{empty}, {chain_words(found.normalise)}"
    return f"{how}, assigned to an earlier clustering" if section_of(run.cluster, ClusterSection).assign_to else how


def fitted_table(runs: list[Run]) -> list[Block]:
    """Return a table of who fitted the normalisation of each arm; cards of earlier versions do not say it."""
    rows: list[list[Value]] = [
        [
            run.arm,
            part,
            LINKS.get(link.link, link.link),
            link.on,
            link.rows,
            link.plates,
            link.folds,
            link.split_by or "–",
        ]
        for run in runs
        for part, links in _parts(run).items()
        for link in links
    ]
    header = ["arm", "used for", "step", "fitted on", "cells", "plates", "folds", "folds split by"]
    caption = (
        "With folds, a control is normalised by the controls of the other folds, and never by itself; other cells are "
        "spread over the folds alike. In cross-validation, the numbers are those of the first fold."
    )
    return [Folded("Which cells fitted the normalisation (first seed)", [Table(header, rows, caption)])] if rows else []


def _parts(run: Run) -> dict[str, tuple[FittedLink, ...]]:
    """Return what was computed from normalised vectors, and who fitted the chain for it."""
    evaluated = run.evaluation.fitted_by() if run.evaluation else {}
    return {"clusters": run.clusters.fitted_by, **{PART_NAMES[name]: links for name, links in evaluated.items()}}


def _describe(run: Run) -> str:
    """Return in words how an arm without training turns a cell into a vector."""
    if run.blocks or embed_blocks(run.embed):
        return f"joins what several models measure: {_block_words(run)}"
    model = embed_section(run.embed).model
    if model in MEASURED:
        return MEASURED[model]
    weights = {"random": "random weights, not trained", "imagenet": "weights learned on photographs (ImageNet)"}
    return f"{_network(run)}, {weights.get(model, 'weights from elsewhere, not trained on these cells')}"


def _block_words(run: Run) -> str:
    blocks = embed_blocks(run.embed)
    weights = [f", weight {one.weight:g}" if len({each.weight for each in blocks}) > 1 else "" for one in blocks]
    return ", ".join(f"{one.name} ({one.dim:,} numbers{weight})" for one, weight in zip(blocks, weights, strict=True))


def _network(run: Run) -> str:
    name = pretrain_section(run.model).encoder.name if run.model else "network"
    return f"network “{name}”"
