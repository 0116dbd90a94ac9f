"""schedule: a step in, the learning rate out."""

from __future__ import annotations

import math
from typing import Literal

Shape = Literal["constant", "cosine"]


def learning_rate(step: int, total: int, *, peak: float, shape: Shape, warmup_steps: int) -> float:
    """Linear from peak / warmup_steps up to `peak`, then constant, or half a cosine down to 0 (arXiv:1608.03983)."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if shape == "constant":
        return peak
    done = (step - warmup_steps) / max(1, total - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * done))
