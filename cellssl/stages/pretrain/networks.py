"""networks: the settings of a training and its cells in; networks, branches, optimiser and batches at step 0 out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cellssl.errors import UsageError
from cellssl.learning.training.distributed import SINGLE_PROCESS, Group, check_batch

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from jaxtyping import Int64
    from torch import Tensor

    from cellssl.learning.encoder import EncoderSettings
    from cellssl.learning.training.cell_metadata import CellMetadata
    from cellssl.learning.training.loop import Branch, Plan
    from cellssl.learning.training.positives import Positives
    from cellssl.learning.training.readers import InMemoryReader, MemmapReader
    from cellssl.learning.training.state import TrainState
    from cellssl.stages.pretrain.settings import Settings
    from cellssl.stages.shared.scaled_crops import ScaledCrops

IN_MEMORY_SHARE = 0.5
"""Share of a GPU's free memory; a smaller training set is held there, scaled to 8 bits."""
IN_MEMORY_BYTES = 256e6
"""On a CPU, larger sets are read from the disk; the system caches their pages while it has free memory."""


def prepare(
    settings: Settings,
    crops: ScaledCrops,
    cell_ids: list[str],
    seed: int,
    device: torch.device,
    group: Group = SINGLE_PROCESS,
    metadata: CellMetadata | None = None,
    positives: Mapping[str, Positives] | None = None,
) -> tuple[TrainState, Plan]:
    """Build networks, branches, optimiser and batches, all at step 0.

    `metadata` holds the columns of the cell table that objectives use, `positives` the partners of the training cells,
    by branch. Raises UsageError for what cannot be trained: a
    queue or a batch larger than the data, crops too small, an objective that does not fit its views or the encoder.
    """
    from cellssl.device import dtype_for
    from cellssl.learning.training.batches import Batches
    from cellssl.learning.training.cell_metadata import NO_METADATA
    from cellssl.learning.training.loop import Plan, read_interval
    from cellssl.learning.training.schedule import learning_rate

    batches = Batches(len(crops), min(settings.batch, len(crops)) if settings.epochs == 0 else settings.batch, seed)
    _check_sizes(settings, crops)
    check_batch(batches.size, group.rank)
    side_px = settings.input_px or crops.shape[-1]
    shape = TrainingShape(keys_of(cell_ids), batches.size, len(crops.channels), side_px)
    state, branches = build_networks(settings, shape, seed, device, group)
    _check_views(settings, branches, crops, side_px)
    steps = batches.steps(settings.epochs)
    warmup = min(batches.steps(settings.warmup_epochs), steps // 10)

    def rate(step: int) -> float:
        return learning_rate(step, steps, peak=settings.learning_rate, shape=settings.schedule, warmup_steps=warmup)

    plan = Plan(
        branches=branches,
        batches=batches,
        steps=steps,
        learning_rate=rate,
        read=crop_reader(crops, device, in_memory=settings.epochs > 0),
        cell_keys=shape.cells,
        side_px=side_px,
        seed=seed,
        device=device,
        dtype=dtype_for(settings.precision, device),
        momentum=max((branch.objective.momentum for branch in branches), default=0.0),
        clip_norm=settings.clip_norm,
        group=group,
        metadata=metadata or NO_METADATA,
        positives=positives or {},
        read_every=read_interval(device),
    )
    return state, plan


@dataclass(frozen=True)
class TrainingShape:
    """The properties of the training data on which networks and objectives depend."""

    cells: Int64[Tensor, "n"]
    """The keys of all training cells."""
    batch: int
    """Cells per step."""
    channels: int
    side_px: int


def crop_reader(crops: ScaledCrops, device: torch.device, *, in_memory: bool = True) -> InMemoryReader | MemmapReader:
    """Return the reader of crops: from the device's memory where they fit and this is allowed, else from the disk."""
    from cellssl.learning.training.readers import InMemoryReader, MemmapReader

    if in_memory and math.prod(crops.shape) < _in_memory_limit_bytes(device):
        return InMemoryReader(crops.blocks(), crops.shape, device)
    return MemmapReader(crops.read, device)


def keys_of(cell_ids: list[str]) -> torch.Tensor:
    """Return one key per cell, on the CPU, where parameters are drawn."""
    import torch

    from cellssl.randomness import cell_keys

    return torch.from_numpy(cell_keys(cell_ids))


def uninitialised_encoder(settings: EncoderSettings, channels: int) -> torch.nn.Module:
    """Build a network whose weights are loaded later; torch's own generator stays as it was."""
    from cellssl.randomness import torch_seeded

    with torch_seeded("weights not yet set"):
        return settings.build(channels)


def _check_sizes(settings: Settings, crops: ScaledCrops) -> None:
    settings.encoder.check_side(settings.input_px or crops.shape[-1])
    for branch in settings.active().values() if settings.epochs > 0 else ():
        branch.objective.check(len(crops))


def build_networks(
    settings: Settings, shape: TrainingShape, seed: int, device: torch.device, group: Group
) -> tuple[TrainState, tuple[Branch, ...]]:
    """Build both encoders, the objectives, the optimiser and the branches, with weights drawn from the seed."""
    import copy

    import torch

    from cellssl.learning.methods.base import Objective
    from cellssl.learning.training.batch_norm import convert_sync_batch_norm
    from cellssl.learning.training.freezing import freeze
    from cellssl.learning.training.loop import Branch
    from cellssl.learning.training.state import TrainState, optimizer_for
    from cellssl.learning.weight_init import init_encoder

    network = init_encoder(settings.encoder, shape.channels, seed, "encoder")
    encoder = convert_sync_batch_norm(network, group, device).to(device).to(memory_format=torch.channels_last)
    freeze(encoder, settings.encoder.frozen_parameters(encoder) if settings.epochs > 0 else ())
    momentum_encoder = copy.deepcopy(encoder).requires_grad_(False)
    assert isinstance(network.out_dim, int)
    objectives = build_objectives(settings, shape, network.out_dim, seed).to(device)
    if device.type == "cuda":  # on a CPU, convolutions of decoders would round differently
        objectives = objectives.to(memory_format=torch.channels_last)
    branches = []
    for name, branch in settings.active().items() if len(objectives) else ():
        objective = objectives[objective_module_name(name)]
        assert isinstance(objective, Objective)
        query, key = branch.view_transforms(2)
        views = objective.make_views(query, key)
        if branch.positives is not None:
            views = (views[0], *[replace(view, of_partner=True) for view in views[1:]])
        branches.append(Branch(name, branch.weight, views, objective))
    optimizer = optimizer_for(settings.optimizer, [encoder, objectives], settings.weight_decay)
    return TrainState(encoder, momentum_encoder, objectives, optimizer), tuple(branches)


def build_objectives(settings: Settings, shape: TrainingShape, in_dim: int, seed: int) -> torch.nn.ModuleDict:
    """Build the objectives of all branches at step 0; none where nothing is trained."""
    import torch

    from cellssl.learning.methods.build_context import BuildContext

    objectives = torch.nn.ModuleDict()
    for name, branch in settings.active().items() if settings.epochs > 0 else ():
        context = BuildContext(in_dim, seed, name, **vars(shape), encoder=settings.encoder)
        objectives[objective_module_name(name)] = branch.objective.build(context)
    return objectives


def _check_views(settings: Settings, branches: tuple[Branch, ...], crops: ScaledCrops, side_px: int) -> None:
    """Render one black crop, so that a view that does not fit the crops or the encoder fails before any work."""
    import torch

    from cellssl.learning.view import render_all
    from cellssl.randomness import Keys

    black = torch.zeros(1, *crops.shape[1:], dtype=torch.uint8)
    for branch in branches:
        for views in render_all(branch.views, black, Keys(torch.zeros(1, dtype=torch.long)), side_px):
            if views.shape[-1] != side_px:
                _check_local_views(settings.encoder, views.shape[-1], branch.name)


def _check_local_views(encoder: EncoderSettings, px: int, branch: str) -> None:
    """Raise UsageError where the encoder, which fits crops of the full side, cannot take the local crops."""
    try:
        encoder.check_side(px)
    except UsageError as error:
        raise UsageError(
            f"{error.message}, the size of the local crops of branch {branch}",
            hint="raise local_side, or set local_crops = 0, in the branch's objective",
        ) from error


def objective_module_name(branch: str) -> str:
    """Return a branch's name as a module name, which must have no dot and not be that of a method, such as `half`."""
    return f"branch_{branch.replace('.', '/')}"


def _in_memory_limit_bytes(device: torch.device) -> float:
    import torch

    return IN_MEMORY_SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else IN_MEMORY_BYTES
