"""wells: fields, cells and clusters -> one row per well: counts, share of each cluster, distance from controls."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cellssl.errors import DataError
from cellssl.profiling.clusterer import NOISE
from cellssl.profiling.moments import NORMAL_MAD

WELL_COLUMNS = ("compound", "dose_micromolar")
"""Columns that describe the content of a well; copied where the fields have them."""
COUNTS = ("n_fields", "n_fields_quarantined", "n_detected", "n")
"""Columns that say what segmentation found in a well."""
QUARANTINED = "quarantined"
"""The flag of a field that could not be segmented."""
FEATURES_AT_ONCE = 32


def count_wells(fields: pd.DataFrame, cells: pd.DataFrame, dropped: pd.DataFrame | None) -> pd.DataFrame:
    """Return one row per well of the field table, ordered by plate and well, with what segmentation found in it.

    The columns are plate, well, compound and dose_micromolar if they are known, control, n_fields,
    n_fields_quarantined, n_detected (nuclei) and n (cells kept); a well without any cell has 0. `dropped` are the
    rejected nuclei, None where nothing was segmented. Raises DataError for a well with two treatments.
    """
    kept = fields["field_id"].map(cells["field_id"].value_counts()).fillna(0).astype(int)
    rejected = 0 if dropped is None else fields["field_id"].map(dropped["field_id"].value_counts()).fillna(0)
    flags = fields["field_flags"] if "field_flags" in fields else pd.Series("", fields.index)
    counted = fields.assign(
        n_fields=1,
        n_fields_quarantined=(flags == QUARANTINED).astype(int),
        n_detected=(kept + rejected).astype(int),
        n=kept,
    )
    known = [*(name for name in WELL_COLUMNS if name in fields), "control"]
    _check_one_content(fields, known)
    wells = fields[["plate", "well", *known]].drop_duplicates(["plate", "well"])
    sums = counted.groupby(["plate", "well"], sort=True, dropna=False)[list(COUNTS)].sum().reset_index()
    return wells.merge(sums, on=["plate", "well"]).sort_values(["plate", "well"], kind="stable", ignore_index=True)


def well_table(
    wells: pd.DataFrame,
    drawn: pd.DataFrame,
    x: Float[np.ndarray, "n d"],
    assignment: Int[np.ndarray, "n"],
    clusters: int,
) -> pd.DataFrame:
    """Return the wells with what the cells drawn from each say about it.

    `wells` is made by `count_wells`; `drawn` has the columns plate and well. The new columns are n_drawn,
    share_of_cluster_0 ..., share_of_noise where there is noise, and distance_from_controls. Shares and distance of a
    well without a drawn cell are missing.
    """
    keys = wells[["plate", "well"]].assign(row=np.arange(len(wells)))
    row = drawn[["plate", "well"]].merge(keys, how="left", validate="many_to_one")["row"].to_numpy(int)
    members = [np.flatnonzero(row == well) for well in range(len(wells))]
    table = wells.assign(n_drawn=[len(rows) for rows in members])
    counts = np.stack([np.bincount(assignment[rows] - NOISE, minlength=clusters - NOISE) for rows in members])
    n_drawn = table["n_drawn"].to_numpy(float)[:, None]
    shares = np.divide(counts, n_drawn, out=np.full(counts.shape, np.nan), where=n_drawn > 0)
    columns = {f"share_of_cluster_{cluster}": shares[:, cluster - NOISE] for cluster in range(clusters)}
    if counts[:, 0].any():
        columns["share_of_noise"] = shares[:, 0]
    columns["distance_from_controls"] = _distances(table, x, members)
    return table.join(pd.DataFrame(columns))


def distance_from_controls(profile: Float[np.ndarray, "d"], control_wells: list[Float[np.ndarray, "_ d"]]) -> float:
    """Return the Euclidean distance of a well's mean profile from the mean over control wells (each counts once).

    Every feature is divided by the scale of single control cells: 1.4826 x MAD, or their standard deviation where
    the MAD is 0. A feature that does not vary among control cells is left out. NaN without control wells.
    """
    return float(Controls.of(control_wells, len(profile)).distance(profile))


@dataclass(frozen=True)
class Controls:
    """Centre and scale of control wells, per feature; a feature that does not vary among their cells has scale 0."""

    centre: Float[np.ndarray, "d"]
    scale: Float[np.ndarray, "d"]

    @classmethod
    def of(cls, control_wells: list[Float[np.ndarray, "_ d"]], dim: int) -> "Controls":
        """Count each well once for the centre, and each cell for the scale; without wells, all distances are NaN."""
        if not control_wells:
            return cls(np.full(dim, np.nan), np.ones(dim))
        centre = np.mean([cells.mean(axis=0, dtype=np.float64) for cells in control_wells], axis=0)
        return cls(centre, _scale(np.concatenate(control_wells)))

    def distance(self, profile: Float[np.ndarray, "d"]) -> float:
        """Return the distance of a profile from the centre, in units of the scale."""
        varies = self.scale > 0
        return float(np.linalg.norm((profile - self.centre)[varies] / self.scale[varies]))


def _distances(
    table: pd.DataFrame, x: Float[np.ndarray, "n d"], members: list[np.ndarray]
) -> Float[np.ndarray, "wells"]:
    """Compare treated wells with all control wells of their plate, and a control well with the other control wells."""
    plates, control = table["plate"].to_numpy(), table["control"].to_numpy(bool)
    found = np.full(len(table), np.nan)
    for plate in pd.unique(plates):
        own = [well for well in np.flatnonzero(plates == plate) if len(members[well])]
        controls = [well for well in own if control[well]]
        of_plate = Controls.of([x[members[well]] for well in controls], x.shape[1])
        for well in own:
            against = of_plate
            if control[well]:
                others = [x[members[other]] for other in controls if other != well]
                against = Controls.of(others, x.shape[1])
            found[well] = against.distance(x[members[well]].mean(axis=0, dtype=np.float64))
    return found


def _scale(cells: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d"]:
    # a few at a time: medians make copies, and a plate may have a million cells
    features = range(0, cells.shape[1], FEATURES_AT_ONCE)
    return np.concatenate([_scale_of(cells[:, start : start + FEATURES_AT_ONCE]) for start in features])


def _scale_of(cells: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d"]:
    features = np.ascontiguousarray(cells.T, dtype=np.float64)  # the median of contiguous memory takes half the time
    mad = NORMAL_MAD * np.median(np.abs(features - np.median(features, axis=1, keepdims=True)), axis=1)
    scale: np.ndarray = np.where(mad > 0, mad, features.std(axis=1))
    return scale


def _check_one_content(fields: pd.DataFrame, names: list[str]) -> None:
    groups = fields.groupby(["plate", "well"], sort=True, dropna=False)
    for name in names:
        differing = groups[name].nunique(dropna=False)
        if (differing > 1).any():
            plate, well = differing.index[differing > 1][0]
            values = fields.loc[(fields["plate"] == plate) & (fields["well"] == well), name].unique()[:3]
            raise DataError(
                f"well {well} of plate {plate} has more than one {name}: {', '.join(map(str, values))}",
                hint="a well has one treatment; correct the field table",
            )
