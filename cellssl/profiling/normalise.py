"""normalise: embeddings -> a normaliser fitted on them -> normalised embeddings, also of a later plate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from cellssl.config import plugins
from cellssl.errors import DataError, UsageError
from cellssl.profiling.one_thread import one_thread

VARIANCE_KEPT = 0.99
"""Share of the variance that `pca_whiten` keeps; the rest is noise, which whitening would scale up to variance 1."""

SPHERING_VARIANCE_KEPT = 0.9
"""Share of the controls' variance that `sphering` keeps; plates have few controls, so the other axes are noise."""
NORMAL_MAD = 1.4826
"""For normally distributed numbers, the median absolute deviation times this factor is the standard deviation."""
CHUNK_ROWS = 65_536
"""Number of rows processed at a time, so that copies stay small compared with a million embeddings."""

_EMPTY: np.ndarray = np.zeros(0)


@dataclass(frozen=True)
class Normaliser:
    """A fitted normalisation: `(x - centre) / scale`, projected on `axes` where there are any, or only `l2`."""

    name: str
    dim: int
    centre: Float[np.ndarray, "_"] = field(default_factory=lambda: _EMPTY)
    scale: Float[np.ndarray, "_"] = field(default_factory=lambda: _EMPTY)
    axes: Float[np.ndarray, "..."] = field(default_factory=lambda: _EMPTY)

    def apply(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n _"]:
        """Return the normalised embeddings; `pca_whiten` and `sphering` return fewer dimensions."""
        if x.shape[1] != self.dim:
            raise DataError(
                f"the normaliser was fitted on {self.dim} dimensions, but the embeddings have {x.shape[1]}",
                hint="embed these cells with the model of the earlier clustering",
            )
        if self.name == "none":
            return x
        normal = np.empty((len(x), len(self.axes) or self.dim), x.dtype)
        with one_thread():
            for start in range(0, len(x), CHUNK_ROWS):
                normal[start : start + CHUNK_ROWS] = self._applied(x[start : start + CHUNK_ROWS])
        return normal

    def _applied(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n _"]:
        match self.name:
            case "zscore" | "robust_z" | "percentile":
                return np.asarray((x - self.centre.astype(x.dtype)) / self.scale.astype(x.dtype))
            case "l2":
                return np.asarray(x / _nonzero(np.linalg.norm(x, axis=1, keepdims=True)))
            case _:
                return np.asarray((x - self.centre.astype(x.dtype)) @ (self.axes.T / self.scale).astype(x.dtype))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the normaliser as named arrays, to be stored in an .npz file beside the centroids."""
        return {
            "normaliser_name": np.array(self.name),
            "normaliser_dim": np.array(self.dim),
            "normaliser_centre": self.centre,
            "normaliser_scale": self.scale,
            "normaliser_axes": self.axes,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Normaliser":
        """Return the normaliser that `arrays()` stored; other arrays are ignored.

        Raises KeyError or ValueError where they are not those of a normaliser.
        """
        found = cls(
            name=str(arrays["normaliser_name"]),
            dim=int(arrays["normaliser_dim"]),
            centre=arrays["normaliser_centre"],
            scale=arrays["normaliser_scale"],
            axes=arrays["normaliser_axes"],
        )
        found.check()
        return found

    def check(self) -> None:
        """Raise ValueError where the arrays do not fit the name and each other."""
        if self.name not in NAMES or self.dim < 1:
            raise ValueError(f"there is no normaliser {self.name[:100]!r} of {self.dim} dimensions")
        arrays = {"centre": self.centre, "scale": self.scale, "axes": self.axes}
        for name, array in arrays.items():
            if array.dtype.kind != "f" or np.isnan(array).any():
                raise ValueError(f"the normaliser's {name} does not hold numbers only")
        if self.name in ("none", "l2"):
            return
        projected = len(self.axes) if self.axes.ndim == 2 else 0
        shapes: dict[str, tuple[int, ...]] = {"centre": (self.dim,), "scale": (projected or self.dim,)}
        if self.name in PROJECTING:
            shapes["axes"] = (projected or 1, self.dim)
        for name, shape in shapes.items():
            if arrays[name].shape != shape:
                raise ValueError(f"the normaliser's {name} has the shape {arrays[name].shape}, not {shape}")


def fit(name: str, x: Float[np.ndarray, "n d"]) -> Normaliser:
    """Fit the normaliser called `name` on these embeddings.

    Raises UsageError for an unknown name, DataError for embeddings that are empty, not finite or all the same.
    """
    if name not in _FITTERS:
        raise UsageError(f"unknown normalisation {name!r}", hint=plugins.did_you_mean(name, NAMES))
    check_embeddings(x)
    with one_thread():  # fixed order of sums, so that the result is the same on every machine
        return _FITTERS[name](x)


def check_embeddings(x: Float[np.ndarray, "n d"]) -> None:
    """Raise DataError where embeddings are empty or not finite."""
    if x.size == 0:
        raise DataError("there are no embeddings", hint="check whether segment and split kept any cells")
    broken = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(broken):
        raise DataError(
            f"{len(broken)} of {len(x)} embeddings contain NaN or infinite numbers; first: row {broken[0]}",
            hint="the encoder may have diverged: check the training curves, or leave these cells out",
        )


def _none(x: Float[np.ndarray, "n d"]) -> Normaliser:
    return Normaliser("none", x.shape[1])


def _l2(x: Float[np.ndarray, "n d"]) -> Normaliser:
    return Normaliser("l2", x.shape[1])


def _zscore(x: Float[np.ndarray, "n d"]) -> Normaliser:
    """Fit mean and standard deviation. A feature that does not vary becomes 0, not inf."""
    centre = x.mean(axis=0, dtype=np.float64)
    return Normaliser("zscore", x.shape[1], centre, _std_or_one(x, centre))


def _pca_whiten(x: Float[np.ndarray, "n d"]) -> Normaliser:
    """Fit uncorrelated axes of standard deviation 1, as many as contain `VARIANCE_KEPT` of the variance."""
    return _whitened("pca_whiten", x, VARIANCE_KEPT)


def _sphering(x: Float[np.ndarray, "n d"]) -> Normaliser:
    """Fit like `pca_whiten`, with fewer axes; meant to be fitted on controls and applied to all wells."""
    return _whitened("sphering", x, SPHERING_VARIANCE_KEPT)


def _robust_z(x: Float[np.ndarray, "n d"]) -> Normaliser:
    """Fit median and 1.4826 MAD, or the standard deviation where the MAD is 0. A constant feature becomes 0."""
    centre = np.median(x, axis=0).astype(np.float64)
    mad = NORMAL_MAD * np.median(np.abs(x - centre), axis=0)
    return Normaliser("robust_z", x.shape[1], centre, _zero_to_infinity(np.where(mad > 0, mad, _std_or_zero(x))))


def _percentile(x: Float[np.ndarray, "n d"]) -> Normaliser:
    """Fit the 1st percentile, which becomes 0, and the 99th, which becomes 1. A constant feature becomes 0."""
    low, high = np.percentile(x.astype(np.float64), [1, 99], axis=0)
    width = np.where(_std_or_zero(x) > 0, high - low, 0.0)
    return Normaliser("percentile", x.shape[1], low, _zero_to_infinity(width))


def _whitened(name: str, x: Float[np.ndarray, "n d"], share: float) -> Normaliser:
    if not np.ptp(x, axis=0).any():
        raise DataError(
            f"all {len(x)} embeddings are the same, so they cannot be whitened",
            hint="the encoder has collapsed, or there is only one cell; check the training curves",
        )
    centre = x.mean(axis=0, dtype=np.float64)
    variances, axes = np.linalg.eigh(_covariance(x, centre))
    variances, axes = np.maximum(variances[::-1], 0), axes.T[::-1]
    kept = int(np.searchsorted(np.cumsum(variances) / variances.sum(), share, side="right")) + 1
    axes = axes[:kept]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])  # the same signs as scikit-learn
    return Normaliser(name, x.shape[1], centre, np.sqrt(variances[:kept]), axes * signs[:, None])


def _covariance(x: Float[np.ndarray, "n d"], centre: Float[np.ndarray, "d"]) -> Float[np.ndarray, "d d"]:
    """Compute in float64, a chunk at a time: an SVD of a million rows would need ten times their memory."""
    products = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, len(x), CHUNK_ROWS):
        centred = x[start : start + CHUNK_ROWS] - centre
        products += centred.T @ centred
    return products / max(1, len(x) - 1)


def _std_or_one(x: Float[np.ndarray, "n d"], centre: Float[np.ndarray, "d"]) -> Float[np.ndarray, "d"]:
    """Return the standard deviation, or 1 where it is only a rounding error."""
    std = x.std(axis=0, dtype=np.float64)
    rounding = 10 * np.finfo(x.dtype).eps * np.abs(centre)
    return np.where(std <= rounding, 1.0, std)


def _std_or_zero(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d"]:
    """Return the standard deviation, or 0 where it is only a rounding error."""
    std = x.std(axis=0, dtype=np.float64)
    rounding = 10 * np.finfo(x.dtype).eps * np.abs(x.mean(axis=0, dtype=np.float64))
    return np.where(std <= rounding, 0.0, std)


def _zero_to_infinity(scale: Float[np.ndarray, "d"]) -> Float[np.ndarray, "d"]:
    """Replace 0 by infinity: then every value becomes 0, also a new one that differs from the fitted ones."""
    return np.where(scale > 0, scale, np.inf)


def _nonzero(length: np.ndarray) -> np.ndarray:
    return np.where(length == 0, 1, length).astype(length.dtype)


_FITTERS: dict[str, Callable[[np.ndarray], Normaliser]] = {
    "none": _none,
    "zscore": _zscore,
    "l2": _l2,
    "pca_whiten": _pca_whiten,
    "robust_z": _robust_z,
    "percentile": _percentile,
    "sphering": _sphering,
}
NAMES = tuple(_FITTERS)
PROJECTING = ("pca_whiten", "sphering")
"""Normalisers that project the embeddings on axes."""
