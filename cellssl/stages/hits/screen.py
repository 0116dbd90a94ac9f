"""screen: embeddings or an external table in; the cells of a screen, their vectors, and one row per well, out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts import embeddings
from cellssl.artifacts.contents import input_of
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_table
from cellssl.datasets.tables.wells import unified_wells
from cellssl.engine.build import Job
from cellssl.errors import UsageError
from cellssl.profiling.blocks import Blocks
from cellssl.stages.shared.card_shapes import embed_blocks, embed_section
from cellssl.stages.shared.cell_tables import read_all_embeddings
from cellssl.stages.shared.external_table import (
    ExternalTable,
    column_hint,
    controls_key,
    read_external_table,
    table_blocks,
    with_control_types,
)
from cellssl.stages.shared.planned_fields import planned_fields
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
CELLS_NOT_WELLS = 10
"""Rows per well from which the rows of an external table are cells; fewer are wells, or the fields of a well."""
DOSE_DIGITS = 12
"""Doses that are equal in so many digits are one dose: 0.1 + 0.2 and 0.3."""
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
    if "compound" not in screen.wells or screen.wells["compound"].isna().all():
        raise UsageError("no well has a treatment", hint=column_hint(table, "compound", SECTION))
    if not _is_treated(screen.wells).any():
        raise UsageError(
            "no well has a treatment: all that have a compound are controls",
            hint=f"see which compounds {controls_key(table, SECTION)} names",
        )
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
    cells, vectors = _without_empty_wells(_with_plain_doses(cells), vectors)
    wells = _counted_wells(job, embed)
    return Screen(cells, vectors, names, embed_blocks(embed), wells, rows_are_cells=True)


def _external(table: ExternalTable) -> Screen:
    cells, vectors, names = read_external_table(table, SECTION, _type_of)
    order = order_of(cells, vectors)  # samples of cells follow it, so that the order of the rows changes nothing
    cells, vectors = cells.iloc[order].reset_index(drop=True), vectors[order]
    cells = with_control_types(cells if "control" in cells else cells.assign(control=False))
    blocks = table_blocks(table, names, SECTION)
    cells, vectors = _without_empty_wells(cells, vectors)
    for name in ("plate", "well"):
        if name not in cells:
            raise UsageError(f"{table.path} has no column for the {name}", hint=column_hint(table, name, SECTION))
        if cells[name].isna().any():
            raise UsageError(f"not every row has a {name}", hint=column_hint(table, name, SECTION))
    cells = _with_plain_doses(cells)
    cells = cells.assign(well=unified_wells(cells["well"].astype(str).tolist())[0])  # B2 and B02 are one well
    known = [name for name in OF_WELL if name in cells]
    wells = cells[["plate", "well", *known]].drop_duplicates(["plate", "well"])
    wells = wells.sort_values(["plate", "well"], kind="stable", ignore_index=True)
    wells = wells.assign(cell_count=_counts_of_table(cells))
    return Screen(cells, vectors, names, blocks, wells, _rows_are_cells(cells))


def _rows_are_cells(rows: pd.DataFrame) -> bool:
    """Return whether so many rows share a well that they are its cells."""
    return bool(rows.groupby(["plate", "well"]).size().median() >= CELLS_NOT_WELLS)


def _type_of(metadata: pd.DataFrame) -> type:
    """Return float32 for cells, which are many, as embeddings have; float64 for profiles, as others compute them."""
    are_known = {"plate", "well"} <= set(metadata)
    return np.float32 if are_known and _rows_are_cells(metadata) else np.float64


def _counts_of_table(cells: pd.DataFrame) -> np.ndarray:
    """Return the number of cells of every well, ordered by plate and well; NaN where the table has none.

    Where rows of a well differ, as those of its fields do, it is their sum; else it is the number that all rows have.
    """
    import pandas as pd

    name = next((name for name in CELL_COUNTS if name in cells), None)
    numbers = pd.Series(np.nan, cells.index) if name is None else pd.to_numeric(cells[name], errors="coerce")
    by_well = numbers.groupby([cells["plate"], cells["well"]], sort=True, dropna=False)
    is_of_row = (by_well.nunique() > 1).any()
    return np.asarray(by_well.sum(min_count=1) if is_of_row else by_well.first(), float)


def _with_plain_doses(table: pd.DataFrame) -> pd.DataFrame:
    if "dose_micromolar" not in table:
        return table
    doses = [float(f"{dose:.{DOSE_DIGITS}g}") for dose in table["dose_micromolar"].to_numpy(float)]
    return table.assign(dose_micromolar=np.array(doses, float))


def has_type(table: pd.DataFrame, control_type: str) -> np.ndarray:
    """Return which rows have this control type; none where the table does not say it."""
    if "control_type" not in table:
        return np.zeros(len(table), bool)
    return np.asarray([one == control_type for one in table["control_type"].astype(object).fillna("")], bool)


def _without_empty_wells(cells: pd.DataFrame, vectors: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    if "control_type" not in cells or not (empty := has_type(cells, EMPTY)).any():
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
    fields = rows_of_plates(source, planned_fields(segment))
    fields = _with_plain_doses(fields[~has_type(fields, EMPTY)])
    counted = fields.assign(kept=_kept_of_fields(segment, fields))
    known = [name for name in OF_WELL if name in fields]
    by_well = counted.groupby(["plate", "well"], sort=True, dropna=False)
    wells = by_well[known].first().reset_index() if known else by_well.size().reset_index()[["plate", "well"]]
    return wells.assign(cell_count=by_well["kept"].mean().to_numpy(float))


def _kept_of_fields(segment: Artifact, fields: pd.DataFrame) -> np.ndarray:
    """Return the number of cells that every field has kept; NaN for a field without a count."""
    from cellssl.profiling.wells import QUARANTINED

    if "dropped.parquet" not in segment.card.files:
        return np.full(len(fields), np.nan)
    cells = read_table(segment.file("cells.parquet"))
    kept = fields["field_id"].map(cells["field_id"].value_counts()).fillna(0).to_numpy(float)
    if "field_flags" not in fields:
        return kept
    return np.where((fields["field_flags"].fillna("") == QUARANTINED).to_numpy(bool), np.nan, kept)
