"""loop: a state, branches and crops in, a better state out; yields after every step and keeps nothing to itself.

One step, for a batch of cells: every branch draws its views, the encoder and the momentum encoder represent them, the
branch's objective gives a loss, and the weighted sum of the losses moves the encoder. Then the momentum encoder
follows and the queues are filled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cellssl.device import autocast
from cellssl.events import StepDone
from cellssl.learning.methods.base import MethodInput, Objective, ema_update
from cellssl.learning.training.cell_metadata import NO_METADATA, CellMetadata
from cellssl.learning.training.diagnostics import check_finite, feature_statistics, numbers
from cellssl.learning.training.distributed import SINGLE_PROCESS, Group
from cellssl.learning.training.readers import prefetch
from cellssl.learning.view import View, drawn_alike, render_all
from cellssl.randomness import Keys

if TYPE_CHECKING:
    from jaxtyping import Float, Int64, UInt8

    from cellssl.learning.training.batches import Batches
    from cellssl.learning.training.readers import Read
    from cellssl.learning.training.state import TrainState


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
    read: Read
    cell_keys: Int64[Tensor, "n"]
    side_px: int
    seed: int
    device: torch.device
    dtype: torch.dtype
    momentum: float
    clip_norm: float | None = None
    group: Group = SINGLE_PROCESS
    known: CellMetadata = NO_METADATA


def train(state: TrainState, plan: Plan) -> Iterator[StepDone]:
    """Go on from `state.step` to `plan.steps`."""
    began_s = time.perf_counter()
    for rows, crops in prefetch(plan.read, map(plan.batches.rows, range(state.step, plan.steps)), plan.group.share):
        waited_s = time.perf_counter() - began_s
        metrics = one_step(state, plan, crops, plan.cell_keys[torch.from_numpy(rows)])
        seconds = time.perf_counter() - began_s
        yield StepDone(
            state.step, plan.steps, metrics, {"cells_per_s": len(rows) / seconds, "waiting_share": waited_s / seconds}
        )
        began_s = time.perf_counter()


def one_step(
    state: TrainState, plan: Plan, crops: UInt8[Tensor, "own c y x"], cells: Int64[Tensor, "b"]
) -> dict[str, float]:
    """Change the state by one batch, and say what was seen on the way.

    `cells` are those of the whole batch, `crops` those of this process' share of it: alone, all of them.
    FailedError, before any weight has moved, where loss or gradient is no longer a number.
    """
    metrics = gradients(state, plan, crops, cells)
    check_finite(metrics, state.step + 1)
    metrics["learning_rate"] = plan.learning_rate(state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = metrics["learning_rate"]
    state.optimizer.step()
    ema_update(state.momentum_encoder, state.encoder, plan.momentum)
    for branch in plan.branches:
        branch.objective.after_step()
    state.step += 1
    return metrics


def gradients(
    state: TrainState, plan: Plan, crops: UInt8[Tensor, "own c y x"], cells: Int64[Tensor, "b"]
) -> dict[str, float]:
    """Leave the gradient of the weighted sum of all branches' losses in the weights."""
    state.train()
    state.optimizer.zero_grad(set_to_none=True)
    metrics = {"loss": torch.zeros((), device=plan.device)}
    for branch in plan.branches:
        seen = encode_views(state, plan, branch, crops, cells, state.step)
        loss, gauges = branch.objective(seen)
        weighted = branch.weight * loss
        weighted.backward()  # gradients add up, so one branch's activations are held at a time
        metrics["loss"] += weighted.detach()
        gauges = {"loss": loss, **gauges, **feature_statistics(seen.online[0], state.step)}
        metrics |= {f"{branch.name}/{name}": value for name, value in gauges.items()}
    plan.group.all_reduce_gradients(state.encoder, state.objectives)
    metrics["gradient_norm"] = state.clip(plan.clip_norm)
    return numbers(metrics, plan.device)


def encode_views(
    state: TrainState,
    plan: Plan,
    branch: Branch,
    crops: UInt8[Tensor, "own c y x"],
    cells: Int64[Tensor, "b"],
    when: int | str,
) -> MethodInput:
    """Draw the views of one branch, and represent them by both encoders.

    All views of one side that an encoder looks at pass through it as one batch, which is what its batch norm sees.
    Of the whole batch, in every process: each shows the others the features of its share.
    """
    objective = branch.objective
    keys = Keys(cells).fold(plan.seed, when, branch.name)
    own = Keys(plan.group.share(keys.values))
    pieces = render_all(branch.views, crops, own, plan.side_px)

    def seen_by(encoder: torch.nn.Module, wanted: tuple[int, ...]) -> Float[Tensor, "v b dim"]:
        with autocast(plan.device, plan.dtype):
            features = [objective.encode(encoder, chosen, own).float() for chosen in _chosen(pieces, wanted)]
        return _together(features, plan, len(cells))

    online = seen_by(state.encoder, objective.online_views)
    with torch.no_grad():
        momentum = seen_by(state.momentum_encoder, objective.momentum_views)
    pixels = _together([chosen.flatten(2) for chosen in _chosen(pieces, objective.pixel_views)], plan, len(cells))
    known = plan.known.of(cells, plan.device)
    alike = partial(drawn_alike, branch.views, keys=keys, channels=crops.shape[1], side=crops.shape[-1])
    return MethodInput(online, momentum, cells.to(plan.device), known, pixels, keys, alike)


def _chosen(pieces: list[Tensor], wanted: tuple[int, ...]) -> Iterator[Float[Tensor, "v own c y x"]]:
    """The wanted views, piece by piece; nothing is copied where they lie side by side."""
    first = 0
    for piece in pieces:
        here = [view - first for view in wanted if first <= view < first + len(piece)]
        if here:
            yield piece[here[0] : here[-1] + 1] if here == [*range(here[0], here[-1] + 1)] else piece[here]
        first += len(piece)


def _together(features: list[Tensor], plan: Plan, cells: int) -> Float[Tensor, "v b dim"]:
    """All views of the whole batch; no view at all where none is wanted."""
    if not features:
        return torch.zeros(0, cells, 0, device=plan.device)
    return plan.group.gather(features[0] if len(features) == 1 else torch.cat(features), cells)
