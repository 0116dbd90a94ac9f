"""measurements: 8-bit crops in -> a few numbers per cell out; the baselines that a trained encoder has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float32, Float64, Int64, UInt8

PERCENTS = (5, 50, 95)
MEASURED = ("mean", "sd", *(f"percentile{percent:02d}" for percent in PERCENTS))


def intensities(crops: UInt8[np.ndarray, "n c y x"]) -> Float32[np.ndarray, "n c"]:
    """Mean grey value of every channel of every crop."""
    return np.asarray(crops.mean(axis=(2, 3), dtype=np.float64), np.float32)


def features(crops: UInt8[np.ndarray, "n c y x"]) -> Float32[np.ndarray, "n feature"]:
    """Mean, standard deviation and percentiles of every channel; channel by channel, in the order of MEASURED."""
    counts = _histograms(crops)
    mean = _mean(counts, np.arange(256.0))
    variance = _mean(counts, np.arange(256.0) ** 2) - mean**2
    percentiles = [_percentile(counts, percent) for percent in PERCENTS]
    measured = np.stack([mean, np.sqrt(np.maximum(variance, 0)), *percentiles], axis=2)
    return np.asarray(measured.reshape(len(crops), crops.shape[1] * len(MEASURED)), np.float32)


def feature_names(channels: Sequence[str]) -> list[str]:
    """Names of the columns of `features`: "dna_mean", "dna_sd", …"""
    return [f"{channel}_{measured}" for channel in channels for measured in MEASURED]


def _histograms(crops: UInt8[np.ndarray, "n c y x"]) -> Int64[np.ndarray, "n c 256"]:
    counts = np.empty((*crops.shape[:2], 256), np.int64)
    for place in np.ndindex(crops.shape[:2]):
        counts[place] = np.bincount(crops[place].ravel(), minlength=256)
    return counts


def _mean(counts: Int64[np.ndarray, "n c 256"], values: Float64[np.ndarray, "256"]) -> Float64[np.ndarray, "n c"]:
    return np.asarray(counts @ values / counts.sum(axis=2))


def _percentile(counts: Int64[np.ndarray, "n c 256"], percent: int) -> Int64[np.ndarray, "n c"]:
    """The smallest grey value that at least `percent` of the pixels do not exceed."""
    below = np.cumsum(counts, axis=2)
    return np.asarray(np.argmax(100 * below >= percent * below[..., -1:], axis=2))
