"""provenance: the artifacts of all runs in; the section with their fingerprints and settings out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from cellssl.artifacts.store import Artifact
from cellssl.reporting.html import Block, Details, Section, Table, Value
from cellssl.stages.report.runs import Run, first_seeds
from cellssl.stages.shared.card_shapes import pretrain_metrics


def provenance(runs: list[Run]) -> list[Section]:
    """Return the section on which artifacts the numbers come from, with all settings."""
    chains = [(name, run.seed, chain) for run in runs for name, chain in _chains(run).items()]
    kinds = list(dict.fromkeys(kind for _, _, chain in chains for kind in chain))
    table: list[list[Value]] = [
        [name, seed, *(chain[kind].fingerprint if kind in chain else "–" for kind in kinds)]
        for name, seed, chain in chains
    ]
    caption = (
        "The results (artifacts) that the numbers of this page come from, one row per arm and seed, one column per "
        "stage. Each was made from those to its left. Its name, twelve letters and digits, is a fingerprint of its "
        "settings and inputs: the same name is the same result. cellssl verify checks its bytes; its artifact.json "
        "says when, where and with which versions it was made."
    )
    blocks: list[Block] = [Table(["arm", "seed", *kinds], table, caption), *_first_weights(runs)]
    for run in first_seeds(runs):
        for name, chain in _chains(run).items():
            text = "\n\n".join(_section_text(artifact) for artifact in chain.values())
            blocks.append(Details(f"All settings of “{name}”", text))
    return [Section("Provenance", blocks, anchor="provenance", is_appendix=True)]


def _chains(run: Run) -> dict[str, dict[str, Artifact]]:
    """Return the artifacts that a run depends on, then those that each of its blocks does: ARM, BLOCK."""
    return {run.arm: run.chain()} | {f"{run.arm}, {part.block}": part.chain() for part in run.blocks}


def _first_weights(runs: list[Run]) -> list[Block]:
    """Return the table of weights that came from elsewhere; nothing where all were drawn from the seed."""
    rows: list[list[Value]] = []
    models = {
        name: chain["pretrain"]
        for run in first_seeds(runs)
        for name, chain in _chains(run).items()
        if "pretrain" in chain
    }
    for name, model in models.items():
        if (found := pretrain_metrics(model).weights) is not None:
            licence = f"{found.licence} ({found.licence_source})" if found.licence_source else found.licence
            rows.append([name, found.source, found.sha256 or "–", licence])
    if not rows:
        return []
    caption = (
        "Weights of these networks that were not drawn from the seed: where they came from, the sha256 of their file, "
        "and their licence. It also binds whoever gets a model or vectors made with them, where it says so."
    )
    return [Table(["arm", "first weights", "sha256", "licence"], rows, caption)]


def _section_text(artifact: Artifact) -> str:
    """Return a section of the recipe as TOML, one line per setting, nested tables as dotted keys."""
    head = f"[{artifact.card.kind}]    # {artifact.fingerprint}, algorithm {artifact.card.algorithm}"
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in _setting_lines(artifact.card.section)]
    return "\n".join([head, *lines])


def _setting_lines(section: Mapping[str, Any], path: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict) and value:
            yield from _setting_lines(value, f"{path}{key}.")
        elif value is not None:
            yield f"{path}{key}", value
