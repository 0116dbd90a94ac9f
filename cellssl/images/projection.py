"""projection: the z planes of a channel in, one plane out: the brightest values, the mean, or the plane in focus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from cellssl.errors import DataError

if TYPE_CHECKING:
    from jaxtyping import Real

STEP_PX = 2
"""Distance of the pixels that Brenner's measure compares."""


def project(planes: Iterable[Real[np.ndarray, "y x"]], how: str, name: str) -> np.ndarray:
    """Return one plane of several, of the same type; only two of them are in memory at a time.

    `how` is "max", "mean" (of unsigned numbers rounded half up) or "focus" (the first plane with the highest `focus`).
    Raises DataError where the planes differ in size; `name` names the image.
    """
    match how:
        case "max":
            return _brightest(_alike(planes, name))
        case "mean":
            return _mean(_alike(planes, name))
        case "focus":
            return max(_alike(planes, name), key=focus)
    raise DataError(f"{name}: {how!r} is no way to make one plane of several")


def _alike(planes: Iterable[np.ndarray], name: str) -> Iterable[np.ndarray]:
    """Yield the planes; DataError where one has another size or type than the first."""
    first = None
    for number, plane in enumerate(planes):
        kind = f"{plane.shape[0]} x {plane.shape[1]} {plane.dtype}"
        first = first or kind
        if kind != first:
            raise DataError(f"{name}: its z planes differ, the first is {first}, and number {number} is {kind}")
        yield plane


def _brightest(planes: Iterable[np.ndarray]) -> np.ndarray:
    found: np.ndarray | None = None
    for plane in planes:
        found = plane if found is None else np.maximum(found, plane)
    assert found is not None
    return found


def _mean(planes: Iterable[np.ndarray]) -> np.ndarray:
    total: np.ndarray | None = None
    count, dtype = 0, np.dtype(np.float64)
    for plane in planes:
        count, dtype = count + 1, plane.dtype
        total = _wide(plane) if total is None else total + plane
    assert total is not None
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return ((2 * total + count) // (2 * count)).astype(dtype)
    return total / count


def _wide(plane: np.ndarray) -> np.ndarray:
    """Return the numbers in a type in which sums of them are exact, or as exact as can be."""
    return plane.astype(np.int64 if plane.dtype.kind == "u" and plane.dtype.itemsize <= 2 else np.float64)


def focus(plane: Real[np.ndarray, "y x"]) -> float:
    """Return Brenner's measure: the mean squared difference of pixels that are two apart, along rows and columns.

    It is high where edges are sharp. Brenner et al. 1976, doi:10.1177/24.1.1254907.
    """
    values = plane.astype(np.float64)
    down, along = values[STEP_PX:] - values[:-STEP_PX], values[:, STEP_PX:] - values[:, :-STEP_PX]
    return float(np.square(down).mean() + np.square(along).mean()) if down.size and along.size else 0.0
