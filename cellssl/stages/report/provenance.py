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
    kinds = list(dict.fromkeys(kind for run in runs for kind in run.chain()))
    table: list[list[Value]] = []
    for run in runs:
        chain = run.chain()
        table.append([run.arm, run.seed, *(chain[kind].fingerprint if kind in chain else "–" for kind in kinds)])
    caption = (
        "Each artifact was made from those to its left. Its name is a fingerprint of its settings and inputs. cellssl "
        "verify checks its bytes; its artifact.json says when, where and with which versions it was made."
    )
    blocks: list[Block] = [Table(["arm", "seed", *kinds], table, caption), *_first_weights(runs)]
    for run in first_seeds(runs):
        text = "\n\n".join(_section_text(artifact) for artifact in run.chain().values())
        blocks.append(Details(f"All settings of “{run.arm}”", text))
    return [Section("Provenance", blocks)]


def _first_weights(runs: list[Run]) -> list[Block]:
    """Return the table of weights that came from elsewhere; nothing where all were drawn from the seed."""
    rows: list[list[Value]] = []
    for run in first_seeds(runs):
        found = pretrain_metrics(run.model).weights if run.model is not None else None
        if found is not None:
            licence = f"{found.licence} ({found.licence_source})" if found.licence_source else found.licence
            rows.append([run.arm, found.source, found.sha256 or "–", licence])
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
