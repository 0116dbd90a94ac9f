"""wells: embeddings and clusters of cells -> one row per well: share of each cluster, distance from controls."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from cellssl.errors import DataError
from cellssl.profiling.clusterer import NOISE

WELL_COLUMNS = ("compound", "dose_micromolar")
"""Columns that describe the content of a well; copied where the cells have them."""
FEATURES_AT_ONCE = 32
NORMAL_MAD = 1.4826
"""For normally distributed numbers, the median absolute deviation times this factor is the standard deviation."""


def well_table(
    cells: pd.DataFrame,
    x: Float[np.ndarray, "n d"],
    assignment: Int[np.ndarray, "n"],
    clusters: int,
    is_control: Bool[np.ndarray, "n"],
) -> pd.DataFrame:
    """Return one row per well, ordered by plate and well.

    `cells` has the columns plate and well, and compound and dose_micromolar if they are known. The result has
    plate, well, compound, dose_micromolar, control, cells, share_of_cluster_0 ..., distance_from_controls; and
    share_of_noise before the last column, where there is noise.
    """
    keyed = cells[["plate", "well", *(name for name in WELL_COLUMNS if name in cells)]].reset_index(drop=True)
    keyed["control"] = is_control
    of_well = keyed.groupby(["plate", "well"], sort=True, dropna=False).ngroup().to_numpy()
    members = [np.flatnonzero(of_well == well) for well in range(of_well.max() + 1)]
    for rows in members:
        _check_one_content(keyed.iloc[rows])
    table = keyed.iloc[[rows[0] for rows in members]].reset_index(drop=True)
    table["cells"] = [len(rows) for rows in members]
    counts = np.stack([np.bincount(assignment[rows] - NOISE, minlength=clusters - NOISE) for rows in members])
    shares = counts / table["cells"].to_numpy()[:, None]
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
    plates, control = table["plate"].to_numpy(), table["control"].to_numpy()
    found = np.empty(len(table))
    for plate in pd.unique(plates):
        own = np.flatnonzero(plates == plate)
        controls = own[control[own]]
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


def _check_one_content(cells: pd.DataFrame) -> None:
    plate, well = cells["plate"].iloc[0], cells["well"].iloc[0]
    for name in (*WELL_COLUMNS, "control"):
        if name in cells and cells[name].nunique(dropna=False) > 1:
            values = ", ".join(str(value) for value in cells[name].unique()[:3])
            raise DataError(
                f"well {well} of plate {plate} has more than one {name}: {values}",
                hint="a well has one treatment; correct the field table",
            )
