"""lars: gradients in, weights moved by steps whose length follows from each tensor's own; for large batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

TRUST = 0.001
"""Of a tensor's length, so much is moved in one step at a learning rate of 1 (the paper's eta)."""


class Lars(torch.optim.Optimizer):
    """SGD with momentum whose step is scaled, tensor by tensor, by |weights| / |gradient| (arXiv:1708.03888).

    The learning rate multiplies the velocity, as in torch's SGD, so that a warm-up acts at once. A group with
    `adapted = False` (biases, batch norm) gets plain SGD, as is usual in self-supervised learning.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float = 0.1, momentum: float = 0.9) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "adapted": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        assert closure is None, "the loss is never evaluated again"
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)

    def _move(self, weight: torch.Tensor, group: dict[str, Any]) -> None:
        assert weight.grad is not None
        slope = weight.grad.add(weight, alpha=group["weight_decay"])
        if group["adapted"]:
            slope.mul_(trust(weight, weight.grad, group["weight_decay"]))
        memory = self.state[weight]
        velocity = memory["velocity"] if "velocity" in memory else torch.zeros_like(weight)
        memory["velocity"] = velocity.mul_(group["momentum"]).add_(slope)
        weight.sub_(velocity, alpha=group["lr"])


def trust(weight: torch.Tensor, slope: torch.Tensor, weight_decay: float) -> torch.Tensor:
    """TRUST |w| / (|g| + decay |w|); 1 where weights or gradient are 0 (the paper's equation 6)."""
    long, steep = weight.norm(), slope.norm()
    ratio = TRUST * long / (steep + weight_decay * long)
    return torch.where((long > 0) & (steep > 0), ratio, 1.0)
