"""selection: what was found in a plate's fields in, which nuclei become cells and why others do not, as tables, out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.imaging.selection import REASONS
from cellssl.stages.segment.field import MEASURED, OF_FIELD, FieldTask

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.segment.settings import Quality

ALL_REASONS = (*REASONS, "flagged_field", "over_cap")
"""Why a nucleus that was found is no cell; in every table of counts, detected = kept + the sum over these."""
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
"""Columns of the cell table under CellProfiler's names."""


def opened(done: Iterable[FieldTask]) -> Iterator[tuple[FieldTask, Any]]:
    """One result at a time: a plate has more fields than a process may have open files."""
    for task in done:
        with np.load(task.result, allow_pickle=False) as contents:
            yield task, contents


def nuclei_table(done: Iterable[FieldTask]) -> pd.DataFrame:
    """Every nucleus that was found; `reason` is missing for those within the limits, and those have a cell_id.

    The number in a cell_id is the nucleus' value in the label image that `keep_labels` writes.
    """
    import pandas as pd

    tables = [_of_field(task, contents) for task, contents in opened(done)]
    return pd.concat(tables, ignore_index=True)


def _of_field(task: FieldTask, contents: Any) -> pd.DataFrame:
    import pandas as pd

    lost = contents["lost"]
    names = [f"{task.field_id}_{number:04d}" for number in np.cumsum(lost == 0)]
    table = pd.DataFrame({name: contents[name] for name in MEASURED})
    table.insert(0, "cell_id", pd.Series(names, dtype="string").where(lost == 0))
    table.insert(1, "field_id", pd.Series([task.field_id] * len(lost), dtype="string"))
    table["reason"] = pd.Series([REASONS[why - 1] if why else None for why in lost], dtype="string")
    if "true_label" in contents:
        true = [task.phenotypes.get(int(label)) for label in contents["true_label"]]
        table["true_phenotype"] = pd.Series(true, dtype="string")
    return table


def field_table(fields: pd.DataFrame, done: Iterable[FieldTask], nuclei: pd.DataFrame, limits: Quality) -> pd.DataFrame:
    """The fields with what was measured of each, and its flags; a field without a result is flagged as quarantined."""
    measured = {task.field_id: contents["of_field"] for task, contents in opened(done)}
    table = fields.copy()
    for place, name in enumerate(OF_FIELD):
        table[f"field_{name}"] = [measured[one][place] if one in measured else np.nan for one in table["field_id"]]
    found = nuclei["field_id"].value_counts()
    table["field_nuclei"] = [int(found.get(one, 0)) for one in table["field_id"]]
    table["field_flags"] = flags(table, limits).where(table["field_id"].isin(list(measured)), "quarantined")
    return table


def flags(fields: pd.DataFrame, limits: Quality) -> pd.Series:
    """What is the matter with each field, joined by commas; empty where nothing is."""
    import pandas as pd

    wrong = {
        "empty": fields["field_nuclei"] < limits.field_min_nuclei,
        "blurred": fields["field_focus"] < limits.field_min_focus,
        "saturated": fields["field_saturated"] > limits.field_max_saturated,
        "artefact": fields["field_stray"] > limits.field_max_outside_nuclei,
    }
    rows = zip(*wrong.values(), strict=True)
    joined = [",".join(name for name, hit in zip(wrong, row, strict=True) if hit) for row in rows]
    return pd.Series(joined, fields.index, dtype="string")


def chosen(nuclei: pd.DataFrame, fields: pd.DataFrame, limits: Quality, cells_per_well: int | None) -> pd.DataFrame:
    """The nuclei with the reasons that concern more than one of them: a flagged field, too many cells in a well."""
    nuclei = nuclei.copy()
    of_field = fields.set_index("field_id")
    flagged = {
        field_id
        for field_id, names in of_field["field_flags"].items()
        if set(names.split(",")) & set(limits.drop_fields)
    }
    nuclei.loc[nuclei["reason"].isna() & nuclei["field_id"].isin(flagged), "reason"] = "flagged_field"
    if cells_per_well is not None:
        nuclei.loc[_beyond(nuclei, of_field["well"], cells_per_well), "reason"] = "over_cap"
    return nuclei


def _beyond(nuclei: pd.DataFrame, wells: pd.Series, most: int) -> pd.Index:
    """Rows that are drawn last of a well with more than `most`; the lot of a cell is a hash of its name."""
    from cellssl.randomness import cell_keys

    left = nuclei[nuclei["reason"].isna()]
    lots = left.assign(well=left["field_id"].map(wells), lot=cell_keys(left["cell_id"])).sort_values("lot")
    return lots.index[lots.groupby("well").cumcount() >= most]


def cells_of(nuclei: pd.DataFrame) -> pd.DataFrame:
    """The rows that are cells, with the row of their crop."""
    cells = nuclei[nuclei["reason"].isna()].drop(columns="reason").reset_index(drop=True)
    cells["crop_row"] = np.arange(len(cells))
    return cells


def counts_of(nuclei: pd.DataFrame, fields: int, quarantined: int) -> dict[str, int]:
    """How many were found, how many went for each reason, and how many are left."""
    why = nuclei["reason"].value_counts()
    lost = {reason: int(why.get(reason, 0)) for reason in ALL_REASONS}
    kept = int(nuclei["reason"].isna().sum())
    return {"fields": fields, "quarantined": quarantined, "detected": len(nuclei), **lost, "kept": kept}


def as_cellprofiler(cells: pd.DataFrame) -> pd.DataFrame:
    """Positions and shapes under the names that CellProfiler gives them."""
    return cells[list(NUCLEI_CSV)].rename(columns=NUCLEI_CSV)
