"""curves: the metrics and timings of every step of a training in, the figure of its curves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Line = Mapping[str, float | None]
"""What was measured in one step, by name."""
METRICS = {
    "loss": "loss",
    "accuracy": "accuracy (of the other view, class or rotation)",
    "projection_spread": "spread of projections (1: even, 0: collapsed)",
    "feature_sd": "standard deviation of features",
    "effective_rank": "effective rank of features",
}
"""Metrics with one value per branch -> title of their panel."""


TIMINGS = {"cells_per_s": "cells per second", "waiting_share": "share of the time waiting for crops"}


def training_curves(metrics: Sequence[Line], timings: Sequence[Line] | None = None) -> Figure:
    """Draw one panel per metric with one line per branch; the dashed line in the loss is the chance level.

    `metrics` has one table per step. With `timings`, which depend on the machine and are not part of the result, there
    are two more panels.
    """
    import pandas as pd

    from cellssl.reporting.figures import training

    lines = pd.DataFrame(metrics)
    panels = {title: _branch_curves(lines, metric) for metric, title in METRICS.items()}
    if "validation_loss" in lines:
        panels["loss"]["validation, weighted sum"] = _forward_filled(lines["validation_loss"])
    panels["gradient norm"] = {"all branches": _forward_filled(lines["gradient_norm"])}
    if timings is not None:
        measured = pd.DataFrame(timings)
        panels |= {title: {"this machine": measured[name].to_numpy(float)} for name, title in TIMINGS.items()}
    chance = [curve[-1] for curve in _branch_curves(lines, "chance").values()]
    shown = {title: curves for title, curves in panels.items() if curves}
    return training.curves(lines["step"].to_numpy(float), shown, {"loss": max(chance)} if chance else {})


def drawn_metrics(metrics: Sequence[Line]) -> pd.DataFrame:
    """Return what `training_curves` draws, one row per step, under the names of metrics.jsonl."""
    import pandas as pd

    lines = pd.DataFrame(metrics)
    ends = tuple(f"/{metric}" for metric in (*METRICS, "chance"))
    of_all = ("step", "validation_loss", "gradient_norm")
    return lines[[name for name in lines if str(name) in of_all or str(name).endswith(ends)]]


def _branch_curves(lines: pd.DataFrame, metric: str) -> dict[str, np.ndarray]:
    names = [str(name) for name in lines.columns if str(name).endswith(f"/{metric}")]
    return {name.removesuffix(f"/{metric}"): _forward_filled(lines[name]) for name in names}


def _forward_filled(column: pd.Series) -> np.ndarray:
    """Repeat each value until the next one; some metrics are not computed in every step."""
    filled: np.ndarray = column.ffill().to_numpy(float)
    return filled
