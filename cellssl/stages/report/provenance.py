"""provenance: cards of all artifacts in, the section that says how each was made out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cellssl.artifacts.store import Artifact
from cellssl.reporting.html import Block, Details, Section, Table, Value
from cellssl.stages.report.runs import Run, first_seeds

if TYPE_CHECKING:
    pass


def provenance(runs: list[Run]) -> list[Section]:
    """Which artifacts the numbers come from, and the settings in full."""
    kinds = list(dict.fromkeys(kind for one in runs for kind in one.chain()))
    table: list[list[Value]] = []
    for one in runs:
        chain = one.chain()
        table.append([one.arm, one.seed, *(chain[kind].fingerprint if kind in chain else "–" for kind in kinds)])
    caption = (
        "Each artifact stands on those left of it, and is named by a fingerprint of its settings and inputs. cellssl "
        "verify checks its bytes; its artifact.json says when, where and with which versions it was made."
    )
    blocks: list[Block] = [Table(["arm", "seed", *kinds], table, caption)]
    for one in first_seeds(runs):
        text = "\n\n".join(_section_text(artifact) for artifact in one.chain().values())
        blocks.append(Details(f"All settings of “{one.arm}”", text))
    return [Section("Where it comes from", blocks)]


def _section_text(artifact: Artifact) -> str:
    """A section of the recipe as TOML would say it, a line a knob, tables of tables in dotted keys."""
    head = f"[{artifact.card.kind}]    # {artifact.fingerprint}, algorithm {artifact.card.algorithm}"
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in _knob_lines(artifact.card.section)]
    return "\n".join([head, *lines])


def _knob_lines(section: Mapping[str, Any], path: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict) and value:
            yield from _knob_lines(value, f"{path}{key}.")
        elif value is not None:
            yield f"{path}{key}", value
