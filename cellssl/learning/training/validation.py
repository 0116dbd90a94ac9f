"""validation: a state and cells that it does not learn from in, the loss on them out; nothing is remembered of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cellssl.learning.training.loop import encode_views
from cellssl.learning.training.readers import prefetch

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor

    from cellssl.learning.training.loop import Plan
    from cellssl.learning.training.readers import Read
    from cellssl.learning.training.state import TrainState


@torch.no_grad()
def validation_loss(state: TrainState, plan: Plan, read: Read, cell_keys: Int64[Tensor, "n"]) -> float:
    """The weighted sum of losses on cells that are not learned from; their views are the same at every look."""
    state.eval()
    total = torch.zeros((), device=plan.device)
    batches = torch.arange(len(cell_keys)).split(plan.batches.size)
    for rows, crops in prefetch(read, (rows.numpy() for rows in batches), plan.group.share):
        cells = cell_keys[torch.from_numpy(rows)]
        for branch in plan.branches:
            seen = encode_views(state, plan, branch, crops, cells, "validation")
            total += branch.weight * branch.objective(seen)[0] * (len(rows) / len(cell_keys))
    return total.item()
