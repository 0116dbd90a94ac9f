"""profiles: vectors of cells, with plates, wells and treatments -> one profile per well and one per treatment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from cellssl.errors import DataError
from cellssl.profiling.labels import Labels, codes
from cellssl.profiling.moments import mean, std

WELL_COLUMNS = ("batch", "compound", "dose_micromolar", "moa", "control")
"""Columns that describe a well; copied where the cells have them."""
TREATMENT = ("compound", "dose_micromolar")
TREATMENT_IN_BATCH = (*TREATMENT, "batch")
Aggregate = Literal["median", "mean", "quantiles"]
QUANTILES = (0.1, 0.5, 0.9)
"""What `quantiles` puts side by side: all features at the first one, then all at the next."""


@dataclass(frozen=True)
class ConstantFeatures:
    """Features that do not vary among the controls of a plate, so that these give them no scale."""

    plates: Mapping[int, int]
    """Number of the feature -> number of plates on which it does not vary among controls."""
    without_scale: tuple[int, ...]
    """Those that vary nowhere, among no cells: they count for nothing."""


def constant_features(
    x: Float[np.ndarray, "n d"], plates: Labels, is_control: Bool[np.ndarray, "n"]
) -> ConstantFeatures:
    """Return the features that do not vary among the controls of a plate; differences by rounding do not count."""
    names, of_plate = codes(plates)
    on_plates = np.zeros(x.shape[1], np.int64)
    for number in range(len(names)):
        controls = x[is_control & (of_plate == number)]
        on_plates += ~_varies(controls) if len(controls) else 0
    columns = np.flatnonzero(on_plates)
    nowhere = columns[~_varies(x[:, columns])] if len(columns) else columns
    return ConstantFeatures({column: int(on_plates[column]) for column in columns.tolist()}, tuple(nowhere.tolist()))


def _varies(x: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, "d"]:
    """Return which features differ by more than rounding."""
    return np.asarray(std(x, mean(x)) > 0)


def well_profiles(
    cells: pd.DataFrame,
    x: Float[np.ndarray, "n d"],
    aggregate: Aggregate,
    columns: tuple[str, ...] = WELL_COLUMNS,
) -> tuple[pd.DataFrame, Float[np.ndarray, "wells _"]]:
    """Return one row per well, ordered by plate and well: plate, well, those of `columns` that the cells have, and the
    number of cells.

    Raises DataError where cells of one well differ in one of these columns.
    """
    known = [name for name in columns if name in cells]
    keyed = cells[["plate", "well", *known]].reset_index(drop=True)
    numbers = keyed.groupby(["plate", "well"], sort=True, dropna=False).ngroup().to_numpy()
    members = _members(numbers)
    for name in known:
        _check_alike(keyed, members, name)
    table = keyed.iloc[[rows[0] for rows in members]].reset_index(drop=True)
    table["cells"] = [len(rows) for rows in members]
    return table, _aggregated(x, members, aggregate)


def treatment_profiles(
    wells: pd.DataFrame, x: Float[np.ndarray, "wells d"], aggregate: Aggregate, keys: tuple[str, ...] = TREATMENT
) -> tuple[pd.DataFrame, Float[np.ndarray, "treatments d"]]:
    """Return one row per treatment: those of `keys` that the wells have, moa, and the number of wells.

    A treatment is a compound at a dose; with the keys `TREATMENT_IN_BATCH`, each batch has a treatment of its own.
    Control wells are not treatments. Raises DataError where one treatment has two mechanisms.
    """
    treated = wells["compound"].notna().to_numpy() & ~wells["control"].to_numpy(bool)
    of_treated, x = wells[treated].reset_index(drop=True), x[treated]
    known_keys = [name for name in keys if name in wells]
    members = _members(of_treated.groupby(known_keys, sort=True, dropna=False).ngroup().to_numpy())
    if "moa" in wells:
        _check_alike(of_treated, members, "moa")
    kept = [*known_keys, *(["moa"] if "moa" in wells else [])]
    table = of_treated.iloc[[rows[0] for rows in members]][kept].reset_index(drop=True)
    table["wells"] = [len(rows) for rows in members]
    return table, _aggregated(x, members, aggregate)


def _members(numbers: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each group."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else []


def _aggregated(x: Float[np.ndarray, "n d"], members: list[np.ndarray], aggregate: Aggregate) -> np.ndarray:
    """Return the median, mean or quantiles of each group, in float64, which is exact enough for the sum over a well."""
    combined: Mapping[str, Callable[..., np.ndarray]] = {"median": np.median, "mean": np.mean, "quantiles": _quantiles}
    found = [combined[aggregate](x[rows].astype(np.float64), axis=0) for rows in members]
    return np.stack(found) if found else np.empty((0, x.shape[1] * (len(QUANTILES) if aggregate == "quantiles" else 1)))


def _quantiles(x: Float[np.ndarray, "n d"], axis: int) -> Float[np.ndarray, "_"]:
    return np.asarray(np.quantile(x, QUANTILES, axis=axis, method="median_unbiased").ravel())


def _check_alike(table: pd.DataFrame, members: list[np.ndarray], name: str) -> None:
    values = table[name].to_numpy(object)
    for rows in members:
        if len(found := pd.unique(values[rows])) > 1:
            first = table.iloc[rows[0]]
            where = " ".join(str(first[key]) for key in ("plate", "well", *TREATMENT[:1]) if key in table)
            raise DataError(
                f"{where}: more than one {name}: {', '.join(map(str, found[:3]))}",
                hint="a well has one treatment, and a treatment has one mechanism; correct the table",
            )
