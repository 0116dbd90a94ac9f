"""normalise: embeddings -> a normaliser fitted on them -> embeddings on a common footing, now or on a later plate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from cellssl.config import plugins
from cellssl.errors import DataError, UsageError

VARIANCE_KEPT = 0.99
"""Share of the variance that `pca_whiten` keeps; the rest is noise that whitening would blow up to full size."""

SPHERED = 0.9
"""Share of the variance of the controls that `sphering` keeps; plates have few controls, and further axes are noise."""
NORMAL_MAD = 1.4826
"""Median absolute deviation times this is the standard deviation, for normal numbers."""
CHUNK_ROWS = 65_536
"""Rows that are worked on at a time, so that copies stay small beside a million embeddings."""

_EMPTY: np.ndarray = np.zeros(0)


@dataclass(frozen=True)
class Normaliser:
    """What was fitted: `(x - centre) / scale`, turned by `axes` where there are any, or just `l2`."""

    name: str
    dim: int
    centre: Float[np.ndarray, "_"] = field(default_factory=lambda: _EMPTY)
    scale: Float[np.ndarray, "_"] = field(default_factory=lambda: _EMPTY)
    axes: Float[np.ndarray, "..."] = field(default_factory=lambda: _EMPTY)

    def apply(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n _"]:
        """The same embeddings after normalisation; `pca_whiten` and `sphering` return fewer dimensions."""
        if x.shape[1] != self.dim:
            raise DataError(
                f"the normaliser was fitted on {self.dim} dimensions, but the embeddings have {x.shape[1]}",
                hint="embed the cells with the model that the earlier clustering was made with",
            )
        if self.name == "none":
            return x
        normal = np.empty((len(x), len(self.axes) or self.dim), x.dtype)
        with threadpool_limits(limits=1):
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
        """All of it as arrays with names of their own, ready to lie in an .npz beside the centroids."""
        return {
            "normaliser_name": np.array(self.name),
            "normaliser_dim": np.array(self.dim),
            "normaliser_centre": self.centre,
            "normaliser_scale": self.scale,
            "normaliser_axes": self.axes,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Normaliser":
        """The normaliser that `arrays()` came from; other arrays beside it are left alone."""
        return cls(
            name=str(arrays["normaliser_name"]),
            dim=int(arrays["normaliser_dim"]),
            centre=arrays["normaliser_centre"],
            scale=arrays["normaliser_scale"],
            axes=arrays["normaliser_axes"],
        )


def fit(name: str, x: Float[np.ndarray, "n d"]) -> Normaliser:
    """The normaliser called `name`, fitted on these embeddings.

    Raises UsageError for an unknown name, DataError for embeddings that are empty, not finite or all alike.
    """
    if name not in _FITTERS:
        raise UsageError(f"there is no normalisation {name!r}", hint=plugins.did_you_mean(name, NAMES))
    check_embeddings(x)
    with threadpool_limits(limits=1):  # sums in one order, whatever the machine
        return _FITTERS[name](x)


def check_embeddings(x: Float[np.ndarray, "n d"]) -> None:
    """Raise DataError where embeddings are empty or not finite."""
    if x.size == 0:
        raise DataError("there are no embeddings", hint="see whether segment or split left any cells")
    broken = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(broken):
        raise DataError(
            f"{len(broken)} of {len(x)} embeddings hold NaN or infinite numbers; first: row {broken[0]}",
            hint="the encoder may have diverged: look at the training curves, or leave these cells out",
        )


def _none(x: Float[np.ndarray, "n d"]) -> Normaliser:
    return Normaliser("none", x.shape[1])


def _l2(x: Float[np.ndarray, "n d"]) -> Normaliser:
    return Normaliser("l2", x.shape[1])


def _zscore(x: Float[np.ndarray, "n d"]) -> Normaliser:
    """A feature that does not vary comes back as 0, not inf."""
    centre = x.mean(axis=0, dtype=np.float64)
    return Normaliser("zscore", x.shape[1], centre, _spread(x, centre))


def _pca_whiten(x: Float[np.ndarray, "n d"]) -> Normaliser:
    """Uncorrelated axes of standard deviation 1, as many as hold `VARIANCE_KEPT` of the variance."""
    return _whitened("pca_whiten", x, VARIANCE_KEPT)


def _sphering(x: Float[np.ndarray, "n d"]) -> Normaliser:
    """`pca_whiten` with fewer axes, to be fitted on controls and applied to all."""
    return _whitened("sphering", x, SPHERED)


def _robust_z(x: Float[np.ndarray, "n d"]) -> Normaliser:
    """Median and 1.4826 MAD; the standard deviation where that is 0. A feature that does not vary comes back as 0."""
    centre = np.median(x, axis=0).astype(np.float64)
    mad = NORMAL_MAD * np.median(np.abs(x - centre), axis=0)
    return Normaliser("robust_z", x.shape[1], centre, _or_endless(np.where(mad > 0, mad, _spread_or_none(x))))


def _percentile(x: Float[np.ndarray, "n d"]) -> Normaliser:
    """The 1st percentile becomes 0, the 99th 1. A feature that does not vary comes back as 0."""
    low, high = np.percentile(x.astype(np.float64), [1, 99], axis=0)
    width = np.where(_spread_or_none(x) > 0, high - low, 0.0)
    return Normaliser("percentile", x.shape[1], low, _or_endless(width))


def _whitened(name: str, x: Float[np.ndarray, "n d"], share: float) -> Normaliser:
    if not np.ptp(x, axis=0).any():
        raise DataError(
            f"all {len(x)} embeddings are the same, so there is nothing to whiten",
            hint="the encoder has collapsed, or there is one cell only; look at the training curves",
        )
    centre = x.mean(axis=0, dtype=np.float64)
    variances, axes = np.linalg.eigh(_covariance(x, centre))
    variances, axes = np.maximum(variances[::-1], 0), axes.T[::-1]
    kept = int(np.searchsorted(np.cumsum(variances) / variances.sum(), share, side="right")) + 1
    axes = axes[:kept]
    turned = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])  # as scikit-learn turns them
    return Normaliser(name, x.shape[1], centre, np.sqrt(variances[:kept]), axes * turned[:, None])


def _covariance(x: Float[np.ndarray, "n d"], centre: Float[np.ndarray, "d"]) -> Float[np.ndarray, "d d"]:
    """In float64, a chunk at a time: the singular values of a million rows would take ten times their memory."""
    products = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, len(x), CHUNK_ROWS):
        apart = x[start : start + CHUNK_ROWS] - centre
        products += apart.T @ apart
    return products / max(1, len(x) - 1)


def _spread(x: Float[np.ndarray, "n d"], centre: Float[np.ndarray, "d"]) -> Float[np.ndarray, "d"]:
    """Standard deviation, with 1 where it is nothing but rounding."""
    spread = x.std(axis=0, dtype=np.float64)
    rounding = 10 * np.finfo(x.dtype).eps * np.abs(centre)
    return np.where(spread <= rounding, 1.0, spread)


def _spread_or_none(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d"]:
    """Standard deviation, with 0 where it is nothing but rounding."""
    spread = x.std(axis=0, dtype=np.float64)
    rounding = 10 * np.finfo(x.dtype).eps * np.abs(x.mean(axis=0, dtype=np.float64))
    return np.where(spread <= rounding, 0.0, spread)


def _or_endless(scale: Float[np.ndarray, "d"]) -> Float[np.ndarray, "d"]:
    """Infinity in place of 0: by it every number becomes 0, also one that differs from those that were fitted."""
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
