"""A training small enough for a test: made-up crops, and the networks and batches as the pretrain stage prepares
them.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from cellssl.learning.training.loop import Plan
from cellssl.learning.training.state import TrainState
from cellssl.randomness import generator
from cellssl.stages.pretrain.networks import prepare
from cellssl.stages.pretrain.settings import Settings

Training = Callable[..., tuple[TrainState, Plan]]


class MadeUpCrops:
    """Crops of coarse noise in memory, with the attributes of `ScaledCrops` that a training uses."""

    def __init__(self, cells: int, channels: int = 3, side: int = 16) -> None:
        blocks = generator("test", "crops").integers(0, 256, (cells, channels, 4, 4), dtype="uint8")
        self.pixels = np.kron(blocks, np.ones((1, 1, side // 4, side // 4), np.uint8))
        self.shape = self.pixels.shape
        self.channels = [f"stain{i}" for i in range(channels)]

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self.pixels[rows]

    def blocks(self, size: int = 256) -> Iterator[np.ndarray]:
        for start in range(0, len(self), size):
            yield self.pixels[start : start + size]


def settings_of(branches: dict[str, Any] | None = None, **settings: Any) -> Settings:
    """Return the settings of [pretrain]; a branch is given by its weight, its positives and the settings of `moco`, or
    by another objective.
    """
    view = ["horizontal_flip", {"name": "center_crop", "side": 0.75}, {"name": "channel_jitter", "brightness": 0.3}]
    moco = {"name": "moco", "queue": 7, "dim": 5, "hidden_dim": 6, "temperature": 0.2, "momentum": 0.9}
    given = {}
    for name, branch in (branches or {"centre": {}}).items():
        own = dict(branch)
        of_branch = {"weight": own.pop("weight", 1.0), "positives": own.pop("positives", None), "view": view}
        given[name] = {**of_branch, "objective": own.pop("objective", moco | own)}
    section = {
        "encoder": {"name": "small", "widths": [4, 6]},
        "branches": given,
        "batch": 4,
        "epochs": 3,
        "learning_rate": 0.01,
        "schedule": "constant",
        "precision": "float32",
    }
    return TypeAdapter(Settings).validate_python(section | settings)


@pytest.fixture
def training() -> Training:
    """Return a function `training(branches, cells=13, seed=0, **settings)` -> state and plan at step 0."""

    def prepared(
        branches: dict[str, Any] | None = None, *, cells: int = 13, channels: int = 3, seed: int = 0, **given: Any
    ) -> tuple[TrainState, Plan]:
        crops: Any = MadeUpCrops(cells, channels)
        settings = settings_of(branches, **given)
        return prepare(settings, crops, [f"cell {i}" for i in range(cells)], seed, torch.device("cpu"))

    return prepared
