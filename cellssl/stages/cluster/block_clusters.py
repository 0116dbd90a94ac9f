"""block_clusters: normalised vectors with blocks in; what each block adds to the AMI of clusters and label, out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cellssl.profiling.block_columns import columns_of
from cellssl.profiling.blocks import Blocks
from cellssl.stages.shared.block_gains import BlockGain, BlockGains

if TYPE_CHECKING:
    import pandas as pd

Fit = Callable[[np.ndarray], np.ndarray]
"""Takes normalised vectors, and returns the cluster of each."""
LABEL = "label"


def block_agreements(
    cells: pd.DataFrame, normal: np.ndarray, assignment: np.ndarray, blocks: Blocks, fit: Fit
) -> BlockGains | None:
    """Return the AMI of clusters and label without each block and of each alone; None where cells have no two labels.

    The clusters are fitted again. Intervals resample wells where every cell has one, else cells.
    """
    from cellssl.profiling.cluster_scores import agreement, ami_difference_interval

    if len(blocks) < 2 or LABEL not in cells or cells[LABEL].nunique() < 2:
        return None
    labels, groups, resampled = cells[LABEL].tolist(), _wells(cells), "wells"
    if groups is None:
        groups, resampled = [str(row) for row in range(len(cells))], "cells"
    whole = agreement(labels, assignment)["ami"]
    known: dict[bytes, np.ndarray] = {}

    def clusters_of(columns: np.ndarray) -> np.ndarray:
        key = columns.tobytes()
        if key not in known:
            known[key] = fit(np.ascontiguousarray(normal[:, columns]))
        return known[key]

    gains = {}
    every = np.arange(normal.shape[1])
    for block, own in zip(blocks, columns_of(blocks), strict=True):
        others, alone = clusters_of(np.delete(every, own)), clusters_of(every[own])
        without = agreement(labels, others)["ami"]
        low, high = ami_difference_interval(labels, assignment, others, groups)
        interval = None if math.isnan(low) else (low, high)
        gains[block.name] = BlockGain(without, agreement(labels, alone)["ami"], whole - without, interval)
    return BlockGains(resampled, len(set(groups)), {"ami": gains})


def _wells(cells: pd.DataFrame) -> list[str] | None:
    """Return the plate and well of every cell; None where a cell has none."""
    if not {"plate", "well"} <= {*cells.columns} or cells[["plate", "well"]].isna().to_numpy().any():
        return None
    return [f"{plate} {well}" for plate, well in zip(cells["plate"], cells["well"], strict=True)]
