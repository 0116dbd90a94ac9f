"""step_cost: the settings of a training and the shape of its cells in; what one step costs here, measured, out.

A step of a large network takes minutes on a CPU, so a smaller batch is timed, and of a large network a smaller
input: time and memory grow with them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellssl.engine.resources import peak_memory_mb
from cellssl.errors import UsageError
from cellssl.learning.training.distributed import SINGLE_PROCESS

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from cellssl.learning.training.cell_metadata import CellMetadata
    from cellssl.learning.training.loop import Plan
    from cellssl.learning.training.state import TrainState
    from cellssl.stages.pretrain.settings import Settings

FIRST_BATCH = 2
"""Cells of the first timed step; objectives and batch norm need two."""
LARGE_NETWORK = 1_500_000_000
"""Multiply-adds per image above which a step on a CPU is timed with a smaller input."""
PEAK_OF_KEPT = 1.15
"""Peak of a step over what the backward pass needs of the forward pass: gradients of the largest maps come on top."""
EMBEDDED = 4
"""Cells whose embedding is timed."""
ENOUGH_S = 1.0
"""A step that takes longer is long enough to be timed well."""


@dataclass(frozen=True)
class CellShape:
    """The training cells, as far as they decide what a step costs."""

    cells: int
    channels: int
    crop_px: int


@dataclass(frozen=True)
class StepCost:
    """What one step costs on this machine, and what embedding one cell does."""

    step_s: float
    """Seconds of one step with the batch of the recipe."""
    memory_mb: float
    """Largest memory of the process during such a step: resident on a CPU, of the device on a GPU."""
    embed_s: float
    """Seconds of embedding one cell."""
    weights_mb: float
    """Size of the encoder and of all heads."""


def measure_step(settings: Settings, shape: CellShape, device: torch.device) -> StepCost:
    """Time steps of growing batches on random crops, and the embedding of a few cells.

    Raises UsageError as `networks.prepare` does for what cannot be trained, FailedError where memory does not suffice.
    """
    from cellssl.device import allowed_threads
    from cellssl.learning.threads import multiply_adds, threads_for, torch_threads
    from cellssl.learning.training.memory import enough_memory, keep_freed_memory
    from cellssl.stages.pretrain.settings import OUT_OF_MEMORY_HINT

    keep_freed_memory()
    with enough_memory(OUT_OF_MEMORY_HINT):
        state, plan = _plan(settings, shape, device)
        size = multiply_adds(state.encoder, shape.channels, plan.side_px)
        smaller = _smaller_input(settings, plan.side_px, size) if device.type == "cpu" else None
        grows = kept_grows = 1.0
        if smaller is not None:
            full_px = plan.side_px
            state, plan = _plan(smaller, shape, device)
            grows = size / multiply_adds(state.encoder, shape.channels, plan.side_px)
            kept_grows = (full_px / plan.side_px) ** 2
        with torch_threads(threads_for(size, allowed_threads())):
            timed = _timed_steps(state, plan, shape, settings.batch) if settings.epochs > 0 else []
            embed_s = grows * _embed_s(state.encoder, plan, shape)
    weights_mb = 4e-6 * sum(one.numel() for part in (state.encoder, state.objectives) for one in part.parameters())
    if not timed:
        return StepCost(0.0, _peak_mb(device), embed_s, weights_mb)
    last, first = timed[-1], timed[0]
    kept_mb = kept_grows * first.kept_mb / first.batch * settings.batch
    memory_mb = first.peak_mb - first.kept_mb + PEAK_OF_KEPT * kept_mb
    return StepCost(grows * last.seconds * settings.batch / last.batch, memory_mb, embed_s, weights_mb)


def _smaller_input(settings: Settings, side_px: int, size: int) -> Settings | None:
    """Return the settings with an input of which a large network makes a step within seconds; None where it does so.

    Time grows with multiply-adds, and the maps that are kept grow with the area.
    """
    if size <= LARGE_NETWORK:
        return None
    fitting_px = int(side_px * math.sqrt(LARGE_NETWORK / size)) // 16 * 16
    smaller = settings.model_copy(update={"input_px": max(fitting_px, 32)})
    try:
        settings.encoder.check_side(max(fitting_px, 32))
    except UsageError:  # a network of one size
        return None
    return smaller


@dataclass(frozen=True)
class _TimedStep:
    """One step: its cells, its seconds, the peak of memory, and what the backward pass needed of the forward pass."""

    batch: int
    seconds: float
    peak_mb: float
    kept_mb: float


def _timed_steps(state: TrainState, plan: Plan, shape: CellShape, largest: int) -> list[_TimedStep]:
    """Return steps whose batch grows until one can be timed well."""
    from cellssl.learning.training.loop import train_step

    timed: list[_TimedStep] = []
    batch = min(FIRST_BATCH, largest)
    while True:
        crops, cells = _random_crops(batch, shape, plan.device), plan.cell_keys[:batch]
        step = partial(train_step, state, plan, crops, cells)
        _reset_peak(plan.device)
        with _counting_kept() as kept:
            seconds = _seconds_of(step, plan.device)
        peak_mb = _peak_mb(plan.device)
        if seconds < ENOUGH_S:  # the first one loads code and takes memory
            seconds = min(seconds, _seconds_of(step, plan.device))
        timed.append(_TimedStep(batch, seconds, peak_mb, kept.peak_bytes / 1e6))
        if batch == largest or seconds > ENOUGH_S:
            return timed
        batch = min(largest, batch * (2 if seconds > ENOUGH_S / 2 else 4))


@dataclass
class _Kept:
    """Bytes that autograd keeps for a backward pass: of the branch that keeps most, since they run one by one."""

    peak_bytes: int = 0
    _now: dict[int, int] = field(default_factory=dict)
    _is_backward: bool = False

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        """Count a tensor that is kept; the first one after a backward pass begins another branch."""
        if self._is_backward:
            self._now, self._is_backward = {}, False
        storage = tensor.untyped_storage()
        self._now[storage.data_ptr()] = storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, sum(self._now.values()))
        return tensor

    def unpack(self, tensor: torch.Tensor) -> torch.Tensor:
        """Note that the backward pass runs."""
        self._is_backward = True
        return tensor


@contextmanager
def _counting_kept() -> Iterator[_Kept]:
    import torch

    kept = _Kept()
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, kept.unpack):
        yield kept


def _embed_s(encoder: torch.nn.Module, plan: Plan, shape: CellShape, cells: int = EMBEDDED) -> float:
    """Return the seconds that embedding one cell takes, in float32 as `embed` does."""
    from cellssl.learning.embed import EmbeddingViews, embed

    rows, crops = np.arange(cells), _random_crops(cells, shape, plan.device)

    def once() -> None:
        list(embed(encoder, [(rows, crops)], EmbeddingViews(plan.side_px), plan.device))

    seconds = _seconds_of(once, plan.device)
    if seconds < ENOUGH_S:  # the first one loads code and takes memory
        seconds = min(seconds, _seconds_of(once, plan.device))
    return seconds / cells


def _plan(settings: Settings, shape: CellShape, device: torch.device) -> tuple[TrainState, Plan]:
    """Build the networks of the training, with random cells in place of its own."""
    import torch

    from cellssl.device import dtype_for
    from cellssl.learning.training.batches import Batches
    from cellssl.learning.training.loop import Plan
    from cellssl.stages.pretrain.networks import TrainingShape, build_networks

    side_px = settings.input_px or shape.crop_px
    settings.encoder.check_side(side_px)
    cells = max(shape.cells, settings.batch)
    training = TrainingShape(torch.arange(cells), settings.batch, shape.channels, side_px)
    state, branches = build_networks(settings, training, 0, device, SINGLE_PROCESS)
    plan = Plan(
        branches=branches,
        batches=Batches(cells, settings.batch, 0),
        steps=2**31,
        learning_rate=lambda _: 1e-6,
        read=_NoReader(),
        cell_keys=training.cells,
        side_px=side_px,
        seed=0,
        device=device,
        dtype=dtype_for(settings.precision, device),
        momentum=max((branch.objective.momentum for branch in branches), default=0.0),
        clip_norm=settings.clip_norm,
        metadata=_made_up_metadata(settings, training.cells),
    )
    return state, plan


def _made_up_metadata(settings: Settings, keys: torch.Tensor) -> CellMetadata:
    """Return two values in turn for every column that the objectives learn from."""
    from cellssl.learning.training.cell_metadata import CellMetadata

    def values(column: str) -> list[object]:
        pair = (1.0, 2.0) if column == "dose_micromolar" else ("a", "b")
        return [pair[place % 2] for place in range(len(keys))]

    return CellMetadata.from_columns(keys, {column: values(column) for column in settings.metadata_columns()})


class _NoReader:
    """In the place of a reader of crops: those of a measurement are handed in."""

    in_background = False

    def __call__(self, rows: np.ndarray) -> torch.Tensor:
        raise NotImplementedError("the crops of a measurement are handed in")


def _random_crops(count: int, shape: CellShape, device: torch.device) -> torch.Tensor:
    """Return noise: pixels that are all equal would give losses that are not numbers."""
    import torch

    from cellssl.randomness import generator

    size = (count, shape.channels, shape.crop_px, shape.crop_px)
    return torch.from_numpy(generator("step cost", count).integers(0, 256, size, np.uint8)).to(device)


def _seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that some work takes; on a CPU not those in which other processes had the cores."""
    import torch

    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter() - began_s
    return min(time.perf_counter() - began_s, time.process_time() - began_cpu_s)


def _reset_peak(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb(device: torch.device) -> float:
    import torch

    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else peak_memory_mb()
