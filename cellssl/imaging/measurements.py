"""measurements: 8-bit crops in -> a few features per cell out: the baselines that a trained encoder has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float32, Float64, Int64, UInt8

PERCENTS = (5, 50, 95)
LEVELS = 16
"""Number of grey levels in which texture is measured."""
DISTANCES_PX = (1, 4)
TEXTURES = ("contrast", "homogeneity", "energy", "correlation")
MEASURED = (
    *("mean", "sd"),
    *(f"percentile{percent:02d}" for percent in PERCENTS),
    *(f"{texture}_{distance}px" for distance in DISTANCES_PX for texture in TEXTURES),
)


def intensities(crops: UInt8[np.ndarray, "n c y x"]) -> Float32[np.ndarray, "n c"]:
    """Return the mean grey value of every channel of every crop."""
    return np.asarray(crops.mean(axis=(2, 3), dtype=np.float64), np.float32)


def features(crops: UInt8[np.ndarray, "n c y x"]) -> Float32[np.ndarray, "n feature"]:
    """Return mean, standard deviation, percentiles and texture, channel by channel, in the order of MEASURED.

    Texture is contrast, homogeneity, energy and correlation of the co-occurrence matrix of grey levels at a distance,
    in all directions (Haralick et al. 1973, doi:10.1109/TSMC.1973.4309314), as in scikit-image's graycoprops.
    """
    counts = _histograms(crops)
    mean = _mean(counts, np.arange(256.0))
    variance = _mean(counts, np.arange(256.0) ** 2) - mean**2
    percentiles = [_percentile(counts, percent) for percent in PERCENTS]
    textures = [texture for distance in DISTANCES_PX for texture in _textures(crops, distance)]
    measured = np.stack([mean, np.sqrt(np.maximum(variance, 0)), *percentiles, *textures], axis=2)
    return np.asarray(measured.reshape(len(crops), crops.shape[1] * len(MEASURED)), np.float32)


def feature_names(channels: Sequence[str]) -> list[str]:
    """Return the names of the columns of `features`: "dna_mean", "dna_sd", …"""
    return [f"{channel}_{measured}" for channel in channels for measured in MEASURED]


def _histograms(crops: UInt8[np.ndarray, "n c y x"]) -> Int64[np.ndarray, "n c 256"]:
    counts = np.empty((*crops.shape[:2], 256), np.int64)
    for place in np.ndindex(crops.shape[:2]):
        counts[place] = np.bincount(crops[place].ravel(), minlength=256)
    return counts


def _mean(counts: Int64[np.ndarray, "n c 256"], values: Float64[np.ndarray, "256"]) -> Float64[np.ndarray, "n c"]:
    return np.asarray(counts @ values / counts.sum(axis=2))


def _percentile(counts: Int64[np.ndarray, "n c 256"], percent: int) -> Int64[np.ndarray, "n c"]:
    """Return the smallest grey value that at least `percent` % of the pixels do not exceed."""
    below = np.cumsum(counts, axis=2)
    return np.asarray(np.argmax(100 * below >= percent * below[..., -1:], axis=2))


def _textures(crops: UInt8[np.ndarray, "n c y x"], distance_px: int) -> list[Float64[np.ndarray, "n c"]]:
    """Return the textures at one distance, in the order of TEXTURES."""
    counts = np.empty((*crops.shape[:2], LEVELS, LEVELS), np.int64)
    for place in np.ndindex(crops.shape[:2]):
        counts[place] = _co_occurrence(crops[place], distance_px)
    shares = counts / np.maximum(counts.sum(axis=(2, 3), keepdims=True), 1)
    one, other = np.mgrid[:LEVELS, :LEVELS].astype(np.float64)
    squared = (one - other) ** 2

    def total(values: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "n c"]:
        return np.asarray((shares * values).sum(axis=(2, 3)))

    mean = total(one)[..., None, None]
    covariance, variance = total((one - mean) * (other - mean)), total((one - mean) ** 2)
    flat = variance < 1e-15  # one grey level only: correlation 1, as in scikit-image
    correlation = np.where(flat, 1.0, covariance / np.where(flat, 1.0, variance))
    return [total(squared), total(1 / (1 + squared)), np.sqrt(total(shares)), correlation]


def _co_occurrence(crop: UInt8[np.ndarray, "y x"], distance_px: int) -> Int64[np.ndarray, "levels levels"]:
    """Count pairs of grey levels at a distance: across, down and along both diagonals, in both directions."""
    levels = crop // np.uint8(256 // LEVELS)
    d = distance_px
    pairs = (
        (levels[:, :-d], levels[:, d:]),
        (levels[:-d, :], levels[d:, :]),
        (levels[:-d, :-d], levels[d:, d:]),
        (levels[:-d, d:], levels[d:, :-d]),
    )
    counts = np.zeros(LEVELS * LEVELS, np.int64)
    for first, second in pairs:
        counts += np.bincount((first * np.uint8(LEVELS) + second).ravel(), minlength=LEVELS * LEVELS)
    square = counts.reshape(LEVELS, LEVELS)
    return np.asarray(square + square.T)
