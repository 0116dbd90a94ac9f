"""screen: embeddings or an external table in; the cells of a screen, their vectors, and one row per well, out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts import embeddings
from cellssl.artifacts.contents import input_of
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import UNREAD_FIELDS, read_fields, read_table
from cellssl.engine.build import Job
from cellssl.errors import UsageError
from cellssl.profiling.blocks import Blocks
from cellssl.stages.shared.card_shapes import embed_blocks, embed_section
from cellssl.stages.shared.cell_tables import read_all_embeddings
from cellssl.stages.shared.external_table import (
    ExternalTable,
    column_hint,
    read_external_table,
    table_blocks,
    with_control_types,
)
from cellssl.stages.shared.plate_layout import order_of
from cellssl.stages.shared.scaled_crops import upstream_segment
from cellssl.stages.shared.well_draw import rows_of_plates

if TYPE_CHECKING:
    import pandas as pd

SECTION = "hits"
"""The section of a recipe whose settings messages name."""
OF_WELL = ("batch", "source", "compound", "dose_micromolar", "moa", "control_type", "control")
"""Columns that describe a well, where they are known."""
CELL_COUNTS = ("cells", "Object_Count", "Count_Cells")
"""Names, without Metadata_, of a column of an external table with the number of cells of a well."""
EMPTY = "empty"
"""The control_type of a well without cells."""


@dataclass(frozen=True)
class Screen:
    """The wells of a screen, and the vectors of some or all of their cells."""

    cells: pd.DataFrame
    """One row per cell, or per well of an external table: its well, and the columns OF_WELL."""
    vectors: np.ndarray
    names: list[str]
    """Names of the features."""
    blocks: Blocks
    wells: pd.DataFrame
    """One row per well, also of wells without a vector, ordered by plate and well: plate, well, the columns OF_WELL,
    and `cells`, the number of cells per field, or of the well in an external table; NaN where it is not known."""
    rows_are_cells: bool
    """Whether wells have several rows, so that the share of changed cells can be seen."""


def read_screen(job: Job) -> Screen:
    """Return the screen of the embeddings, or of the external table.

    Raises UsageError where a row has no plate or well, or no well has a treatment.
    """
    table = job.settings.table
    screen = _external(table) if table else _embedded(job)
    for name in ("plate", "well"):
        if name not in screen.cells or screen.cells[name].isna().any():
            raise UsageError(f"not every row has a {name}", hint=column_hint(table, name, SECTION))
    if "compound" not in screen.wells or not _is_treated(screen.wells).any():
        raise UsageError("no well has a treatment", hint=column_hint(table, "compound", SECTION))
    return screen


def _is_treated(wells: pd.DataFrame) -> np.ndarray:
    return np.asarray(wells["compound"].notna() & ~wells["control"].to_numpy(bool))


def _embedded(job: Job) -> Screen:
    """Return the even draw of cells of every well, and the counts of all cells that segmentation kept."""
    embed = job.inputs["embed"]
    cells, vectors = read_all_embeddings(embed)
    if "drawn" not in cells:
        raise UsageError(
            f"{embed.path} lacks the draw of cells per well that profiles are made from: an earlier version wrote it",
            hint="embed the cells again: cellssl embed RECIPE",
        )
    names = embeddings.read_names(embed.file("embeddings.parquet"))
    drawn = cells["drawn"].to_numpy(bool)
    if not drawn.all():
        cells, vectors = cells[drawn].reset_index(drop=True), vectors[drawn]
    cells, vectors = _without_empty_wells(cells, vectors)
    wells = _counted_wells(job, embed)
    return Screen(cells, vectors, names, embed_blocks(embed), wells, rows_are_cells=True)


def _external(table: ExternalTable) -> Screen:
    cells, vectors, names = read_external_table(table, SECTION)
    order = order_of(cells, vectors)  # samples of cells follow it, so that the order of the rows changes nothing
    cells, vectors = cells.iloc[order].reset_index(drop=True), vectors[order]
    cells = with_control_types(cells if "control" in cells else cells.assign(control=False))
    blocks = table_blocks(table, names, SECTION)
    cells, vectors = _without_empty_wells(cells, vectors)
    for name in ("plate", "well"):
        if name not in cells:
            raise UsageError(f"{table.path} has no column for the {name}", hint=column_hint(table, name, SECTION))
    known = [name for name in OF_WELL if name in cells]
    wells = cells[["plate", "well", *known]].drop_duplicates(["plate", "well"])
    counts = next((_as_numbers(cells[name]) for name in CELL_COUNTS if name in cells), None)
    wells = wells.assign(cells=np.nan if counts is None else counts.loc[wells.index].to_numpy(float))
    wells = wells.sort_values(["plate", "well"], kind="stable", ignore_index=True)
    return Screen(cells, vectors, names, blocks, wells, rows_are_cells=len(wells) < len(cells))


def _as_numbers(column: pd.Series) -> pd.Series:
    import pandas as pd

    return pd.to_numeric(column, errors="coerce")


def _without_empty_wells(cells: pd.DataFrame, vectors: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    if "control_type" not in cells or not (empty := (cells["control_type"] == EMPTY).to_numpy(bool)).any():
        return cells, vectors
    return cells[~empty].reset_index(drop=True), vectors[~empty]


def _counted_wells(job: Job, embed: Artifact) -> pd.DataFrame:
    """Return one row per well of the segmented plates, with the number of cells kept per readable field.

    It is not known where finished crops were given: which cells they show was chosen elsewhere.
    """
    store = job.context.store.with_store_of(embed)
    kind = embed_section(embed).cells
    source = store.get(kind, input_of(embed, kind))
    segment = upstream_segment(source, store)
    fields = rows_of_plates(source, _all_fields(segment))
    if "control_type" in fields:
        fields = fields[fields["control_type"] != EMPTY]
    counted = fields.assign(kept=_kept_of_fields(segment, fields))
    known = [name for name in OF_WELL if name in fields]
    by_well = counted.groupby(["plate", "well"], sort=True, dropna=False)
    wells = by_well[known].first().reset_index() if known else by_well.size().reset_index()[["plate", "well"]]
    return wells.assign(cells=by_well["kept"].mean().to_numpy(float))


def _all_fields(segment: Artifact) -> pd.DataFrame:
    """Return the field table, with the fields that could not be read: a well may have no other."""
    import pandas as pd

    fields = read_fields(segment)
    if UNREAD_FIELDS not in segment.card.files:
        return fields.assign(unread=False)
    unread = read_table(segment.file(UNREAD_FIELDS)).assign(unread=True)
    return pd.concat([fields.assign(unread=False), unread], ignore_index=True)


def _kept_of_fields(segment: Artifact, fields: pd.DataFrame) -> np.ndarray:
    """Return the number of cells that every field has kept; NaN for a field without a count."""
    from cellssl.profiling.wells import QUARANTINED

    if "dropped.parquet" not in segment.card.files:
        return np.full(len(fields), np.nan)
    cells = read_table(segment.file("cells.parquet"))
    kept = fields["field_id"].map(cells["field_id"].value_counts()).fillna(0).to_numpy(float)
    broken = fields["unread"].to_numpy(bool)
    if "field_flags" in fields:
        broken = broken | (fields["field_flags"] == QUARANTINED).to_numpy(bool)
    return np.where(broken, np.nan, kept)
