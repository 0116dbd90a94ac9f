"""loop: a state, branches and crops in, a better state out; yields after every step and keeps nothing to itself.

One step, for a batch of cells: every branch draws its views, the encoder and the momentum encoder represent them, the
branch's objective gives a loss, and the weighted sum of the losses moves the encoder. Then the momentum encoder
follows and the queues are filled.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cellssl.errors import FailedError
from cellssl.events import StepDone
from cellssl.learning.gauges import effective_rank, feature_sd
from cellssl.learning.machine import autocast
from cellssl.learning.objective import Objective, Seen, follow
from cellssl.randomness import Keys

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, Int64, UInt8

    from cellssl.learning.batches import Batches
    from cellssl.learning.state import TrainState
    from cellssl.learning.view import View

RANK_EVERY = 20
"""Steps between two looks at the effective rank, which costs a singular value decomposition."""


@dataclass(frozen=True)
class Branch:
    """One loss on one choice of views: `views[i]` draws the i-th view of every cell."""

    name: str
    weight: float
    views: tuple[View, ...]
    objective: Objective


@dataclass(frozen=True)
class Plan:
    """What a training needs besides its state."""

    branches: tuple[Branch, ...]
    batches: Batches
    steps: int
    learning_rate: Callable[[int], float]
    read: Callable[[np.ndarray], UInt8[Tensor, "b c y x"]]
    cell_keys: Int64[Tensor, "n"]
    side_px: int
    seed: int
    device: torch.device
    dtype: torch.dtype
    momentum: float
    clip_norm: float | None = None


def train(state: TrainState, plan: Plan) -> Iterator[StepDone]:
    """Go on from `state.step` to `plan.steps`."""
    while state.step < plan.steps:
        started = time.perf_counter()
        rows = plan.batches.rows(state.step)
        crops = plan.read(rows)
        waited = time.perf_counter() - started
        metrics = one_step(state, plan, crops, plan.cell_keys[torch.from_numpy(rows)])
        seconds = time.perf_counter() - started
        timings = {"cells_per_s": len(rows) / seconds, "waiting_share": waited / seconds}
        yield StepDone(state.step, plan.steps, metrics, timings)


def one_step(
    state: TrainState, plan: Plan, crops: UInt8[Tensor, "b c y x"], cells: Int64[Tensor, "b"]
) -> dict[str, float]:
    """Change the state by one batch, and say what was seen on the way.

    FailedError, before any weight has moved, where loss or gradient is no longer a number.
    """
    metrics = gradients(state, plan, crops, cells)
    _check_finite(metrics, state.step + 1)
    metrics["learning_rate"] = plan.learning_rate(state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = metrics["learning_rate"]
    state.optimizer.step()
    follow(state.momentum_encoder, state.encoder, plan.momentum)
    for branch in plan.branches:
        branch.objective.after_step()
    state.step += 1
    return metrics


def gradients(
    state: TrainState, plan: Plan, crops: UInt8[Tensor, "b c y x"], cells: Int64[Tensor, "b"]
) -> dict[str, float]:
    """Leave the gradient of the weighted sum of all branches' losses in the weights."""
    state.encoder.train()
    state.momentum_encoder.train()
    state.optimizer.zero_grad(set_to_none=True)
    metrics = {"loss": torch.zeros((), device=plan.device)}
    for branch in plan.branches:
        seen = look(state, plan, branch, crops, cells)
        loss, gauges = branch.objective(seen)
        weighted = branch.weight * loss
        weighted.backward()  # gradients add up, so one branch's activations are held at a time
        metrics["loss"] += weighted.detach()
        spread = _spread(state.step, seen.online[0].detach())
        metrics |= {f"{branch.name}/{name}": value for name, value in {"loss": loss, **gauges, **spread}.items()}
    metrics["gradient_norm"] = _clip(state, plan.clip_norm)
    numbers = torch.stack([value.detach().to(plan.device) for value in metrics.values()]).tolist()  # one wait a step
    return dict(zip(metrics, numbers, strict=True))


def look(
    state: TrainState, plan: Plan, branch: Branch, crops: UInt8[Tensor, "b c y x"], cells: Int64[Tensor, "b"]
) -> Seen:
    """Draw the views of one branch, and represent them by both encoders.

    All views that an encoder looks at pass through it as one batch, which is what its batch norm sees.
    """
    keys = Keys(cells.cpu()).fold(plan.seed, state.step, branch.name)
    views = [
        view.render(crops, keys.fold(f"view{i}"), plan.side_px).contiguous(memory_format=torch.channels_last)
        for i, view in enumerate(branch.views)
    ]
    online = _represent(state.encoder, [views[i] for i in branch.objective.online_views], plan)
    with torch.no_grad():
        momentum = _represent(state.momentum_encoder, [views[i] for i in branch.objective.momentum_views], plan)
    return Seen(online, momentum, cells)


def _represent(encoder: torch.nn.Module, views: list[Tensor], plan: Plan) -> Float[Tensor, "v b dim"]:
    with autocast(plan.device, plan.dtype):
        features = encoder(torch.cat(views))
    unfolded: Tensor = features.float().unflatten(0, (len(views), -1))
    return unfolded


def _spread(step: int, features: Float[Tensor, "b dim"]) -> dict[str, Tensor]:
    rank = {"effective_rank": effective_rank(features)} if step % RANK_EVERY == 0 else {}
    return {"feature_sd": feature_sd(features), **rank}


def _clip(state: TrainState, longest: float | None) -> Float[Tensor, ""]:
    """The length of the whole gradient, which is shortened to `longest` where that is given."""
    trained = [weight for group in state.optimizer.param_groups for weight in group["params"]]
    length = torch.nn.utils.get_total_norm([weight.grad for weight in trained if weight.grad is not None])
    if longest is not None:
        torch.nn.utils.clip_grads_with_norm_(trained, longest, length)
    return length


def _check_finite(metrics: dict[str, float], step: int) -> None:
    for name in ("loss", "gradient_norm"):
        if not math.isfinite(metrics[name]):
            raise FailedError(
                f"the {name.replace('_norm', '')} is {metrics[name]} at step {step}",
                hint="lower pretrain.learning_rate, or set pretrain.clip_norm = 1.0; the checkpoint before it is kept",
            )
