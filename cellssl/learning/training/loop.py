"""loop: a training state, branches and crops in, an updated state out; yields an event after every step.

One step, for a batch of cells: every branch draws its views, the encoder and the momentum encoder represent them, the
branch's objective computes a loss, and the gradient of the weighted sum of the losses updates the encoder. Then the
momentum encoder and the queues are updated.
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
from cellssl.learning.training.diagnostics import check_finite, feature_statistics, to_floats
from cellssl.learning.training.distributed import SINGLE_PROCESS, Group
from cellssl.learning.training.drawing import ViewDrawer, branch_keys, with_drawn_views
from cellssl.learning.training.readers import prefetch
from cellssl.learning.view import View, render_all, same_draws
from cellssl.randomness import Keys

if TYPE_CHECKING:
    from jaxtyping import Float, Int64, UInt8

    from cellssl.learning.training.batches import Batches
    from cellssl.learning.training.drawing import BranchViews
    from cellssl.learning.training.readers import CropReader
    from cellssl.learning.training.state import TrainState
    from cellssl.learning.view import DrawnViews


@dataclass(frozen=True)
class Branch:
    """One loss on one set of views; `views[i]` draws the i-th view of every cell."""

    name: str
    weight: float
    views: tuple[View, ...]
    objective: Objective


@dataclass(frozen=True)
class Plan:
    """Everything that a training needs besides its state."""

    branches: tuple[Branch, ...]
    batches: Batches
    steps: int
    learning_rate: Callable[[int], float]
    read: CropReader
    cell_keys: Int64[Tensor, "n"]
    side_px: int
    seed: int
    device: torch.device
    dtype: torch.dtype
    momentum: float
    clip_norm: float | None = None
    group: Group = SINGLE_PROCESS
    metadata: CellMetadata = NO_METADATA

    @property
    def drawer(self) -> ViewDrawer:
        """What draws the views of all branches."""
        views = {branch.name: branch.views for branch in self.branches}
        return ViewDrawer(views, self.seed, self.side_px, self.device, self.group)

    def cells_of(self, step: int) -> Int64[Tensor, "b"]:
        """Return the keys of the cells of one step."""
        return self.cell_keys[torch.from_numpy(self.batches.rows(step))]


def train(state: TrainState, plan: Plan) -> Iterator[StepDone]:
    """Train from `state.step` to `plan.steps`; yield an event after every step."""
    started_s = time.perf_counter()
    steps = range(state.step, plan.steps)
    batches = prefetch(plan.read, map(plan.batches.rows, steps), plan.group.share)
    for rows, crops, views in with_drawn_views(plan.drawer, plan.cells_of, steps, batches):
        waited_s = time.perf_counter() - started_s
        metrics = train_step(state, plan, crops, plan.cell_keys[torch.from_numpy(rows)], views)
        seconds = time.perf_counter() - started_s
        yield StepDone(
            state.step, plan.steps, metrics, {"cells_per_s": len(rows) / seconds, "waiting_share": waited_s / seconds}
        )
        started_s = time.perf_counter()


def train_step(
    state: TrainState,
    plan: Plan,
    crops: UInt8[Tensor, "own c y x"],
    cells: Int64[Tensor, "b"],
    views: BranchViews | None = None,
) -> dict[str, float]:
    """Update the state with one batch, and return the metrics of the step.

    `cells` are the keys of the whole batch, `crops` the crops of this process' share of it (all of them where there is
    one process), `views` their drawn views, which are drawn here by default. Raises FailedError, before any weight is
    changed, where the loss or the gradient is infinite or nan.
    """
    metrics = compute_gradients(state, plan, crops, cells, views)
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


def compute_gradients(
    state: TrainState,
    plan: Plan,
    crops: UInt8[Tensor, "own c y x"],
    cells: Int64[Tensor, "b"],
    views: BranchViews | None = None,
) -> dict[str, float]:
    """Compute the gradient of the weighted sum of all branches' losses, and return the metrics."""
    state.train()
    state.optimizer.zero_grad(set_to_none=True)
    metrics = {"loss": torch.zeros((), device=plan.device)}
    for number, branch in enumerate(plan.branches):
        drawn = None if views is None else views[number]
        encoded = encode_views(state, plan, branch, crops, cells, state.step, drawn)
        loss, diagnostics = branch.objective(encoded)
        weighted = branch.weight * loss
        weighted.backward()  # gradients add up, so only one branch's activations are in memory at a time
        metrics["loss"] += weighted.detach()
        diagnostics = {"loss": loss, **diagnostics, **feature_statistics(encoded.online[0], state.step)}
        metrics |= {f"{branch.name}/{name}": value for name, value in diagnostics.items()}
    plan.group.all_reduce_gradients(state.encoder, state.objectives)
    metrics["gradient_norm"] = state.clip_gradient(plan.clip_norm)
    return to_floats(metrics, plan.device)


def encode_views(
    state: TrainState,
    plan: Plan,
    branch: Branch,
    crops: UInt8[Tensor, "own c y x"],
    cells: Int64[Tensor, "b"],
    when: int | str,
    drawn: DrawnViews | None = None,
) -> MethodInput:
    """Draw the views of one branch, and encode them with both encoders.

    All views of one size pass through an encoder as one batch, and batch norm computes its statistics over that batch.
    The result covers the whole batch in every process: each sends the features of its share to the others. `when` is
    the step, or "validation"; the views depend on it. They are drawn here where they are not given as `drawn`.
    """
    objective = branch.objective
    keys = branch_keys(plan.seed, branch.name, cells, when)
    own = Keys(plan.group.share(keys.values))
    pieces = render_all(branch.views, crops, own, plan.side_px) if drawn is None else drawn.render(crops)

    def encode_with(encoder: torch.nn.Module, wanted: tuple[int, ...]) -> Float[Tensor, "v b dim"]:
        with autocast(plan.device, plan.dtype):
            features = [objective.encode(encoder, views, own).float() for views in _select_views(pieces, wanted)]
        return _gather_views(features, plan, len(cells))

    online = encode_with(state.encoder, objective.online_views)
    with torch.no_grad():
        momentum = encode_with(state.momentum_encoder, objective.momentum_views)
    pixels = _gather_views(
        [views.flatten(2) for views in _select_views(pieces, objective.pixel_views)], plan, len(cells)
    )
    metadata = plan.metadata.lookup(cells, plan.device)
    same = partial(same_draws, branch.views, keys=keys, channels=crops.shape[1], side=crops.shape[-1])
    return MethodInput(online, momentum, cells.to(plan.device), metadata, pixels, keys, same)


def _select_views(pieces: list[Tensor], wanted: tuple[int, ...]) -> Iterator[Float[Tensor, "v own c y x"]]:
    """Yield the wanted views, one tensor per piece; nothing is copied where they are neighbours in memory."""
    first = 0
    for piece in pieces:
        own = [view - first for view in wanted if first <= view < first + len(piece)]
        if own:
            yield piece[own[0] : own[-1] + 1] if own == [*range(own[0], own[-1] + 1)] else piece[own]
        first += len(piece)


def _gather_views(features: list[Tensor], plan: Plan, cells: int) -> Float[Tensor, "v b dim"]:
    """Return all views of the whole batch; an empty tensor where no view is wanted."""
    if not features:
        return torch.zeros(0, cells, 0, device=plan.device)
    return plan.group.gather(features[0] if len(features) == 1 else torch.cat(features), cells)
