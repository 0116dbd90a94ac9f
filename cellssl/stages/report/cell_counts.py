"""cell_counts: the artifacts of a run in, tables of how many cells each stage and each well kept and dropped out."""

from __future__ import annotations

from cellssl.reporting.html import Block, Folded, Table, Value
from cellssl.stages.report.arm_scores import count_of
from cellssl.stages.report.runs import Run, drawn_of_kept, part_of
from cellssl.stages.report.tables_common import ROWS_SHOWN, rows_note
from cellssl.stages.segment.selection import ALL_REASONS

WELL_HEADS = {
    "plate": "plate",
    "well": "well",
    "compound": "compound",
    "dose_micromolar": "dose (µM)",
    "n_fields": "fields",
    "n_fields_quarantined": "of them skipped",
    "n_detected": "nuclei",
    "n": "cells kept",
    "n_drawn": "cells drawn",
}
"""Column of wells.csv -> its head in the table of counts."""


def count_tables(run: Run) -> list[Block]:
    """Return the numbers of fields, nuclei and cells per stage; every row says whether the numbers add up."""
    found = run.segment.card.metrics
    reasons = {name: found[name] for name in ALL_REASONS if name in found}
    rows: list[list[Value]] = []
    if run.fetch is not None:
        fetched = run.fetch.card.metrics
        unreadable = fetched.get("quarantined", 0)
        rows.append(["fetch", f"{fetched['fields']:,} fields; {unreadable:,} more were unreadable and skipped", "–"])
    rows.append(["segment", f"{found['fields']:,} fields; {found['quarantined']:,} of them skipped", "–"])
    dropped = " + ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in reasons.items() if count)
    sums = found["kept"] + sum(reasons.values())
    equation = f"{found['detected']:,} nuclei detected = {found['kept']:,} kept{f' + {dropped}' if dropped else ''}"
    rows.append(["segment", equation, _balance(found["detected"], sums)])
    if run.split is not None:
        rows += _split_counts(run, found["kept"])
    clustered = run.clusters.cells
    rows += _draw_counts(run)
    rows.append(
        ["cluster", f"{clustered:,} cells of the part “{part_of(run)}”", _balance(_cells_of_part(run), clustered)]
    )
    caption = "Sum is right: whether both sides are equal. dropped.parquet has the reason for every dropped nucleus."
    blocks: list[Block] = [Table(["stage", "count", "sum is right"], rows, caption)]
    if run.split is not None:
        parts = [[*name.partition("/")[::2], value] for name, value in run.split.card.metrics["counts"].items()]
        blocks.append(Table(["part", "label", "cells"], parts, "Cells of the split."))
    names = [[name.replace("_", " "), count] for name, count in reasons.items()]
    blocks.append(Folded("Dropped nuclei by reason", [Table(["reason", "nuclei"], names)]))
    return [*blocks, *_well_counts(run)]


def _draw_counts(run: Run) -> list[list[Value]]:
    """Return the row on the draw that wells.csv, doses and montages are made from; none for earlier versions."""
    wells = run.clusters.wells
    if wells is None:
        return []
    empty = f"; {count_of(wells.empty, 'well')} without any cell" if wells.empty else ""
    text = f"{count_of(wells.wells, 'well')} described by {drawn_of_kept(run)}{empty}"
    return [["wells", text, "yes" if wells.drawn <= wells.kept else f"no: {wells.drawn - wells.kept:,} too many"]]


def _well_counts(run: Run) -> list[Block]:
    """Return the table of every well: fields, nuclei, cells kept and cells drawn."""
    import pandas as pd

    if run.clusters.wells is None:
        return []
    table = pd.read_csv(run.cluster.file("wells.csv"), dtype={"plate": str, "well": str, "compound": str})
    shown = {name: words for name, words in WELL_HEADS.items() if name in table}
    rows = table[list(shown)].head(ROWS_SHOWN).astype(object)
    cells = rows.where(rows.notna(), None).to_numpy().tolist()
    caption = (
        "Counts are those of segmentation, of all cells: a low number of cells is not a matter of the split. Shares of "
        f"clusters, distances, doses and montages are made from the drawn cells. {rows_note(table, 'wells.csv')}"
    )
    return [Folded("Cells per well", [Table(list(shown.values()), cells, caption.strip())])]


def _split_counts(run: Run, kept: int) -> list[list[Value]]:
    assert run.split is not None
    found = run.split.card.metrics
    divided = sum(found["counts"].values())
    unlabelled = kept - divided - found["unused_cells"]
    parts = dict.fromkeys(("train", "val", "test"), 0)
    for name, value in found["counts"].items():
        parts[name.partition("/")[0]] += value
    listed = " + ".join(f"{value:,} {part}" for part, value in parts.items())
    equation = f"{kept:,} cells = {listed} + {found['unused_cells']:,} not used because of balancing"
    equation += f" + {unlabelled:,} of other treatments or plates" if unlabelled else ""
    return [["split", equation, "yes" if unlabelled >= 0 else f"no: {-unlabelled:,} too many"]]


def _cells_of_part(run: Run) -> int:
    """Return how many cells the clustered part should have, by the table of the split, or else by the embeddings."""
    part = part_of(run)
    if run.split is None or part == "all":
        return int(run.embed.card.metrics["cells"])
    counts = run.split.card.metrics["counts"].items()
    return sum(value for name, value in counts if name.startswith(f"{part}/"))


def _balance(left: int, right: int) -> str:
    return "yes" if left == right else f"no: {left:,} and {right:,}"
