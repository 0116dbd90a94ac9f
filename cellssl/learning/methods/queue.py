"""queue: fresh projections in, former ones to compare with out; the queues that MoCo and its kin keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cellssl.learning.methods.base import Objective
from cellssl.learning.weight_init import unit_columns

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

EMPTY_SLOT = -1
"""The cell of a queue's random first keys; no cell's key is hashed to it in practice."""


class Queued(Objective):
    """State: `queue` (q, dim, k) of unit columns, the cells that its keys are of, and a pointer."""

    queue: Tensor
    queue_cells: Tensor
    pointer: Tensor

    def begin_queues(self, queues: int, dim: int, size: int, seed: int, branch: str) -> None:
        """Fill them with random unit keys of nobody."""
        first = [unit_columns(dim, size, seed, f"{branch}.queue{i}") for i in range(queues)]
        self.register_buffer("queue", torch.stack(first))
        self.register_buffer("queue_cells", torch.full((size,), EMPTY_SLOT))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self._fresh: tuple[Tensor, Tensor] | None = None

    @property
    def filled(self) -> bool:
        """Whether the last random key has been overwritten, which is so after queue / batch steps."""
        return bool((self.queue_cells != EMPTY_SLOT).all())

    @property
    def queue_is_full(self) -> bool:
        """No queue begins with keys: random ones stand in for them, and are so easy to tell apart that the loss is
        low until the last of them has been overwritten."""
        return self.filled

    def keep(self, keys: Float[Tensor, "q b dim"], cells: Int64[Tensor, "b"]) -> None:
        """Have them ready for `enqueue`; nothing is kept of what is only looked at."""
        if self.training and len(self.queue_cells):
            self._fresh = (keys.detach(), cells)

    @torch.no_grad()
    def enqueue(self) -> None:
        """Overwrite the oldest keys, around the end where need be; of a batch longer than the queue the last stay."""
        if self._fresh is None:
            return
        keys, cells = self._fresh
        self._fresh = None
        size = len(self.queue_cells)
        places = (self.pointer + torch.arange(len(cells), device=cells.device)) % size
        self.pointer.copy_((self.pointer + len(cells)) % size)
        places, keys, cells = places[-size:], keys[:, -size:], cells[-size:]
        self.queue[:, :, places] = keys.transpose(1, 2).to(self.queue.dtype)
        self.queue_cells[places] = cells
