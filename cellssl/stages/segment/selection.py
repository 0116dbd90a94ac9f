"""selection: the nuclei of a plate and the settings in, the reason of every rejected one, and the kept ones, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellssl.errors import UsageError
from cellssl.imaging.quality import count_neighbours
from cellssl.imaging.selection import REASONS, Limits, rejection_reasons
from cellssl.stages.segment.counts import ALL_REASONS
from cellssl.stages.segment.field import FIELD_SIDES

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.segment.settings import AreaLimit, Quality, Settings

LARGEST_WINDOW_PX = 16_384
"""A window of more pixels of a field comes from a wrong size of a pixel."""
NUCLEI_CSV = {
    "plate": "Metadata_Plate",
    "well": "Metadata_Well",
    "site": "Metadata_Site",
    "cell_id": "Metadata_Cell",
    "column_px": "Nuclei_Location_Center_X",
    "row_px": "Nuclei_Location_Center_Y",
    "area_px": "Nuclei_AreaShape_Area",
    "eccentricity": "Nuclei_AreaShape_Eccentricity",
    "neighbours": "Nuclei_Neighbors_NumberOfNeighbors",
    "nearest_px": "Nuclei_Neighbors_FirstClosestDistance",
    "second_nearest_px": "Nuclei_Neighbors_SecondClosestDistance",
    "touching": "Nuclei_Neighbors_NumberOfNeighbors_Adjacent",
    "percent_touching": "Nuclei_Neighbors_PercentTouching_Adjacent",
}
"""Column of the cell table -> its name in CellProfiler. Not `solidity`: CellProfiler takes another convex hull."""


def select_nuclei(nuclei: pd.DataFrame, fields: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Return all nuclei with the reason of every rejected one; those within the limits have a cell_id.

    The number in a cell_id is the label of the nucleus in the label image that `keep_labels` writes.
    """
    rejected = reject_by_limits(nuclei, fields, settings)
    neighbours = _neighbours(nuclei, fields, settings)
    return reject_groups(_with_reasons(nuclei, rejected, neighbours), fields, settings.quality, settings.cells_per_well)


def reject_by_limits(nuclei: pd.DataFrame, fields: pd.DataFrame, settings: Settings) -> np.ndarray:
    """Return for every nucleus 0 where it is within the limits, else the position of its reason in REASONS, from 1."""
    of_field = fields.set_index("field_id")
    columns = {str(name): nuclei[name].to_numpy() for name in nuclei}
    columns |= {name: nuclei["field_id"].map(of_field[name]).to_numpy(float) for name in FIELD_SIDES}
    pixel_um = nuclei["field_id"].map(of_field["pixel_um"]).to_numpy(float)
    return rejection_reasons(columns, _limits(settings, pixel_um))


def check_pixel_sizes(settings: Settings, fields: pd.DataFrame) -> None:
    """Raise UsageError where a setting in micrometres meets fields whose pixel size is unknown or cannot be right."""
    needing = settings.needing_pixel_um()
    unknown = fields["field_id"][fields["pixel_um"].isna()]
    if needing and len(unknown):
        raise UsageError(
            f"segment.{' and segment.'.join(needing)} cannot be applied to plate {fields['plate'].iloc[0]}: the size "
            f"of a pixel is not known for {len(unknown):,} of {len(fields):,} fields; first: {unknown.iloc[0]}",
            hint=f"set fetch.dataset.pixel_um, or {', and '.join(needing.values())}",
        )
    if settings.crop_um is not None:
        _check_windows(settings.crop_um, fields)


def check_areas(settings: Settings, fields: pd.DataFrame) -> None:
    """Raise UsageError where the limits of the area, of which one may be a default, leave no nucleus of some field."""
    pixel_um = fields["pixel_um"].to_numpy(float)
    smallest, largest = settings.area_limit("min_area"), settings.area_limit("max_area")
    (wrong,) = np.nonzero(_area_px(smallest, pixel_um) > _area_px(largest, pixel_um))
    if not len(wrong):
        return
    size_um = pixel_um[wrong[0]]
    units = ["px" if limit.um2 is None or np.isnan(size_um) else "um2" for limit in (smallest, largest)]
    words, cure = settings.area_contradiction(units[0], units[1])
    pixels = "the size of whose pixels is not known" if np.isnan(size_um) else f"whose pixels are of {size_um:g} um"
    raise UsageError(f"segment.{words} in plate {fields['plate'].iloc[0]}, {pixels}", hint=cure)


def _check_windows(crop_um: float, fields: pd.DataFrame) -> None:
    """Raise UsageError where a window has so few or so many pixels that the size of a pixel cannot be right."""
    windows_px = crop_um / fields["pixel_um"].to_numpy(float)
    wrong = windows_px[(windows_px < 1) | (windows_px > LARGEST_WINDOW_PX)]
    if len(wrong):
        raise UsageError(
            f"segment.crop_um = {crop_um:g} is a window of {wrong[0]:,.1f} pixels in plate {fields['plate'].iloc[0]}, "
            f"whose pixels are of {crop_um / wrong[0]:.4g} um",
            hint="correct fetch.dataset.pixel_um or segment.crop_um",
        )


def window_sides_px(settings: Settings, pixel_um: np.ndarray) -> np.ndarray:
    """Return the side of a window in pixels of the field, for every one of these sizes of a pixel."""
    if settings.crop_um is None:
        return np.full(len(pixel_um), float(settings.crop_px))
    return np.asarray(settings.crop_um / pixel_um)


def _limits(settings: Settings, pixel_um: np.ndarray) -> Limits:
    """Return the limits of nuclei in fields with these pixel sizes."""
    quality = settings.quality
    return Limits(
        _area_px(settings.area_limit("min_area"), pixel_um),
        _area_px(settings.area_limit("max_area"), pixel_um),
        window_sides_px(settings, pixel_um) if settings.border == "drop" else None,
        quality.min_solidity,
        quality.max_saturated,
        quality.min_focus,
    )


def _area_px(limit: AreaLimit, pixel_um: np.ndarray) -> np.ndarray:
    """Return a limit in pixels, for every one of these sizes of a pixel; nan where the size is not known."""
    in_px = np.full(len(pixel_um), np.nan if limit.px is None else limit.px)
    return in_px if limit.um2 is None else np.where(np.isnan(pixel_um), in_px, limit.um2 / pixel_um**2)


def _with_reasons(nuclei: pd.DataFrame, rejected: np.ndarray, neighbours: np.ndarray) -> pd.DataFrame:
    import pandas as pd

    within = pd.Series(rejected == 0, nuclei.index)
    numbers = within.groupby(nuclei["field_id"]).cumsum()
    names = [f"{field_id}_{number:04d}" for field_id, number in zip(nuclei["field_id"], numbers, strict=True)]
    table = nuclei.drop(columns="at_edge")
    table.insert(0, "cell_id", pd.Series(names, table.index, dtype="string").where(within))
    table.insert(list(table).index("eccentricity") + 1, "neighbours", neighbours)
    reasons = [REASONS[number - 1] if number else None for number in rejected]
    table.insert(len(table.columns), "reason", pd.Series(reasons, table.index, dtype="string"))
    return table


def _neighbours(nuclei: pd.DataFrame, fields: pd.DataFrame, settings: Settings) -> np.ndarray:
    """Count for each nucleus the others of its field, kept or rejected, whose centre is within half a window."""
    counts = np.zeros(len(nuclei), np.int64)
    centres = nuclei[["row_px", "column_px"]].to_numpy()
    windows_px = window_sides_px(settings, fields["pixel_um"].to_numpy(float))
    radius_px = dict(zip(fields["field_id"], windows_px / 2, strict=True))
    for field_id, rows in nuclei.groupby("field_id", sort=False).indices.items():
        counts[rows] = count_neighbours(centres[rows], radius_px[field_id])
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
    assert len(nuclei) == kept + sum(rejected.values()), "a nucleus has a reason that is not known"
    return {"fields": fields, "quarantined": quarantined, "detected": len(nuclei), **rejected, "kept": kept}


def as_cellprofiler(cells: pd.DataFrame) -> pd.DataFrame:
    """Return positions and shapes under CellProfiler's column names."""
    cells = cells.assign(percent_touching=100 * (1 - cells["free_border"]))
    return cells[list(NUCLEI_CSV)].rename(columns=NUCLEI_CSV)
