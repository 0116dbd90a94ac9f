"""batches: a number of cells, a batch size and a seed in, the cells of each training step out.

Time is counted in steps only. Epochs, each with its own order of the cells, are joined end to end and cut into batches.
So every batch is full, every cell is seen equally often, and the batch of a step follows from the step's number alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from cellssl.errors import UsageError
from cellssl.randomness import generator

if TYPE_CHECKING:
    from jaxtyping import Int64


@dataclass(frozen=True)
class Batches:
    """Batches of `size` cells, drawn from `cells` training cells."""

    cells: int
    size: int
    seed: int

    def __post_init__(self) -> None:
        if self.size > self.cells:
            raise UsageError(
                f"a batch of {self.size} is larger than the {self.cells} training cells",
                hint=f"set pretrain.batch to {self.cells} or less",
            )

    def steps(self, epochs: float) -> int:
        """Return how many steps show every cell `epochs` times; the last batch is filled from the next epoch."""
        return math.ceil(epochs * self.cells / self.size)

    def rows(self, step: int) -> Int64[np.ndarray, "b"]:
        """Return the cells of one step, as rows of the training set."""
        positions = np.arange(step * self.size, (step + 1) * self.size)
        epochs, within = np.divmod(positions, self.cells)
        rows = [_epoch_order(self.cells, self.seed, int(epoch))[within[epochs == epoch]] for epoch in np.unique(epochs)]
        return np.concatenate(rows)


@lru_cache(maxsize=2)
def _epoch_order(cells: int, seed: int, epoch: int) -> Int64[np.ndarray, "n"]:
    return generator("order", seed, epoch).permutation(cells)
