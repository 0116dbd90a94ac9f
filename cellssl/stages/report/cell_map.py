"""cell_map: runs in; the section with a map whose points are cells that one can look at, out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cellssl.artifacts.contents import section_of
from cellssl.artifacts.tables import OF_CELLS, Column, read_cells, read_table
from cellssl.engine.build import Job
from cellssl.errors import DataError
from cellssl.imaging.colour import colour_words
from cellssl.reporting.html import Block, Folded, Heading, Interactive, Paragraph, Section
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.cluster_figures import arms_with_vectors, cluster_picture
from cellssl.stages.report.figures import MAP_AXES
from cellssl.stages.report.map_columns import effect_column
from cellssl.stages.report.map_data import Arm, map_data, picture_data
from cellssl.stages.report.runs import Run, first_seeds
from cellssl.stages.report.thumbnails import thumbnails
from cellssl.stages.shared.card_shapes import ClusterSection
from cellssl.stages.shared.scaled_crops import common_pixel_um, scaled_crops

if TYPE_CHECKING:
    import pandas as pd

THUMBNAIL_BYTES = 8_000_000
"""Most bytes that the small copies of cells of all maps together take on the page."""
MOST_CELLS = 20_000
"""Most cells of a map; a map of one arm has at most 10,000, and those of several arms may differ."""
FILE = "map.parquet"
OF_MAP = {
    "cell_id": OF_CELLS["cell_id"],
    "label": OF_CELLS["label"],
    "cluster": Column("whole", needed=True, gaps=False),
    "map_x": Column("number", needed=True, gaps=False),
    "map_y": Column("number", needed=True, gaps=False),
}
"""Columns of the map of an arm that are read; what else is known comes from the cells."""


def map_section(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the section with the map of cells: one for all arms, or one for every set of cells that they have."""
    sets: dict[str, list[Run]] = {}
    for run in first_seeds(runs):
        if FILE in run.cluster.card.files:
            sets.setdefault(run.segment.fingerprint, []).append(run)
    if not sets:
        return []
    blocks: list[Block] = [Paragraph(HOW_TO_READ)]
    vectors = arms_with_vectors(runs, scores)
    for members in sets.values():
        if len(sets) > 1:
            blocks.append(Heading(f"Cells of {', '.join(f'“{run.arm}”' for run in members)}"))
        blocks.append(_interactive(job, members, _leading(members, scores), THUMBNAIL_BYTES // len(sets), vectors))
    return [Section("The cells on a map", blocks, anchor="map")]


HOW_TO_READ = (
    "One point per cell; cells with similar vectors lie near each other. The sizes of groups and the distances between "
    "them need not mean anything. Clusters are numbered by size, separately in every arm."
)


def _leading(members: list[Run], scores: ScoresByArm) -> int:
    """Return the place of the arm that the map shows first."""
    order = [scores.leading, *scores.trained, *scores.baselines]
    return min(range(len(members)), key=lambda place: order.index(members[place].arm))


def _interactive(job: Job, members: list[Run], start: int, limit_bytes: int, vectors: Sequence[str]) -> Block:
    """Return the map of arms that have the same cells."""
    maps = [read_table(run.cluster.file(FILE), OF_MAP) for run in members]
    cells = _cells_of(members[start], [maps[start], *maps])
    crops = scaled_crops(members[start].segment, job.context.store, cells)
    small = thumbnails(crops, limit_bytes)
    pictures = None if small is None else picture_data(small, crops.channels, common_pixel_um(cells))
    arms = [_arm(run, table, cells) for run, table in zip(members, maps, strict=True)]
    caption = f"Channels: {colour_words(crops.channels)}."
    return Interactive("map", map_data(cells, arms, start, pictures, caption), _fallback(job, members, start, vectors))


def _cells_of(run: Run, maps: list[pd.DataFrame]) -> pd.DataFrame:
    """Return what is known about the cells that any of these maps has, those of the first map first.

    Raises DataError where the segment artifact lacks one.
    """
    import pandas as pd

    of_maps = pd.concat([table[[name for name in ("cell_id", "label") if name in table]] for table in maps])
    of_maps = of_maps.drop_duplicates("cell_id").head(MOST_CELLS)
    cells = of_maps.merge(read_cells(run.segment), on="cell_id", how="left", validate="one_to_one")
    if cells["crop_row"].isna().any():
        raise DataError(
            f"{run.segment.path} lacks cells that {run.cluster.path} has",
            hint="make both again: cellssl run RECIPE --force",
        )
    return cells


def _arm(run: Run, table: pd.DataFrame, cells: pd.DataFrame) -> Arm:
    effects = effect_column(run.hits_artifact, cells) if run.hits_artifact is not None else None
    return Arm(run.arm, f"“{run.arm}”, seed {run.seed}: cells on {_axes(run)}", table, effects)


def _axes(run: Run) -> str:
    return MAP_AXES[section_of(run.cluster, ClusterSection).map]


def _fallback(job: Job, members: list[Run], start: int, vectors: Sequence[str]) -> list[Block]:
    """Return the pictures of the maps for print and without JavaScript: the leading arm's, and the others folded."""
    drawn = {run.arm: cluster_picture(job, run, "map", vectors=run.arm in vectors) for run in members}
    shown = drawn.pop(members[start].arm)
    folded = [block for blocks in drawn.values() for block in blocks]
    return [*shown, *([Folded("Maps of the other arms", folded)] if folded else [])]
