"""selection: the results of a plate's fields in, tables of its nuclei with the reasons of the rejected ones out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.imaging.selection import REASONS
from cellssl.stages.segment.field import FIELD_COLUMNS, MEASURED, FieldTask

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.segment.settings import Quality

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
}
"""Column of the cell table -> its name in CellProfiler."""


def iter_results(done: Iterable[FieldTask]) -> Iterator[tuple[FieldTask, Any]]:
    """Yield one result at a time: a plate may have more fields than a process may have open files."""
    for task in done:
        with np.load(task.result, allow_pickle=False) as arrays:
            yield task, arrays


def nuclei_table(done: Iterable[FieldTask]) -> pd.DataFrame:
    """Return one row per detected nucleus; those within the limits have a cell_id and no `reason`.

    The number in a cell_id is the label of the nucleus in the label image that `keep_labels` writes.
    """
    import pandas as pd

    tables = [_nuclei_of_field(task, arrays) for task, arrays in iter_results(done)]
    return pd.concat(tables, ignore_index=True)


def _nuclei_of_field(task: FieldTask, arrays: Any) -> pd.DataFrame:
    import pandas as pd

    rejected = arrays["rejected"]
    names = [f"{task.field_id}_{number:04d}" for number in np.cumsum(rejected == 0)]
    table = pd.DataFrame({name: arrays[name] for name in MEASURED})
    table.insert(0, "cell_id", pd.Series(names, dtype="string").where(rejected == 0))
    table.insert(1, "field_id", pd.Series([task.field_id] * len(rejected), dtype="string"))
    reasons = [REASONS[number - 1] if number else None for number in rejected]
    table["reason"] = pd.Series(reasons, dtype="string")
    if "true_label" in arrays:
        true = [task.phenotypes.get(int(label)) for label in arrays["true_label"]]
        table["true_phenotype"] = pd.Series(true, dtype="string")
    return table


def field_table(fields: pd.DataFrame, done: Iterable[FieldTask], nuclei: pd.DataFrame, limits: Quality) -> pd.DataFrame:
    """Add quality measures and flags to the fields; a field without a result is flagged as quarantined."""
    measured = {task.field_id: arrays["field_quality"] for task, arrays in iter_results(done)}
    table = fields.copy()
    for place, column in enumerate(FIELD_COLUMNS):
        table[column] = [measured[one][place] if one in measured else np.nan for one in table["field_id"]]
    detected = nuclei["field_id"].value_counts()
    table["field_nuclei"] = [int(detected.get(one, 0)) for one in table["field_id"]]
    table["field_flags"] = field_flags(table, limits).where(table["field_id"].isin(list(measured)), "quarantined")
    return table


def field_flags(fields: pd.DataFrame, limits: Quality) -> pd.Series:
    """Return the flags of each field, joined by commas; empty where no limit is exceeded."""
    import pandas as pd

    exceeded = {
        "empty": fields["field_nuclei"] < limits.field_min_nuclei,
        "blurred": fields["field_focus"] < limits.field_min_focus,
        "saturated": fields["field_saturated"] > limits.field_max_saturated,
        "artefact": fields["field_stray"] > limits.field_max_outside_nuclei,
    }
    rows = zip(*exceeded.values(), strict=True)
    joined = [",".join(name for name, hit in zip(exceeded, row, strict=True) if hit) for row in rows]
    return pd.Series(joined, fields.index, dtype="string")


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
    return cells[list(NUCLEI_CSV)].rename(columns=NUCLEI_CSV)
