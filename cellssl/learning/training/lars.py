"""lars: gradients in, updated weights out; each tensor's step length follows from its own norm; for large batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

TRUST_COEFFICIENT = 0.001
"""Share of a tensor's norm by which it moves in one step at a learning rate of 1 (eta in the paper)."""


class Lars(torch.optim.Optimizer):
    """SGD with momentum; each tensor's step is scaled by |weights| / |gradient| (arXiv:1708.03888).

    The learning rate multiplies the velocity, as in torch's SGD, so that a warm-up acts at once. A group with
    `adapted = False` (biases, batch norm) gets plain SGD, as is usual in self-supervised learning.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float = 0.1, momentum: float = 0.9) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "adapted": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        assert closure is None, "the loss is never evaluated again"
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)

    def _update(self, weight: torch.Tensor, group: dict[str, Any]) -> None:
        assert weight.grad is not None
        direction = weight.grad.add(weight, alpha=group["weight_decay"])
        if group["adapted"]:
            direction.mul_(trust_ratio(weight, weight.grad, group["weight_decay"]))
        memory = self.state[weight]
        velocity = memory["velocity"] if "velocity" in memory else torch.zeros_like(weight)
        memory["velocity"] = velocity.mul_(group["momentum"]).add_(direction)
        weight.sub_(velocity, alpha=group["lr"])


def trust_ratio(weight: torch.Tensor, gradient: torch.Tensor, weight_decay: float) -> torch.Tensor:
    """Return TRUST_COEFFICIENT |w| / (|g| + decay |w|); 1 where weights or gradient are 0 (the paper's equation 6)."""
    weight_norm, gradient_norm = weight.norm(), gradient.norm()
    ratio = TRUST_COEFFICIENT * weight_norm / (gradient_norm + weight_decay * weight_norm)
    return torch.where((weight_norm > 0) & (gradient_norm > 0), ratio, 1.0)
