"""networks: the settings of a training and its cells in; networks, branches, optimiser and batches at step 0 out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellssl.errors import UsageError
from cellssl.learning.training.distributed import SINGLE_PROCESS, Group, check_batch

if TYPE_CHECKING:
    import torch
    from jaxtyping import Int64
    from torch import Tensor

    from cellssl.learning.encoder import EncoderSettings
    from cellssl.learning.training.cell_metadata import CellMetadata
    from cellssl.learning.training.loop import Branch, Plan
    from cellssl.learning.training.readers import InMemoryReader, MemmapReader
    from cellssl.learning.training.state import TrainState
    from cellssl.stages.pretrain.settings import Settings
    from cellssl.stages.shared.scaled_crops import ScaledCrops

IN_MEMORY_SHARE = 0.5
"""Of a GPU's free memory; a training set below it is held there, scaled to 8 bits."""
IN_MEMORY_BYTES = 256e6
"""On a CPU, sets above it are read from the disk, whose pages the system keeps as long as nobody else needs them."""


def prepare(
    settings: Settings,
    crops: ScaledCrops,
    cell_ids: list[str],
    seed: int,
    device: torch.device,
    group: Group = SINGLE_PROCESS,
    metadata: CellMetadata | None = None,
) -> tuple[TrainState, Plan]:
    """Networks, branches, optimiser and batches, all at step 0.

    `metadata` is what objectives want to know of the cells. Raises UsageError for what cannot be learned: a queue longer
    than the data, a batch larger than it, crops too small, an objective that does not fit its views or the encoder.
    """
    from cellssl.device import dtype_for
    from cellssl.learning.training.batches import Batches
    from cellssl.learning.training.cell_metadata import NO_METADATA
    from cellssl.learning.training.loop import Plan
    from cellssl.learning.training.schedule import learning_rate

    batches = Batches(len(crops), min(settings.batch, len(crops)) if settings.epochs == 0 else settings.batch, seed)
    _check(settings, crops)
    check_batch(batches.size, group.rank)
    side_px = settings.input_px or crops.shape[-1]
    around = TrainingShape(keys_of(cell_ids), batches.size, len(crops.channels), side_px)
    state, branches = _build_networks(settings, around, seed, device, group)
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
        cell_keys=around.cells,
        side_px=side_px,
        seed=seed,
        device=device,
        dtype=dtype_for(settings.precision, device),
        momentum=max((branch.objective.momentum for branch in branches), default=0.0),
        clip_norm=settings.clip_norm,
        group=group,
        metadata=metadata or NO_METADATA,
    )
    return state, plan


@dataclass(frozen=True)
class TrainingShape:
    """What there is to train on, as far as networks and objectives depend on it."""

    cells: Int64[Tensor, "n"]
    batch: int
    channels: int
    side_px: int


def crop_reader(crops: ScaledCrops, device: torch.device, *, in_memory: bool = True) -> InMemoryReader | MemmapReader:
    """How a step gets its crops: from the device's memory where they fit, else from the memory map."""
    from cellssl.learning.training.readers import InMemoryReader, MemmapReader

    if in_memory and math.prod(crops.shape) < _in_memory_limit_bytes(device):
        return InMemoryReader(crops.blocks(), crops.shape, device)
    return MemmapReader(crops.read, device)


def keys_of(cell_ids: list[str]) -> torch.Tensor:
    """A key a cell, on the CPU, where draws are made."""
    import torch

    from cellssl.randomness import cell_keys

    return torch.from_numpy(cell_keys(cell_ids))


def uninitialised_encoder(settings: Any, channels: int) -> torch.nn.Module:
    """A network by its settings, weights not yet set; torch's generator stays as it was."""
    from cellssl.randomness import torch_seeded

    with torch_seeded("weights not yet set"):
        network: torch.nn.Module = settings.build(channels)
    return network


def _check(settings: Settings, crops: ScaledCrops) -> None:
    side = settings.input_px or crops.shape[-1]
    encoder: Any = settings.encoder
    encoder.check_side(side)
    for branch in settings.active().values() if settings.epochs > 0 else ():
        objective: Any = branch.objective
        objective.check(len(crops))


def _build_networks(
    settings: Settings, around: TrainingShape, seed: int, device: torch.device, group: Group
) -> tuple[TrainState, tuple[Branch, ...]]:
    import copy

    import torch

    from cellssl.learning.training.batch_norm import convert_sync_batch_norm
    from cellssl.learning.training.loop import Branch
    from cellssl.learning.training.state import TrainState, optimizer_for
    from cellssl.learning.weight_init import begun

    network: Any = settings.encoder
    begins: Any = begun(network, around.channels, seed, "encoder")
    encoder = convert_sync_batch_norm(begins, group, device).to(device).to(memory_format=torch.channels_last)
    momentum_encoder = copy.deepcopy(encoder).requires_grad_(False)
    objectives = build_objectives(settings, around, begins.out_dim, seed).to(device)
    branches = []
    for name, branch in settings.active().items() if len(objectives) else ():
        objective: Any = objectives[objective_module_name(name)]
        query, key = branch.view_transforms(2)
        branches.append(Branch(name, branch.weight, objective.shown(query, key), objective))
    optimizer = optimizer_for(settings.optimizer, [encoder, objectives], settings.weight_decay)
    return TrainState(encoder, momentum_encoder, objectives, optimizer), tuple(branches)


def build_objectives(settings: Settings, around: TrainingShape, in_dim: int, seed: int) -> torch.nn.ModuleDict:
    """The objectives of all branches at step 0; none where nothing is trained."""
    import torch

    from cellssl.learning.methods.build_context import BuildContext

    objectives = torch.nn.ModuleDict()
    encoder: Any = settings.encoder
    for name, branch in settings.active().items() if settings.epochs > 0 else ():
        chosen: Any = branch.objective
        objectives[objective_module_name(name)] = chosen.build(
            BuildContext(in_dim, seed, name, **vars(around), encoder=encoder)
        )
    return objectives


def _check_views(settings: Settings, branches: tuple[Branch, ...], crops: ScaledCrops, side_px: int) -> None:
    """Render one black crop: a view that fits neither the crops nor the encoder is said before anything is made."""
    import torch

    from cellssl.learning.view import render_all
    from cellssl.randomness import Keys

    encoder: Any = settings.encoder
    black = torch.zeros(1, *crops.shape[1:], dtype=torch.uint8)
    for branch in branches:
        for piece in render_all(branch.views, black, Keys(torch.zeros(1, dtype=torch.long)), side_px):
            if piece.shape[-1] != side_px:
                _check_local_views(encoder, piece.shape[-1], branch.name)


def _check_local_views(encoder: EncoderSettings, px: int, branch: str) -> None:
    """The encoder can take crops of the full side, which has been looked at before."""
    try:
        encoder.check_side(px)
    except UsageError as error:
        raise UsageError(
            f"{error.message}, which is what the small views of branch {branch} are",
            hint="raise local_side, or set local_crops = 0, in the branch's objective",
        ) from error


def objective_module_name(branch: str) -> str:
    """Modules may neither have a dot in their name, nor bear that of a method, such as `half`."""
    return f"branch_{branch.replace('.', '/')}"


def _in_memory_limit_bytes(device: torch.device) -> float:
    import torch

    return IN_MEMORY_SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else IN_MEMORY_BYTES
