"""queue: new projections in, former ones to compare with out; the queues of MoCo and related objectives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cellssl.learning.methods.base import Objective
from cellssl.learning.weight_init import unit_columns

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

EMPTY_SLOT = -1
"""Stands for a cell in the slots that still hold the random initial keys; in practice no cell's key hashes to it."""


class QueuedObjective(Objective):
    """Base of objectives with queues.

    State: `queue` (q, dim, k) with columns of length 1, the cells that its columns belong to (with positives from
    metadata their treatments), and a write position.
    """

    queue: Tensor
    queue_cells: Tensor
    pointer: Tensor

    def init_queues(self, queues: int, dim: int, size: int, seed: int, branch: str) -> None:
        """Create the queues and fill them with random unit vectors that belong to no cell."""
        initial = [unit_columns(dim, size, seed, f"{branch}.queue{i}") for i in range(queues)]
        self.register_buffer("queue", torch.stack(initial))
        self.register_buffer("queue_cells", torch.full((size,), EMPTY_SLOT))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self._random_keys: int | None = size
        self.register_load_state_dict_post_hook(_forget_count)
        self._staged: tuple[Tensor, Tensor] | None = None

    @property
    def filled(self) -> bool:
        """Whether all random keys have been overwritten; this takes queue / batch steps."""
        if self._random_keys is None:  # once after a state was loaded; then counted, so that no step waits for a GPU
            self._random_keys = int((self.queue_cells == EMPTY_SLOT).sum())
        return self._random_keys == 0

    @property
    def queue_is_full(self) -> bool:
        """Whether the loss compares with real keys only: random keys are so easy to recognise that the loss is too
        low until the last of them has been overwritten."""
        return self.filled

    def stage_for_queue(self, keys: Float[Tensor, "q b dim"], cells: Int64[Tensor, "b"]) -> None:
        """Remember keys for `enqueue`; in evaluation mode nothing is remembered."""
        if self.training and len(self.queue_cells):
            self._staged = (keys.detach(), cells)

    @torch.no_grad()
    def enqueue(self) -> None:
        """Overwrite the oldest keys with the staged ones; of a batch longer than the queue the last keys stay."""
        if self._staged is None:
            return
        keys, cells = self._staged
        self._staged = None
        size = len(self.queue_cells)
        if self._random_keys is not None:
            self._random_keys = max(0, self._random_keys - len(cells))
        slots = (self.pointer + torch.arange(len(cells), device=cells.device)) % size  # wraps around the end
        self.pointer.copy_((self.pointer + len(cells)) % size)
        slots, keys, cells = slots[-size:], keys[:, -size:], cells[-size:]
        self.queue[:, :, slots] = keys.transpose(1, 2).to(self.queue.dtype)
        self.queue_cells[slots] = cells


def _forget_count(objective: Objective, _: object) -> None:
    """Forget how many random keys there are: a state was loaded."""
    assert isinstance(objective, QueuedObjective)
    objective._random_keys = None
