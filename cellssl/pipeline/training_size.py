"""training_size: how many fields, cells and channels there are in; a network and a first look that fit the machine out.

`cellssl init` writes the result into a recipe. The times are rough: they decide between settings, and `estimates.py`,
which measures this machine, replaces them before anything runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec

from cellssl.device import allowed_cores, has_gpu_driver

LONG_S = 900.0
"""Where all fields take longer, a sample of them comes first."""
FIRST_LOOK_S = 600.0
"""The length that a first look is planned for; with what the rough times may be wrong by it ends within 15 minutes."""
FEW_FIELDS = 12
"""A first look of fewer fields shows nothing."""
TRAINED_SHARE = 0.6
"""Share of the cells that a split gives to training."""
CPU_EPOCHS, CPU_INPUT_PX = 12, 48
GPU_EPOCHS = 100
BATCH = 128

START_S = 120.0
"""Starting processes, clustering and the report, whatever the number of cells."""
SEGMENT_S_PER_MEGAPIXEL = 0.5
"""Of one channel on one core, watershed; 28 fields of 1.3 megapixels with 3 channels took 55 s of CPU time."""
SMALL_STEP_S_PER_CELL = 0.006
"""One epoch of two branches with `small` at 48 px on one core, with up to three channels."""
OTHER_ARMS_S_PER_CELL = 0.012
"""Embedding by network, random network, intensities and features, and four clusterings, on one core."""
GPU_STEP_S_PER_CELL = 0.001
"""One epoch of two branches with VGG13 at 196 px on a large GPU."""


@dataclass(frozen=True)
class TrainingSize:
    """What a recipe says of its training, and how long it takes."""

    encoder: str
    input_px: int
    epochs: int
    batch: int
    sample_fields: int | None
    """Fields of a first look (`fetch.sample`); None where all fields take no longer than it."""
    hours_whole: float
    """Hours that all fields take with these settings, from fetch to report, with three baselines."""
    minutes_first: float
    """Minutes that the recipe takes as it is: those of the first look, or of all fields where there is none."""
    has_gpu: bool = False


def training_size(
    fields: int,
    cells_per_field: int,
    crop_px: int,
    channels: int,
    *,
    megapixels: float = 4.0,
    cores: int | None = None,
    gpu: bool | None = None,
) -> TrainingSize:
    """Return settings of a training that ends within 15 minutes on this machine, with a sample where one is needed.

    `megapixels` is the size of one image of a field. `cores` and `gpu` are those of this machine by default.
    """
    has_gpu = _has_gpu() if gpu is None else gpu
    cores = cores or allowed_cores()
    input_px = crop_px if has_gpu else min(CPU_INPUT_PX, crop_px)
    epochs = GPU_EPOCHS if has_gpu else CPU_EPOCHS
    step_s = GPU_STEP_S_PER_CELL * (input_px / 196) ** 2 if has_gpu else SMALL_STEP_S_PER_CELL * (input_px / 48) ** 2
    more_channels = max(1.0, channels / 3)
    per_cell_s = (TRAINED_SHARE * epochs * step_s + OTHER_ARMS_S_PER_CELL) * more_channels
    per_field_s = SEGMENT_S_PER_MEGAPIXEL * megapixels * channels / cores + cells_per_field * per_cell_s
    whole_s = START_S + fields * per_field_s
    sample = max(FEW_FIELDS, math.floor((FIRST_LOOK_S - START_S) / per_field_s))
    sample_fields = sample if whole_s > LONG_S and sample < fields else None
    trained = TRAINED_SHARE * (sample_fields or fields) * cells_per_field
    return TrainingSize(
        "vgg13" if has_gpu else "small",
        input_px,
        epochs,
        _batch(trained),
        sample_fields,
        whole_s / 3600,
        (START_S + (sample_fields or fields) * per_field_s) / 60,
        has_gpu,
    )


def _batch(cells: float) -> int:
    """Return the largest power of two up to BATCH that gives an epoch at least four steps."""
    size = BATCH
    while size > 8 and size * 4 > cells:
        size //= 2
    return size


def _has_gpu() -> bool:
    """Return whether there is a GPU that torch can use; torch is loaded only where there is a driver."""
    if not has_gpu_driver() or find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())
