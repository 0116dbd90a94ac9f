"""cluster_rows: runs in; the sections on clusters, one row each with its cells, out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.store import Store
from cellssl.artifacts.tables import explained, read_cells, read_csv
from cellssl.counting import counted
from cellssl.engine.build import Job
from cellssl.profiling.clusterer import NOISE
from cellssl.reporting import theme
from cellssl.reporting.html import Bar, Block, Folded, Images, Paragraph, Part, Rich, Section, Table, Value
from cellssl.stages.report import figures
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.cluster_contents import Content, Contents, Held, contents_of
from cellssl.stages.report.cluster_doses import few_doses
from cellssl.stages.report.cluster_figures import arms_with_vectors, cluster_picture
from cellssl.stages.report.runs import Run, first_seeds
from cellssl.stages.shared.scaled_crops import scaled_crops

if TYPE_CHECKING:
    from PIL import ImageDraw

FIRST_ROWS = 12
"""Number of clusters that are shown without unfolding."""
CELLS_SHOWN = 8
"""Number of cells of a cluster that its row shows."""
CELL_PX, SWATCH_PX = 64, 14
WITH_PICTURES = 10
"""Arms whose rows have pictures; with more, the page would grow too large."""


def cluster_section(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the section on the clusters of the leading arm, and one for the appendix with more cells and all arms."""
    places = {run.arm: place for place, run in enumerate(first_seeds(runs))}
    first, *others = sorted(first_seeds(runs), key=lambda run: (run.arm != scores.leading, run.is_baseline))
    vectors = arms_with_vectors(runs, scores)
    doses, all_doses = few_doses(job, first, vectors=first.arm in vectors)
    rows = _rows(job, first, places[first.arm], are_pictured=True)
    blocks = [Paragraph(_INTRODUCTION), *rows, *doses]
    folded = [Folded(f"Shares against dose of all compounds, “{first.arm}”", all_doses)] if all_doses else []
    more: list[Block] = [*_montage(job, first, vectors), *folded]
    for number, run in enumerate(others):
        is_pictured = number < WITH_PICTURES
        of_run = _rows(job, run, places[run.arm], are_pictured=is_pictured)
        of_run += cluster_picture(job, run, "doses", vectors=run.arm in vectors)
        more.append(Folded(_title(run), [*of_run, *(_montage(job, run, vectors) if is_pictured else [])]))
    if more:
        what = " and ".join(
            ["more cells of each", *([f"those of {counted(len(others), 'other arm')}"] if others else [])]
        )
        blocks.append(Paragraph(f"The appendix has {what}."))
    sections = [Section("Clusters", blocks, anchor="clusters")]
    appendix = Section(
        "More cells of clusters, and other arms" if others else "More cells of clusters",
        more,
        anchor="clusters-appendix",
        is_appendix=True,
    )
    return [*sections, appendix] if more else sections


def _montage(job: Job, run: Run, vectors: Sequence[str]) -> list[Block]:
    """Return all cells near the centroids, folded."""
    found = cluster_picture(job, run, "montage", vectors=run.arm in vectors)
    return [Folded(f"More cells of every cluster of “{run.arm}”", found)] if found else []


_INTRODUCTION = (
    "A cluster is a group of cells whose vectors are alike. Clusters are numbered by their number of scored cells, "
    "separately in every arm and seed; their colours are used for nothing else on this page."
)


def _title(run: Run) -> str:
    title = f"“{run.arm}”, seed {run.seed}"
    return f"Baseline {title}" if run.is_baseline else title


def _rows(job: Job, run: Run, place: int, *, are_pictured: bool) -> list[Block]:
    """Return the rows of the clusters of a run, with pictures of their cells."""
    found = contents_of(run)
    pictures = nearest_cells(run, job.context.store) if are_pictured else {}
    return row_blocks(found, pictures, _caption(job, run, found, bool(pictures)), f"cluster-{place}")


def row_blocks(found: Contents, pictures: dict[int, list[bytes]], caption: str, anchor: str) -> list[Block]:
    """Return the table of clusters, one row each; those beyond the first ones are folded."""
    heads, rows = _table(found, pictures)
    anchors = [f"{anchor}-{_name(each)}" for each in found.clusters]
    first = Table(heads, rows[:FIRST_ROWS], caption, anchors[:FIRST_ROWS])
    if len(rows) <= FIRST_ROWS:
        return [first]
    rest = Table(heads, rows[FIRST_ROWS:], "", anchors[FIRST_ROWS:])
    return [first, Folded(counted(len(rows) - FIRST_ROWS, "further cluster"), [rest])]


def _name(cluster: Content) -> str:
    return "noise" if cluster.number == NOISE else str(cluster.number)


def _table(found: Contents, pictures: dict[int, list[bytes]]) -> tuple[list[str], list[list[Value | Rich]]]:
    """Return heads and rows, one per cluster; columns for which there is no data are left out."""
    heads = ["colour", "cluster", "cells"]
    heads += ["control and treated"] if found.controls else []
    heads += [f"{found.groups_are} it holds most of"] if found.groups_are else []
    heads += ["wells it holds most of"] if any(each.wells for each in found.clusters) else []
    heads += ["most typical cells"] if pictures else []
    return heads, [_row(heads, each, found, pictures) for each in found.clusters]


def _row(heads: Sequence[str], each: Content, found: Contents, pictures: dict[int, list[bytes]]) -> list[Value | Rich]:
    name = _name(each)
    row: list[Value | Rich] = [Images([swatch(each.number)], f"colour of {name}"), name]
    row.append(f"{each.cells:,} ({100 * each.cells / max(1, found.cells):.0f}\N{NO-BREAK SPACE}%)")
    if "control and treated" in heads:
        control = each.controls / max(1, each.cells)
        row.append(Bar([Part("control", control, theme.CONTROL), Part("treated", 1 - control, theme.TREATED)]))
    row += [_in_words(each.groups)] if found.groups_are else []
    row += [_in_words(each.wells)] if "wells it holds most of" in heads else []
    if pictures:
        cells = pictures.get(each.number, [])
        row.append(Images(cells, f"{len(cells)} cells of cluster {name}") if cells else "")
    return row


def _in_words(held: Sequence[Held]) -> str:
    """Return as "sim-taxol 3 µM: 46 of 51 (× 2.1)"."""
    gap = "\N{NO-BREAK SPACE}"
    return "; ".join(f"{one.name}: {one.cells:,} of {one.of:,} (×{gap}{one.enrichment:.1f})" for one in held)


def _caption(job: Job, run: Run, found: Contents, are_pictured: bool) -> str:
    """Return which cells the numbers are of, what is expected, and what the pictures show."""
    parts = [f"“{run.arm}”, seed {run.seed}: one row per cluster; n = {found.cells:,} {found.which}."]
    if found.controls:
        share = 100 * found.controls / found.cells
        parts.append(f"Grey: control cells ({share:.0f} % of all); purple: treated.")
    if held := " and ".join(filter(None, [found.groups_are, "wells" if _has_wells(found) else ""])):
        parts.append(
            f"{held.capitalize()}: the three (at most) with most cells beyond those expected; cells in this cluster "
            "of all its cells (× number expected if cells were spread evenly)."
        )
    if are_pictured:
        parts.append(
            "Pictures: the cells nearest to the centre of the cluster, the nearest first. "
            f"{figures.channels_and_side(job, run)}"
        )
    return " ".join(parts)


def _has_wells(found: Contents) -> bool:
    return any(each.wells for each in found.clusters)


def nearest_cells(run: Run, store: Store) -> dict[int, list[bytes]]:
    """Return the cells nearest to each centroid as small JPEGs, by number of the cluster."""
    from cellssl.imaging.colour import named_colours, to_rgb

    if "nearest.csv" not in run.cluster.card.files:
        return {}
    path = run.cluster.file("nearest.csv")
    with explained(path):
        nearest = read_csv(path, ["cluster"]).groupby("cluster").head(CELLS_SHOWN)
        cells = nearest.merge(read_cells(run.segment), on="cell_id", how="inner", validate="one_to_one")
    if cells.empty:
        return {}
    crops = scaled_crops(run.segment, store.with_store_of(run.embed), cells)
    tiles = to_rgb(crops.read(np.arange(len(crops))), named_colours(crops.channels))
    found: dict[int, list[bytes]] = {}
    for number, tile in zip(cells["cluster"].astype(int), tiles, strict=True):
        found.setdefault(number, []).append(_small(tile))
    return found


def _small(tile: np.ndarray) -> bytes:
    from PIL import Image

    picture = Image.fromarray(tile)
    size = (CELL_PX, CELL_PX)
    return theme.photo(picture.resize(size, Image.Resampling.LANCZOS) if tile.shape[0] > CELL_PX else picture)


def swatch(number: int) -> bytes:
    """Return the mark of a cluster as a small PNG, in its colour and with the marker that the figures have."""
    from PIL import Image, ImageDraw

    style = theme.cluster_style(number) if number != NOISE else theme.GroupStyle(theme.NO_GROUP, "o", "-")
    large = 4 * SWATCH_PX
    picture = Image.new("RGBA", (large, large), (255, 255, 255, 0))
    _mark(ImageDraw.Draw(picture), style, large - 1)
    buffer = io.BytesIO()
    picture.resize((SWATCH_PX, SWATCH_PX), Image.Resampling.LANCZOS).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _mark(draw: ImageDraw.ImageDraw, style: theme.GroupStyle, last: int) -> None:
    match style.marker:
        case "^":
            draw.polygon([(last // 2, 0), (last, last), (0, last)], fill=style.colour)
        case "s":
            draw.rectangle((0, 0, last, last), fill=style.colour)
        case "D":
            draw.polygon([(last // 2, 0), (last, last // 2), (last // 2, last), (0, last // 2)], fill=style.colour)
        case _:
            draw.ellipse((0, 0, last, last), fill=style.colour)
