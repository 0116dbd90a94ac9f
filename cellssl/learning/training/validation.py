"""validation: a training state and the validation cells in, the loss on them out; the state does not change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cellssl.learning.training.loop import encode_views
from cellssl.learning.training.readers import prefetch

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor

    from cellssl.learning.training.loop import Plan
    from cellssl.learning.training.readers import CropReader
    from cellssl.learning.training.state import TrainState


@torch.no_grad()
def validation_loss(state: TrainState, plan: Plan, read: CropReader, cell_keys: Int64[Tensor, "n"]) -> float:
    """Return the weighted sum of losses on cells outside the training set; their views are the same every time."""
    state.eval()
    total = torch.zeros((), device=plan.device)
    batches = torch.arange(len(cell_keys)).split(plan.batches.size)
    for rows, crops in prefetch(read, (rows.numpy() for rows in batches), plan.group.share):
        cells = cell_keys[torch.from_numpy(rows)]
        for branch in plan.branches:
            encoded = encode_views(state, plan, branch, crops, cells, "validation")
            total += branch.weight * branch.objective(encoded)[0] * (len(rows) / len(cell_keys))
    return total.item()
