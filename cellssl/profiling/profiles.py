"""profiles: vectors of cells, with plates, wells and treatments -> one profile per well and one per treatment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from cellssl.errors import DataError, UsageError
from cellssl.profiling import normalise
from cellssl.profiling.labels import codes
from cellssl.profiling.normalise import Normaliser

WELL_COLUMNS = ("batch", "compound", "dose_micromolar", "moa", "control")
"""Columns that describe a well; copied where the cells have them."""
TREATMENT = ("compound", "dose_micromolar")
TREATMENT_IN_BATCH = (*TREATMENT, "batch")
Aggregate = Literal["median", "mean"]
RATIO_FEATURES = 200
"""Features from which a usual ratio is computed; more would take time and change little."""


@dataclass(frozen=True)
class ConstantFeatures:
    """Features that do not vary among the controls of a plate, so that these give them no scale."""

    plates: Mapping[int, int]
    """Number of the feature -> number of plates on which it does not vary among controls."""
    without_scale: tuple[int, ...]
    """Those that vary nowhere on any plate, or for sphering among no controls: they count for nothing."""


def normalise_by_controls(
    how: str,
    x: Float[np.ndarray, "n d"],
    plates: pd.Series,
    is_control: Bool[np.ndarray, "n"],
    key: str = "fetch.controls",
) -> tuple[Float[np.ndarray, "n _"], ConstantFeatures]:
    """Normalise every plate by its own controls; also return which features do not vary among them.

    `robust_z` uses the median and 1.4826 MAD of the controls; `percentile` maps their 1st percentile to 0 and their
    99th to 1, as in Ljosa et al. 2013, doi:10.1177/1087057113503553. `sphering` does the same as `percentile`, then
    whitens by the controls of all plates together (the first part of typical variation normalisation, Ando et al. 2017,
    doi:10.1101/161422).

    A feature that does not vary among the controls of a plate (or whose percentiles are equal there) has no scale of
    its own. It gets its median scale on the plates where it has one; else its scale over all cells, divided by the
    median over other features of this scale and that of controls. So a feature in which only treated cells differ
    counts as much as a usual one. scikit-learn's scale of 1 would depend on its unit, and pycytominer's epsilon would
    let it outweigh all others.
    Raises UsageError where a plate has fewer than two controls; `key` is the setting that names the controls.
    """
    if how == "none":
        return x, ConstantFeatures({}, ())
    for_plate = "percentile" if how == "sphering" else how
    names, of_plate = codes(plates)
    fitted = []
    for number, plate in enumerate(names):
        rows = np.flatnonzero(of_plate == number)
        controls = rows[is_control[rows]]
        if len(controls) < 2:
            raise UsageError(
                f"plate {plate} has {len(controls)} controls, but normalising it needs two or more",
                hint=f'name the controls in {key}, or set evaluate.profiles.normalise = "none"',
            )
        fitted.append(normalise.fit(for_plate, x[controls]))
    fitted, constant = _with_scales(fitted, for_plate, x, of_plate)
    out = np.empty_like(x)
    for number, normaliser in enumerate(fitted):
        rows = of_plate == number
        out[rows] = normaliser.apply(x[rows])
    if how != "sphering":
        return out, constant
    if not np.ptp(out[is_control], axis=0).any():
        raise UsageError(
            "all controls have the same vector, so sphering is not possible",
            hint='the encoder has collapsed: check the training curves, or set evaluate.profiles.normalise = "none"',
        )
    lost = tuple(feature for feature, plates in constant.plates.items() if plates == len(names))
    return normalise.fit("sphering", out[is_control]).apply(out), replace(constant, without_scale=lost)


def _with_scales(
    fitted: list[Normaliser], for_plate: str, x: Float[np.ndarray, "n d"], of_plate: Int[np.ndarray, "n"]
) -> tuple[list[Normaliser], ConstantFeatures]:
    """Give every feature a scale on the plates where its controls have none, if it varies anywhere."""
    scales = np.stack([normaliser.scale for normaliser in fitted])  # infinite where the controls do not vary
    missing = ~np.isfinite(scales)
    columns = np.flatnonzero(missing.any(axis=0)).tolist()
    centres = np.stack([normaliser.centre for normaliser in fitted])

    def over_all(column: int) -> float:
        return _scale_over_all(for_plate, x[:, column], centres[of_plate, column])

    ratio = _usual_ratio(scales, missing, over_all) if missing.all(axis=0).any() else 1.0
    for column in columns:
        known = scales[~missing[:, column], column]
        scales[missing[:, column], column] = np.median(known) if len(known) else over_all(column) / ratio
    constant = ConstantFeatures(
        plates={column: int(missing[:, column].sum()) for column in columns},
        without_scale=tuple(column for column in columns if not np.isfinite(scales[:, column]).all()),
    )
    return [replace(each, scale=scale) for each, scale in zip(fitted, scales, strict=True)], constant


def _usual_ratio(scales: np.ndarray, missing: np.ndarray, over_all: Callable[[int], float]) -> float:
    """Return the scale over all cells divided by that of controls: the median over features that have both."""
    varying = np.flatnonzero(~missing.any(axis=0))[:RATIO_FEATURES].tolist()
    ratios = [over_all(column) / np.median(scales[:, column]) for column in varying]
    known = [ratio for ratio in ratios if np.isfinite(ratio) and ratio > 0]
    return float(np.median(known)) if known else 1.0


def _scale_over_all(for_plate: str, values: Float[np.ndarray, "n"], centres: Float[np.ndarray, "n"]) -> float:
    """Return the scale of one feature over all cells; their standard deviation where most of them are equal.

    Infinite where the cells differ by rounding only.
    """
    deviations = values.astype(np.float64) - centres
    if deviations.std() <= 10 * np.finfo(values.dtype).eps * np.abs(values).max():
        return np.inf
    scale = float(normalise.fit(for_plate, deviations[:, None]).scale[0])
    return scale if np.isfinite(scale) else float(deviations.std())


def well_profiles(
    cells: pd.DataFrame, x: Float[np.ndarray, "n d"], aggregate: Aggregate
) -> tuple[pd.DataFrame, Float[np.ndarray, "wells d"]]:
    """Return one row per well, ordered by plate and well: plate, well, the `WELL_COLUMNS`, and the number of cells.

    Raises DataError where cells of one well differ in one of these columns.
    """
    known = [name for name in WELL_COLUMNS if name in cells]
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
    """Return the median or mean of each group, in float64, which is exact enough for the sum over a well."""
    middle: Callable[..., np.ndarray] = np.median if aggregate == "median" else np.mean
    found = [middle(x[rows].astype(np.float64), axis=0) for rows in members]
    return np.stack(found) if found else np.empty((0, x.shape[1]))


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
