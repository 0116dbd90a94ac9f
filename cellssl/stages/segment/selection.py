"""selection: the nuclei of a plate and the settings in, the reason of every rejected one, and the kept ones, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.quality import count_neighbours
from cellssl.imaging.selection import REASONS, rejection_reasons
from cellssl.stages.segment.field import FIELD_SIDES

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.segment.settings import Quality, Settings

ALL_REASONS = (*REASONS, "flagged_field", "over_cap")
"""Why a detected nucleus does not become a cell; in every table of counts, detected = kept + the sum over these."""
NUCLEI_CSV = {
    "plate": "Metadata_Plate",
    "well": "Metadata_Well",
    "site": "Metadata_Site",
    "cell_id": "Metadata_Cell",
    "column_px": "Nuclei_Location_Center_X",
    "row_px": "Nuclei_Location_Center_Y",
    "area_px": "Nuclei_AreaShape_Area",
    "eccentricity": "Nuclei_AreaShape_Eccentricity",
    "solidity": "Nuclei_AreaShape_Solidity",
    "neighbours": "Nuclei_Neighbors_NumberOfNeighbors",
    "nearest_px": "Nuclei_Neighbors_FirstClosestDistance",
    "second_nearest_px": "Nuclei_Neighbors_SecondClosestDistance",
    "touching": "Nuclei_Neighbors_NumberOfNeighbors_Adjacent",
    "percent_touching": "Nuclei_Neighbors_PercentTouching_Adjacent",
}
"""Column of the cell table -> its name in CellProfiler."""


def select_nuclei(nuclei: pd.DataFrame, fields: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Return all nuclei with the reason of every rejected one; those within the limits have a cell_id.

    The number in a cell_id is the label of the nucleus in the label image that `keep_labels` writes.
    """
    rejected = reject_by_limits(nuclei, fields, settings)
    return reject_groups(_with_reasons(nuclei, rejected, settings), fields, settings.quality, settings.cells_per_well)


def reject_by_limits(nuclei: pd.DataFrame, fields: pd.DataFrame, settings: Settings) -> np.ndarray:
    """Return for every nucleus 0 where it is within the limits, else the position of its reason in REASONS, from 1."""
    of_field = fields.set_index("field_id")
    columns = {str(name): nuclei[name].to_numpy() for name in nuclei}
    columns |= {name: nuclei["field_id"].map(of_field[name]).to_numpy(float) for name in FIELD_SIDES}
    return rejection_reasons(columns, settings.limits())


def _with_reasons(nuclei: pd.DataFrame, rejected: np.ndarray, settings: Settings) -> pd.DataFrame:
    import pandas as pd

    within = pd.Series(rejected == 0, nuclei.index)
    numbers = within.groupby(nuclei["field_id"]).cumsum()
    names = [f"{field_id}_{number:04d}" for field_id, number in zip(nuclei["field_id"], numbers, strict=True)]
    table = nuclei.drop(columns="at_edge")
    table.insert(0, "cell_id", pd.Series(names, table.index, dtype="string").where(within))
    table.insert(list(table).index("eccentricity") + 1, "neighbours", _neighbours(nuclei, settings.crop_px / 2))
    reasons = [REASONS[number - 1] if number else None for number in rejected]
    table.insert(len(table.columns), "reason", pd.Series(reasons, table.index, dtype="string"))
    return table


def _neighbours(nuclei: pd.DataFrame, radius_px: float) -> np.ndarray:
    """Count for each nucleus the others of its field, kept or rejected, whose centre is within `radius_px`."""
    counts = np.zeros(len(nuclei), np.int64)
    centres = nuclei[["row_px", "column_px"]].to_numpy()
    for rows in nuclei.groupby("field_id", sort=False).indices.values():
        counts[rows] = count_neighbours(centres[rows], radius_px)
    return counts


def field_flags(fields: pd.DataFrame, limits: Quality) -> pd.Series:
    """Return the flags of each field, joined by commas; empty where no limit is exceeded.

    A field without a size was not segmented: it is flagged as quarantined.
    """
    import pandas as pd

    exceeded = {
        "empty": fields["field_nuclei"] < limits.field_min_nuclei,
        "blurred": fields["field_focus"] < limits.field_min_focus,
        "saturated": fields["field_saturated"] > limits.field_max_saturated,
        "artefact": fields["field_stray"] > limits.field_max_outside_nuclei,
    }
    rows = zip(*exceeded.values(), strict=True)
    joined = [",".join(name for name, hit in zip(exceeded, row, strict=True) if hit) for row in rows]
    flags = pd.Series(joined, fields.index, dtype="string")
    return flags.where(fields["field_height_px"].notna(), "quarantined")


def reject_groups(
    nuclei: pd.DataFrame, fields: pd.DataFrame, limits: Quality, cells_per_well: int | None
) -> pd.DataFrame:
    """Add the reasons that depend on a whole field or well: a flagged field, too many cells in a well."""
    nuclei = nuclei.copy()
    of_field = fields.set_index("field_id")
    flagged = {
        field_id
        for field_id, names in of_field["field_flags"].items()
        if set(names.split(",")) & set(limits.drop_fields)
    }
    nuclei.loc[nuclei["reason"].isna() & nuclei["field_id"].isin(flagged), "reason"] = "flagged_field"
    if cells_per_well is not None:
        nuclei.loc[_over_cap(nuclei, of_field["well"], cells_per_well), "reason"] = "over_cap"
    return nuclei


def _over_cap(nuclei: pd.DataFrame, wells: pd.Series, cells_per_well: int) -> pd.Index:
    """Return the rows beyond `cells_per_well` of every well in random order, which is that of a hash of the cell_id."""
    from cellssl.randomness import cell_keys

    kept = nuclei[nuclei["reason"].isna()]
    shuffled = kept.assign(well=kept["field_id"].map(wells), key=cell_keys(kept["cell_id"])).sort_values("key")
    return shuffled.index[shuffled.groupby("well").cumcount() >= cells_per_well]


def kept_cells(nuclei: pd.DataFrame) -> pd.DataFrame:
    """Return the nuclei without a reason, with the row of their crop."""
    cells = nuclei[nuclei["reason"].isna()].drop(columns="reason").reset_index(drop=True)
    cells["crop_row"] = np.arange(len(cells))
    return cells


def count_nuclei(nuclei: pd.DataFrame, fields: int, quarantined: int) -> dict[str, int]:
    """Count the nuclei that were detected, rejected for each reason, and kept."""
    counts = nuclei["reason"].value_counts()
    rejected = {reason: int(counts.get(reason, 0)) for reason in ALL_REASONS}
    kept = int(nuclei["reason"].isna().sum())
    return {"fields": fields, "quarantined": quarantined, "detected": len(nuclei), **rejected, "kept": kept}


def as_cellprofiler(cells: pd.DataFrame) -> pd.DataFrame:
    """Return positions and shapes under CellProfiler's column names."""
    cells = cells.assign(percent_touching=100 * (1 - cells["free_border"]))
    return cells[list(NUCLEI_CSV)].rename(columns=NUCLEI_CSV)
