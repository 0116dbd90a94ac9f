"""arm_tables: runs in; tables of what each arm is, and of the settings in which arms differ, out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from cellssl.artifacts.contents import section_of
from cellssl.reporting.html import Block, Folded, Section, Table, Value
from cellssl.stages.report.runs import Run, active_branches, first_seeds
from cellssl.stages.report.tables_common import PART_NAMES, by_arm
from cellssl.stages.shared.card_shapes import (
    ClusterSection,
    embed_blocks,
    embed_section,
    pretrain_metrics,
    pretrain_section,
)
from cellssl.stages.shared.fitted_link import FittedLink

LINKS = {
    "center_plate": "the controls of every plate at 0",
    "scale_pooled": "features scaled by the spread of controls over all plates",
    "robust_z": "features scaled by median and MAD of the controls of the plate",
    "percentile": "features scaled by the 1st and 99th percentile of the controls of the plate",
    "zscore": "every feature with mean 0 and standard deviation 1",
    "pca": "principal components",
    "pca_whiten": "principal components of equal variance",
    "sphering": "whitened by the controls of all plates",
    "tvn": "typical variation normalisation",
    "clip": "features limited to a range",
    "l2": "unit length",
}
"""What the links of `cluster.normalise` do to the vectors; `pca_whiten` is on cards of earlier versions."""


def arm_section(runs: list[Run]) -> list[Section]:
    """Return the section on what each arm is, and in which settings the arms differ."""
    seeds = {arm: ", ".join(str(run.seed) for run in arm_runs) for arm, arm_runs in by_arm(runs).items()}
    rows = [
        [run.arm, "baseline" if run.is_baseline else "trained", _describe(run), _clusters(run), seeds[run.arm]]
        for run in first_seeds(runs)
    ]
    blocks: list[Block] = [Table(["arm", "kind", "vector of a cell", "clusters", "seeds"], rows)]
    shown = first_seeds(runs)
    return [Section("Arms", [*blocks, *_fitted(shown), *_differences(shown)])]


def _clusters(run: Run) -> str:
    """Return how the vectors of a run were clustered."""
    found = run.clusters
    empty = f" ({found.filled} with cells)" if found.filled is not None else ""
    how = f"{found.method['name']}, k = {found.k}{empty}, {chain_words(found.normalise)}"
    return f"{how}, assigned to an earlier clustering" if section_of(run.cluster, ClusterSection).assign_to else how


def chain_words(links: Sequence[str]) -> str:
    """Return in words what a chain of normalisers does to the vectors."""
    if not links:
        return "vectors not normalised"
    return "vectors normalised: " + ", then ".join(LINKS.get(link, link) for link in links)


def _fitted(runs: list[Run]) -> list[Block]:
    """Return a table of who fitted the normalisation of each arm; cards of earlier versions do not say it."""
    rows: list[list[Value]] = [
        [run.arm, part, link.link, link.on, link.rows, link.plates, link.folds, link.split_by or "–"]
        for run in runs
        for part, links in _parts(run).items()
        for link in links
    ]
    header = ["arm", "for", "link", "fitted on", "cells", "plates", "folds", "folds of"]
    caption = (
        "With folds, a control is normalised by the controls of the other folds, and never by itself; other cells are "
        "spread over the folds alike. In cross-validation, the numbers are those of the first fold."
    )
    return [Folded("Which cells fitted the normalisation (first seed)", [Table(header, rows, caption)])] if rows else []


def _parts(run: Run) -> dict[str, tuple[FittedLink, ...]]:
    """Return what was computed from normalised vectors, and who fitted the chain for it."""
    evaluated = run.evaluation.fitted_by() if run.evaluation else {}
    return {"clusters": run.clusters.fitted_by, **{PART_NAMES[name]: links for name, links in evaluated.items()}}


def _differences(runs: list[Run]) -> list[Block]:
    """Return a table of the settings that are not the same in all arms that have them."""
    each_settings = [_settings(run) for run in runs]
    names = sorted({name for settings in each_settings for name in settings})
    differ = [name for name in names if len({each[name] for each in each_settings if name in each}) > 1]
    table = [[name, *(each.get(name, "–") for each in each_settings)] for name in differ]
    if not table:
        return []
    return [Folded("Settings in which the arms differ", [Table(["setting", *(run.arm for run in runs)], table)])]


def _settings(run: Run) -> dict[str, str]:
    """Return path -> value of every setting of a run, as text."""
    sections = {kind: one.card.section for kind, one in run.chain().items() if kind not in ("fetch", "evaluate")}
    return dict(_flat(sections))


def _flat(value: Any, path: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


MEASURED = {
    "intensities": "the mean of every channel",
    "features": "classical features (brightness, texture, area and shape of the nucleus)",
    "cellprofiler": "CellProfiler's measurements of the nucleus, or of nucleus, cell and cytoplasm",
    "neighbours": "how near and how close-packed the other nuclei of the field are",
}
"""What the models without a network take of a cell."""


def _describe(run: Run) -> str:
    """Return in words how an arm turns a cell into a vector."""
    if blocks := embed_blocks(run.embed):
        named = ", ".join(f"{one.name} ({one.dim:,} columns, weight {one.weight:g})" for one in blocks)
        return f"several models side by side: {named}"
    model = embed_section(run.embed).model
    if model in MEASURED:
        return f"{MEASURED[model]}; nothing is learned"
    if not run.trained:
        weights = {"random": "random weights, not trained", "imagenet": "weights learned on photographs (ImageNet)"}
        return f"{_network(run)}, {weights.get(model, 'weights from elsewhere, not trained on these cells')}"
    trained = run.trained[0].trained
    steps = pretrain_metrics(trained).steps
    branches = active_branches(trained)
    named = " + ".join(f"{branch.weight:g} × {name}" for name, branch in branches.items())
    return f"{_network(run)}, trained without labels for {steps:,} steps; loss = {named}"


def _network(run: Run) -> str:
    name = pretrain_section(run.model).encoder.name if run.model else "network"
    return f"network “{name}”"
