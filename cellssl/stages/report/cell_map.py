"""cell_map: runs in; the section with a map whose points are cells that one can look at, out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.contents import section_of
from cellssl.artifacts.tables import OF_CELLS, Column, read_cells, read_table
from cellssl.engine.build import Job
from cellssl.errors import DataError
from cellssl.imaging.colour import colour_words, named_colours
from cellssl.reporting import theme
from cellssl.reporting.figures.scatter import PALE
from cellssl.reporting.html import Block, Folded, Heading, Interactive, Paragraph, Section, data_uri
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.figure_files import picture
from cellssl.stages.report.figures import MAP_AXES
from cellssl.stages.report.map_columns import MISSING, cluster_column, columns_of, effect_column, packed
from cellssl.stages.report.runs import Run, first_seeds
from cellssl.stages.report.thumbnails import COLUMNS, Thumbnails, thumbnails
from cellssl.stages.shared.card_shapes import ClusterSection
from cellssl.stages.shared.scaled_crops import ScaledCrops, common_pixel_um, scaled_crops

if TYPE_CHECKING:
    import pandas as pd

THUMBNAIL_BYTES = 8_000_000
"""Most bytes that the small copies of cells of all maps together take on the page."""
MOST_CELLS = 20_000
"""Most cells of a map; a map of one arm has at most 10,000, and those of several arms may differ."""
FILE, PICTURE = "map.parquet", "map.png"
OF_MAP = {
    "cell_id": OF_CELLS["cell_id"],
    "label": OF_CELLS["label"],
    "cluster": Column("whole", needed=True, gaps=False),
    "map_x": Column("number", needed=True, gaps=False),
    "map_y": Column("number", needed=True, gaps=False),
}
"""Columns of the map of an arm that are read; what else is known comes from the cells."""
COUNTED = ("treatment", "label", "cluster")
"""What selected cells are counted by: the first of these that there is."""


def map_section(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the section with the map of cells: one for all arms, or one for every set of cells that they have."""
    sets: dict[str, list[Run]] = {}
    for run in first_seeds(runs):
        if FILE in run.cluster.card.files:
            sets.setdefault(run.segment.fingerprint, []).append(run)
    if not sets:
        return []
    blocks: list[Block] = [Paragraph(HOW_TO_READ)]
    for members in sets.values():
        if len(sets) > 1:
            blocks.append(Heading(f"Cells of {', '.join(f'“{run.arm}”' for run in members)}"))
        blocks.append(_interactive(job, members, _leading(members, scores), THUMBNAIL_BYTES // len(sets)))
    return [Section("The cells on a map", blocks, anchor="map")]


HOW_TO_READ = (
    "One point per cell; cells that the network gave similar vectors lie near each other. The sizes of groups and the "
    "distances between them need not mean anything. Clusters are numbered by size, separately in every arm."
)


def _leading(members: list[Run], scores: ScoresByArm) -> int:
    """Return the place of the arm that the map shows first."""
    order = [scores.leading, *scores.trained, *scores.baselines]
    return min(range(len(members)), key=lambda place: order.index(members[place].arm))


def _interactive(job: Job, members: list[Run], start: int, limit_bytes: int) -> Block:
    """Return the map of arms that have the same cells."""
    ordered = [members[start], *members[:start], *members[start + 1 :]]
    maps = {run.arm: read_table(run.cluster.file(FILE), OF_MAP) for run in ordered}
    cells = _cells_of(members[start], list(maps.values()))
    columns = columns_of(cells)
    crops = scaled_crops(members[start].segment, job.context.store, cells)
    known = {column.key for column in columns}
    data = {
        "ids": cells["cell_id"].tolist(),
        "columns": [column.as_data() for column in columns],
        "arms": [_arm_data(run, maps[run.arm], cells) for run in members],
        "start": start,
        "countBy": next(key for key in COUNTED if key in known or key == "cluster"),
        "missingColour": PALE,
        "thumbnails": _thumbnail_data(crops, thumbnails(crops, limit_bytes), common_pixel_um(cells)),
        "caption": f"Channels: {colour_words(crops.channels)}.",
    }
    return Interactive("map", data, _fallback(members, start))


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


def _arm_data(run: Run, table: pd.DataFrame, cells: pd.DataFrame) -> dict[str, Any]:
    """Return where an arm's map has the cells, and what is known about them with this arm only."""
    of_arm = cells[["cell_id"]].merge(table, on="cell_id", how="left", validate="one_to_one")
    columns = [cluster_column(of_arm["cluster"]), effect_column(run, cells)]
    axes = MAP_AXES[section_of(run.cluster, ClusterSection).map]
    return {
        "name": run.arm,
        "what": f"“{run.arm}”, seed {run.seed}: cells on {axes}",
        "columns": [column.as_data() for column in columns if column is not None],
        "x": packed(_on_scale(of_arm["map_x"].to_numpy(float))),
        "y": packed(_on_scale(-of_arm["map_y"].to_numpy(float))),
    }


def _on_scale(positions: np.ndarray) -> np.ndarray:
    """Return positions from 0 to 65,534, the greatest; cells without one have `MISSING`."""
    known = np.isfinite(positions)
    if not known.any():
        return np.full(len(positions), MISSING)
    low, high = positions[known].min(), positions[known].max()
    placed = np.rint((positions - low) / (high - low or 1.0) * (MISSING - 1))
    return np.where(known, placed, MISSING)


def _thumbnail_data(crops: ScaledCrops, made: Thumbnails | None, pixel_um: float | None) -> dict[str, Any] | None:
    """Return the small copies of the cells; None where the page has no room for them."""
    if made is None:
        return None
    colours = named_colours(crops.channels)
    return {
        "side": made.side_px,
        "columns": COLUMNS,
        "perSheet": COLUMNS * COLUMNS,
        "channels": [
            {"name": name, "colour": [round(float(part), 3) for part in colour]}
            for name, colour in zip(crops.channels, colours, strict=True)
        ],
        "pixelUm": None if pixel_um is None else pixel_um * made.window_px / made.side_px,
        "sheets": [[str(data_uri(sheet)) for sheet in sheets] for sheets in made.sheets],
    }


def _fallback(members: list[Run], start: int) -> list[Block]:
    """Return the pictures of the maps for readers without JavaScript, and for print: the leading arm's, others folded."""
    shown, others = [members[start]], [run for run in members if run is not members[start]]
    pictures: list[Block] = [_picture(run) for run in shown if PICTURE in run.cluster.card.files]
    folded = [_picture(run) for run in others if PICTURE in run.cluster.card.files]
    return [*pictures, *([Folded("Maps of the other arms", folded)] if folded else [])]


def _picture(run: Run) -> Block:
    axes = MAP_AXES[section_of(run.cluster, ClusterSection).map]
    caption = (
        f"“{run.arm}”, seed {run.seed}: one point per cell on {axes}, at the same place in every panel, coloured by "
        "cluster and by what is known about the cell."
    )
    alt = f"map of the cells of the arm {run.arm}, seed {run.seed}"
    return picture(run.cluster.file(PICTURE).read_bytes(), caption, alt, theme.drawing)
