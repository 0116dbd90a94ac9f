"""schedule: the number of a step in, its learning rate out."""

from __future__ import annotations

import math
from typing import Literal

Shape = Literal["constant", "cosine"]


def learning_rate(step: int, total: int, *, peak: float, shape: Shape, warmup_steps: int) -> float:
    """Return the learning rate of a step.

    It rises linearly from peak / warmup_steps to `peak`, then is constant or half a cosine to 0 (arXiv:1608.03983).
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if shape == "constant":
        return peak
    done = (step - warmup_steps) / max(1, total - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * done))
