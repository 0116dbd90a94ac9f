"""loop: a training state, branches and crops in, an updated state out; yields an event for every step.

One step, for a batch of cells: every branch draws its views, the encoder and the momentum encoder represent them, the
branch's objective computes a loss, and the gradient of the weighted sum of the losses updates the encoder. Then the
momentum encoder and the queues are updated.

A GPU works behind this process, which only hands it the work of a step. Whoever reads a number waits until the device
has computed it, and meanwhile the device gets no new work. So on a GPU the metrics of several steps are read at once.
What is trained, and every number, is the same as if each step had been read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cellssl.device import autocast, to_device
from cellssl.errors import FailedError
from cellssl.events import StepDone
from cellssl.learning.methods.base import MethodInput, Objective, ema_update
from cellssl.learning.training.cell_metadata import NO_METADATA, CellMetadata
from cellssl.learning.training.diagnostics import Measured, check_finite, feature_statistics, read_metrics
from cellssl.learning.training.distributed import SINGLE_PROCESS, Group
from cellssl.learning.training.drawing import ViewDrawer, branch_keys, with_drawn_views
from cellssl.learning.training.positives import BatchReader, Positives
from cellssl.learning.view import View, draw_views, same_draws
from cellssl.randomness import Keys

if TYPE_CHECKING:
    from jaxtyping import Float, Int64, UInt8

    from cellssl.learning.training.batches import Batches
    from cellssl.learning.training.drawing import BranchViews
    from cellssl.learning.training.readers import CropReader, Paired
    from cellssl.learning.training.state import TrainState
    from cellssl.learning.view import DrawnViews


READ_EVERY = 20
"""Steps between two reads of the metrics on a GPU; the effective rank is computed as often."""


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
    positives: Mapping[str, Positives] = field(default_factory=dict)
    """Branch -> how it takes positives from the metadata of the training cells; most branches do not."""
    read_every: int = 1
    """Steps between two reads of the metrics. Where it is 1, a step is checked before it changes a weight."""

    def must_read(self, step: int) -> bool:
        """Return whether the metrics are read after this step; always after the last one."""
        return step % self.read_every == 0 or step >= self.steps

    @property
    def drawer(self) -> ViewDrawer:
        """What draws the views of all branches."""
        views = {branch.name: branch.views for branch in self.branches}
        return ViewDrawer(views, self.seed, self.side_px, self.device, self.group)

    def reader(
        self, read: CropReader, cell_keys: Int64[Tensor, "n"], positives: Mapping[str, Positives]
    ) -> BatchReader:
        """Return what reads the batches of some cells: those of the training, or others."""
        return BatchReader(read, cell_keys, self.seed, self.group, positives)

    def cells_of(self, step: int) -> Int64[Tensor, "b"]:
        """Return the keys of the cells of one step."""
        return self.cell_keys[torch.from_numpy(self.batches.rows(step))]


def read_interval(device: torch.device) -> int:
    """Return the number of steps whose metrics are read at once; on a CPU nothing waits, so each is read."""
    return 1 if device.type == "cpu" else READ_EVERY


@dataclass(frozen=True)
class UnreadStep:
    """A step that the device has done or still does, with its metrics there."""

    step: int
    metrics: Measured
    cells: int
    began_s: float
    """When the step began, by `time.perf_counter`."""
    waited_s: float
    """How long it waited for its crops."""


def train(state: TrainState, plan: Plan) -> Iterator[StepDone]:
    """Train from `state.step` to `plan.steps`; yield an event for every step, when its metrics are read.

    Raises FailedError as `read_steps` returns it.
    """
    unread: list[UnreadStep] = []
    for one in train_unread(state, plan):
        unread.append(one)
        if plan.must_read(one.step):
            done, fault = read_steps(unread, plan)
            unread.clear()
            yield from done
            if fault is not None:
                raise fault


def read_steps(unread: Sequence[UnreadStep], plan: Plan) -> tuple[list[StepDone], FailedError | None]:
    """Wait for the device, and return the events of these steps up to the first whose loss or gradient is not finite.

    The error is that of this step: it must not be raised before the events of the earlier steps are used. From this
    step on the weights may be damaged, so no checkpoint may be written of them. Timings are means over all the steps,
    because the device does not say when it did which.
    """
    if not unread:
        return [], None
    metrics = read_metrics([one.metrics for one in unread], plan.device)
    seconds = time.perf_counter() - unread[0].began_s
    timings = {
        "cells_per_s": sum(one.cells for one in unread) / seconds,
        "waiting_share": sum(one.waited_s for one in unread) / seconds,
    }
    done: list[StepDone] = []
    for one, numbers in zip(unread, metrics, strict=True):
        try:
            check_finite(numbers, one.step)
        except FailedError as fault:
            return done, fault
        done.append(StepDone(one.step, plan.steps, numbers, dict(timings)))
    return done, None


def train_unread(state: TrainState, plan: Plan) -> Iterator[UnreadStep]:
    """Train from `state.step` to `plan.steps`; yield after every step, without waiting for the device."""
    began_s = time.perf_counter()
    steps = range(state.step, plan.steps)
    reader = plan.reader(plan.read, plan.cell_keys, plan.positives)
    batches = reader.batches((step, plan.batches.rows(step)) for step in steps)
    for batch, views in with_drawn_views(plan.drawer, plan.cells_of, steps, batches):
        waited_s = time.perf_counter() - began_s
        cells = plan.cell_keys[torch.from_numpy(batch.rows)]
        metrics = train_step(state, plan, batch.crops, cells, views, batch.paired)
        yield UnreadStep(state.step, metrics, len(cells), began_s, waited_s)
        began_s = time.perf_counter()


def train_step(
    state: TrainState,
    plan: Plan,
    crops: UInt8[Tensor, "own c y x"],
    cells: Int64[Tensor, "b"],
    views: BranchViews | None = None,
    paired: Mapping[str, Paired] | None = None,
) -> Measured:
    """Update the state with one batch, and return the metrics of the step: numbers where `plan.read_every` is 1.

    `cells` are the keys of the whole batch, `crops` the crops of this process' share of it (all of them where there is
    one process), `views` their drawn views, which are drawn here by default, and `paired` their partners, for branches
    with positives; without it their other views are made of the cells themselves. Raises FailedError where the loss or
    the gradient is infinite or nan: where `plan.read_every` is 1 here, before any weight is changed; else only when the
    metrics are read (`read_steps`).
    """
    metrics = compute_gradients(state, plan, crops, cells, views, paired)
    if plan.read_every == 1:
        numbers = read_metrics([metrics], plan.device)[0]
        check_finite(numbers, state.step + 1)
        metrics = {**numbers}
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
    paired: Mapping[str, Paired] | None = None,
) -> Measured:
    """Compute the gradient of the weighted sum of all branches' losses, and return the metrics."""
    state.train()
    state.optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=plan.device)
    metrics: Measured = {"loss": total}
    for number, branch in enumerate(plan.branches):
        state.begin_branch()
        drawn = None if views is None else views[number]
        paired_with = None if paired is None else paired.get(branch.name)
        encoded = encode_views(state, plan, branch, crops, cells, state.step, drawn, paired_with)
        loss, diagnostics = branch.objective(encoded)
        weighted = branch.weight * loss
        weighted.backward()  # gradients add up, so only one branch's activations are in memory at a time
        state.keep_gradient()
        total += weighted.detach()
        of_branch = {"loss": loss.detach(), **diagnostics, **feature_statistics(encoded.online[0], state.step)}
        metrics |= {f"{branch.name}/{name}": value for name, value in of_branch.items()}
    plan.group.all_reduce_gradients(state.encoder, state.objectives)
    metrics["gradient_norm"] = state.clip_gradient(plan.clip_norm)
    return metrics


def encode_views(
    state: TrainState,
    plan: Plan,
    branch: Branch,
    crops: UInt8[Tensor, "own c y x"],
    cells: Int64[Tensor, "b"],
    when: int | str,
    drawn: DrawnViews | None = None,
    paired: Paired | None = None,
) -> MethodInput:
    """Draw the views of one branch, and encode them with both encoders.

    All views of one size pass through an encoder as one batch, and batch norm computes its statistics over that batch.
    The result covers the whole batch in every process: each sends the features of its share to the others. `when` is
    the step, or "validation"; the views depend on it. They are drawn here where they are not given as `drawn`. `paired`
    holds the crops of the partners, which the views of partners are made of.
    """
    objective = branch.objective
    keys = branch_keys(plan.seed, branch.name, cells, when)
    own = Keys(plan.group.share(keys.values))
    if drawn is None:
        (drawn,) = draw_views(branch.views, [own], tuple(crops.shape[1:]), plan.side_px, crops.device)
    pieces = drawn.render(crops, None if paired is None else paired.crops)

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
    no_negatives = None if paired is None else paired.same
    return MethodInput(online, momentum, to_device(cells, plan.device), metadata, pixels, keys, same, no_negatives)


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
