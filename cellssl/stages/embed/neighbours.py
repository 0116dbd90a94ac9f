"""neighbours: the tables of a segment artifact in, for each cell how near and how close-packed other nuclei are, out.

The vector of a cell follows from its own field: all nuclei that were found there count, kept or dropped. Distances are
those between centres, in um, where the size of a pixel is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import Column, read_fields, read_table
from cellssl.errors import UsageError
from cellssl.events import Event, Note
from cellssl.imaging.surroundings import RADII_UM, densities, log_counts, log_distances

if TYPE_CHECKING:
    from collections.abc import Generator

    import pandas as pd

DISTANCES = ("nearest_px", "second_nearest_px", "third_nearest_px")
NEEDED = (*DISTANCES, "touching", "free_border")
"""Columns of the cell table without which there are no such features."""
PIXEL_UM = 0.5
"""Side of a pixel where it is not known for any cell: usual at 20x."""
DROPPED = "dropped.parquet"
POSITIONS = {
    "field_id": Column("text", needed=True, gaps=False),
    "row_px": Column("number", needed=True, gaps=False),
    "column_px": Column("number", needed=True, gaps=False),
}


def surroundings(segment: Artifact, cells: pd.DataFrame) -> Generator[Event, None, tuple[list[str], np.ndarray]]:
    """Return the names and values (n, feature) of what `segment` measures of the surroundings of cells.

    Distances to the three nearest other nuclei (log2 of um, at most 200 um, which also stands for a neighbour that is
    not there); the number of nuclei that it touches, and that lie within half a window (log2 of 1 + number); the share
    of its border that touches none (1 where it has no border); and, where the positions of all nuclei are known, the
    number within 25, 50 and 100 um, corrected for the part of the disc outside the field (log2 of 1 + number).

    Raises UsageError where the cells came without these columns.
    """
    if missing := [name for name in NEEDED if name not in cells]:
        raise UsageError(
            f'embed.model = "neighbours" needs the column {missing[0]} of every cell, and {segment.path} lacks it',
            hint="segment images of fields with this version; or take the block or arm out: finished crops do not show "
            "where the other nuclei lie",
        )
    pixel_um, notes = _pixel_um(segment, cells)
    yield from notes
    columns = {
        f"{name.removesuffix('_px')}_log2_um": log_distances(cells[name].to_numpy(float) * pixel_um)
        for name in DISTANCES
    }
    columns["touching_log2"] = log_counts(cells["touching"].to_numpy(float))
    columns["free_border"] = np.nan_to_num(cells["free_border"].to_numpy(float), nan=1.0)
    if "neighbours" in cells:
        columns["within_half_window_log2"] = log_counts(cells["neighbours"].to_numpy(float))
    counts = _densities(segment, cells, pixel_um)
    if counts is not None:
        columns |= {
            f"within_{radius:.0f}um_log2": log_counts(of_radius)
            for radius, of_radius in zip(RADII_UM, counts.T, strict=True)
        }
    return list(columns), np.stack(list(columns.values()), axis=1).astype(np.float32)


def _pixel_um(segment: Artifact, cells: pd.DataFrame) -> tuple[np.ndarray, list[Event]]:
    """Return the side of a pixel for every cell; UsageError where it is known for some plates and not for others."""
    known = cells["pixel_um"].to_numpy(float)
    unknown = ~(known > 0)
    if not unknown.any():
        return known, []
    if not unknown.all():
        raise UsageError(
            f"{segment.path}: the size of a pixel is known for some plates and not for "
            f"{cells['plate'][unknown].iloc[0]}, so that distances cannot be compared",
            hint="give pixel_um for all fields, or for none",
        )
    words = f"the size of a pixel is not known: distances are taken as if it were {PIXEL_UM:g} um"
    return np.full(len(cells), PIXEL_UM), [Note(words)]


def _densities(segment: Artifact, cells: pd.DataFrame, pixel_um: np.ndarray) -> np.ndarray | None:
    """Return the number of nuclei within every radius, (n, radius); None where not all positions are known."""
    import pandas as pd

    fields = read_fields(segment)
    if DROPPED not in segment.card.files or not {"field_height_px", "field_width_px"} <= {*fields.columns}:
        return None
    tables = [read_table(segment.file(name), POSITIONS, only=True) for name in ("cells.parquet", DROPPED)]
    nuclei = pd.concat(tables, ignore_index=True)
    of_field = {str(name): rows[["row_px", "column_px"]].to_numpy(float) for name, rows in nuclei.groupby("field_id")}
    sides = fields.set_index("field_id")[["field_height_px", "field_width_px"]].to_numpy(float)
    sides_of = dict(zip(fields["field_id"].astype(str), sides, strict=True))
    counts = np.empty((len(cells), len(RADII_UM)))
    for field_id, rows, places in _by_field(cells):
        um = pixel_um[rows[0]]
        height_um, width_um = sides_of[field_id] * um
        counts[rows] = densities(of_field[field_id] * um, places * um, (height_um, width_um), RADII_UM)
    return counts


def _by_field(cells: pd.DataFrame) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    places = cells[["row_px", "column_px"]].to_numpy(float)
    for field_id, rows in cells.groupby("field_id", sort=False).indices.items():
        yield str(field_id), np.asarray(rows), places[rows]
