"""cell_counts: the artifacts of a run in, tables of how many cells each stage kept out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellssl.reporting.html import Block, Folded, Table
from cellssl.stages.report.runs import Run, part_of
from cellssl.stages.segment.selection import ALL_REASONS

if TYPE_CHECKING:
    pass


def counts(run: Run) -> list[Block]:
    """Fields, nuclei and cells from stage to stage; each line says whether it adds up."""
    found = run.segment.card.metrics
    reasons = {name: found[name] for name in ALL_REASONS if name in found}
    lines: list[list[Any]] = []
    if run.fetch is not None:
        fetched = run.fetch.card.metrics
        set_aside = fetched.get("quarantined", 0)
        lines.append(["fetch", f"{fetched['fields']:,} fields; {set_aside:,} more set aside as unreadable", "–"])
    lines.append(["segment", f"{found['fields']:,} fields; {found['quarantined']:,} of them set aside", "–"])
    lost = " + ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in reasons.items() if count)
    sums = found["kept"] + sum(reasons.values())
    said = f"{found['detected']:,} nuclei detected = {found['kept']:,} kept{f' + {lost}' if lost else ''}"
    lines.append(["segment", said, _balances(found["detected"], sums)])
    if run.split is not None:
        lines += _split_counts(run, found["kept"])
    clustered = run.cluster.card.metrics["cells"]
    of = _cells_of_part(run)
    lines.append(["cluster", f"{clustered:,} cells of the part “{part_of(run)}”", _balances(of, clustered)])
    caption = (
        "Balances: whether the right side adds up to the left. Every dropped nucleus has its reason in dropped.parquet."
    )
    blocks: list[Block] = [Table(["stage", "count", "balances"], lines, caption)]
    if run.split is not None:
        parts = [[*name.partition("/")[::2], value] for name, value in run.split.card.metrics["counts"].items()]
        blocks.append(Table(["part", "label", "cells"], parts, "The split."))
    names = [[name.replace("_", " "), count] for name, count in reasons.items()]
    blocks.append(Folded("Every reason to drop a nucleus", [Table(["reason", "nuclei"], names)]))
    return blocks


def _split_counts(run: Run, kept: int) -> list[list[Any]]:
    assert run.split is not None
    found = run.split.card.metrics
    divided = sum(found["counts"].values())
    unlabelled = kept - divided - found["unused_cells"]
    parts = dict.fromkeys(("train", "val", "test"), 0)
    for name, value in found["counts"].items():
        parts[name.partition("/")[0]] += value
    listed = " + ".join(f"{value:,} {part}" for part, value in parts.items())
    said = f"{kept:,} cells = {listed} + {found['unused_cells']:,} left over by balancing"
    said += f" + {unlabelled:,} of other treatments or plates" if unlabelled else ""
    return [["split", said, "yes" if unlabelled >= 0 else f"no: {-unlabelled:,} too many"]]


def _cells_of_part(run: Run) -> int:
    """How many cells the part that was clustered should have, by the split's own table, or else by the embedding."""
    part = part_of(run)
    if run.split is None or part == "all":
        return int(run.embed.card.metrics["cells"])
    counted = run.split.card.metrics["counts"].items()
    return sum(value for name, value in counted if name.startswith(f"{part}/"))


def _balances(left: int, right: int) -> str:
    return "yes" if left == right else f"no: {left:,} and {right:,}"
