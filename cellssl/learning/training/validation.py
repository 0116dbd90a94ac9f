"""validation: a training state and the validation cells in, the loss on them out; the state does not change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from cellssl.learning.training.batch_norm import batch_statistics
from cellssl.learning.training.compilation import not_compiled
from cellssl.learning.training.loop import encode_views

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Int64
    from torch import Tensor

    from cellssl.learning.training.loop import Plan
    from cellssl.learning.training.positives import Positives
    from cellssl.learning.training.readers import CropReader
    from cellssl.learning.training.state import TrainState


@torch.no_grad()
def validation_loss(
    state: TrainState,
    plan: Plan,
    read: CropReader,
    cell_keys: Int64[Tensor, "n"],
    positives: Mapping[str, Positives] | None = None,
) -> float:
    """Return the weighted sum of losses on cells outside the training set; their views are the same every time.

    `positives` are those of these cells, by branch.

    Batches have the size of the training's, and batch norm uses their statistics, so that the loss can be compared with
    the training loss at every step: both depend on the number of cells in a batch and on how they are normalised.
    """
    state.eval()
    total = torch.zeros((), device=plan.device)
    batches = validation_batches(len(cell_keys), plan.batches.size)
    with batch_statistics(state.modules()), not_compiled(state):
        for batch in plan.reader(read, cell_keys, positives or {}).batches(("validation", rows) for rows in batches):
            cells, when = cell_keys[torch.from_numpy(batch.rows)], "validation"
            for branch in plan.branches:
                paired = batch.paired.get(branch.name)
                encoded = encode_views(state, plan, branch, batch.crops, cells, when, paired=paired)
                total += branch.weight * branch.objective(encoded)[0] / len(batches)
    return total.item()


def validation_batches(cells: int, size: int) -> list[Int64[np.ndarray, "b"]]:
    """Return the rows of batches of equal size that hold every cell; the last batch is filled with the first cells.

    Fewer cells than `size` make one smaller batch, because a cell that occurs twice in a batch is its own negative.
    """
    size = min(size, cells)
    return [np.arange(start, start + size) % cells for start in range(0, cells, size)]
