"""cell_counts: the artifacts of a run in, tables of how many cells each stage and each well kept and dropped out."""

from __future__ import annotations

from cellssl.artifacts.contents import metrics_of, section_of
from cellssl.counting import counted
from cellssl.reporting.html import Block, Folded, Table, Value
from cellssl.reporting.natural_sort import natural_key
from cellssl.stages.report.plate_counts import counts_of_plates, share_kept
from cellssl.stages.report.runs import Run, drawn_of_kept, part_of
from cellssl.stages.report.tables_common import ROWS_SHOWN, rows_note
from cellssl.stages.segment.counts import ALL_REASONS, IN_WORDS, MERGED_LOBES, in_words
from cellssl.stages.shared.card_shapes import EmbedMetrics, FetchMetrics, SplitSection, segment_metrics, split_metrics

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
WELL_NUMBERS = ("dose_micromolar", *(name for name in WELL_HEADS if name.startswith("n")))


def count_tables(run: Run) -> list[Block]:
    """Return the numbers of fields, nuclei and cells per stage; every row says whether the numbers add up."""
    found = segment_metrics(run.segment)
    counts = metrics_of(run.segment, dict[str, int])
    reasons = {name: counts[name] for name in ALL_REASONS if name in counts}
    rows: list[list[Value]] = []
    if run.fetch is not None:
        fetched = metrics_of(run.fetch, FetchMetrics)
        rows.append(
            ["fetch", f"{fetched.fields:,} fields; {fetched.quarantined:,} more were unreadable and skipped", "–"]
        )
    rows.append(["segment", f"{found.fields:,} fields; {found.quarantined:,} of them skipped", "–"])
    if found.merged_lobes is not None:
        every = f"{found.detected + found.merged_lobes:,} nuclei found"
        rows.append(["segment", f"{every}; {found.merged_lobes:,} of them became part of another one, as lobes", "–"])
    dropped = " + ".join(f"{count:,} {IN_WORDS.get(name, name)}" for name, count in reasons.items() if count)
    sums = found.kept + sum(reasons.values())
    equation = f"{found.detected:,} nuclei detected = {found.kept:,} kept{f' + {dropped}' if dropped else ''}"
    rows.append(["segment", equation, _balance(found.detected, sums)])
    if run.split is not None:
        rows += _split_counts(run, found.kept)
    clustered = run.clusters.cells
    rows += _draw_counts(run)
    rows.append(
        ["cluster", f"{clustered:,} cells of the part “{part_of(run)}”", _balance(_cells_of_part(run), clustered)]
    )
    caption = (
        "From images to clustered cells, stage by stage, as each stage has counted them. Adds up: whether both sides "
        "are equal, counted again for this page. dropped.parquet has the reason for every dropped nucleus."
    )
    blocks: list[Block] = [Table(["stage", "count", "adds up"], rows, caption)]
    if run.split is not None:
        parts: list[list[Value]] = [
            [*name.partition("/")[::2], value] for name, value in split_metrics(run.split).counts.items()
        ]
        explained = (
            f"Cells by what they are used for (n = {sum(split_metrics(run.split).counts.values()):,}): train to learn "
            "from, val to choose settings and to stop by, test for the scores of this page."
        )
        blocks.append(Table(["part", "label", "cells"], parts, explained))
    names: list[list[Value]] = [[IN_WORDS.get(name, name.replace("_", " ")), count] for name, count in reasons.items()]
    lost = (
        f"Nuclei that were found and did not become a cell (n = {sum(reasons.values()):,} of {found.detected:,}), by "
        "the first reason that holds. The limits are those of [segment]; flagged fields are out of focus, saturated, "
        "or have much beside the nuclei."
    )
    blocks.append(Folded("Dropped nuclei by reason", [Table(["reason", "nuclei"], names, lost)]))
    return [*blocks, *_plate_counts(run), *_well_counts(run)]


def _plate_counts(run: Run) -> list[Block]:
    """Return what became of the nuclei of every plate; the plates that lost most are shown where there are too many."""
    plates = sorted(counts_of_plates(run), key=lambda row: natural_key(row["plate"]))
    total = sum(row["detected"] for row in plates)
    note = (
        f"Nuclei per plate (n = {total:,} found): how many became cells, and why the others did not. counts.csv has "
        "the numbers of every plate, dropped.parquet the reason of every dropped nucleus."
    )
    if len(plates) > ROWS_SHOWN:
        note = f"Of {len(plates):,} plates, the {ROWS_SHOWN} that kept the smallest share of their nuclei. {note}"
        plates = sorted(plates, key=share_kept)[:ROWS_SHOWN]
    lobes = [MERGED_LOBES] if segment_metrics(run.segment).merged_lobes is not None else []
    rows: list[list[Value]] = [
        [
            row["plate"],
            *(row[name] for name in lobes),
            row["detected"],
            row["kept"],
            f"{100 * share_kept(row):.0f} %",
            in_words(row).partition(": ")[2],
        ]
        for row in plates
    ]
    heads = ["plate", *("lobes merged" for _ in lobes), "nuclei found", "kept", "share kept", "dropped"]
    return [Table(heads, rows, note)] if rows else []


def _draw_counts(run: Run) -> list[list[Value]]:
    """Return the row on the draw that wells.csv, doses and montages are made from; none for earlier versions."""
    wells = run.clusters.wells
    if wells is None:
        return []
    empty = f"; {counted(wells.empty, 'well')} without any cell" if wells.empty else ""
    text = f"{counted(wells.wells, 'well')} described by {drawn_of_kept(run)}{empty}"
    return [["wells", text, "yes" if wells.drawn <= wells.kept else f"no: {wells.drawn - wells.kept:,} too many"]]


def _well_counts(run: Run) -> list[Block]:
    """Return the table of every well: fields, nuclei, cells kept and cells drawn."""
    from cellssl.artifacts.tables import read_csv

    if run.clusters.wells is None:
        return []
    table = read_csv(run.cluster.file("wells.csv"), WELL_NUMBERS)
    shown = {name: words for name, words in WELL_HEADS.items() if name in table}
    rows = table[list(shown)].head(ROWS_SHOWN).astype(object)
    cells = rows.where(rows.notna(), None).to_numpy().tolist()
    caption = (
        f"One row per well (n = {len(table):,}). Nuclei and cells are all that segmentation found and kept, whatever "
        "the split. Drawn: the cells, at most equally many of every well, from which shares of clusters, distances "
        f"from controls, dose curves and montages are made. {rows_note(table, 'wells.csv')}"
    )
    return [Folded("Cells per well", [Table(list(shown.values()), cells, caption.strip())])]


def _split_counts(run: Run, kept: int) -> list[list[Value]]:
    assert run.split is not None
    found = split_metrics(run.split)
    divided = sum(found.counts.values())
    unlabelled = kept - divided - found.unused_cells
    parts = dict.fromkeys(("train", "val", "test"), 0)
    for name, value in found.counts.items():
        part = name.partition("/")[0]
        parts[part] = parts.get(part, 0) + value
    listed = " + ".join(f"{value:,} {part}" for part, value in parts.items())
    equation = f"{kept:,} cells = {listed} + {found.unused_cells:,} not used because of balancing"
    others = "of other plates" if section_of(run.split, SplitSection).classes else "of other treatments or plates"
    without_class = found.without_class
    equation += f" + {without_class:,} without a class" if without_class else ""
    equation += f" + {unlabelled - without_class:,} {others}" if unlabelled - without_class else ""
    return [["split", equation, "yes" if unlabelled >= 0 else f"no: {-unlabelled:,} too many"]]


def _cells_of_part(run: Run) -> int:
    """Return how many cells the clustered part should have, by the table of the split, or else by the embeddings."""
    part = part_of(run)
    if run.split is None or part == "all":
        return metrics_of(run.embed, EmbedMetrics).cells
    counts = split_metrics(run.split).counts.items()
    return sum(value for name, value in counts if name.startswith(f"{part}/"))


def _balance(left: int, right: int) -> str:
    return "yes" if left == right else f"no: {left:,} and {right:,}"
