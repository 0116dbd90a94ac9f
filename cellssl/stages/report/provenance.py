"""provenance: the artifacts of all runs in; the section with their fingerprints and settings out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from cellssl.artifacts.store import Artifact
from cellssl.reporting.html import Block, Details, Section, Table, Value
from cellssl.stages.report.runs import Run, first_seeds


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
    blocks: list[Block] = [Table(["arm", "seed", *kinds], table, caption)]
    for run in first_seeds(runs):
        text = "\n\n".join(_section_text(artifact) for artifact in run.chain().values())
        blocks.append(Details(f"All settings of “{run.arm}”", text))
    return [Section("Provenance", blocks)]


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
