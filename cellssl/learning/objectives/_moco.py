"""_moco: the module behind `moco`: projector, momentum projector, queues and the InfoNCE loss."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellssl.learning.initial import initialise, unit_columns
from cellssl.learning.objective import Objective, Seen, follow

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64

    from cellssl.learning.objectives.moco import Settings

NOBODY = -1
"""The cell of a queue's random first keys; no cell's key is hashed to it in practice."""


def logits(
    queries: Float[Tensor, "b dim"],
    keys: Float[Tensor, "b dim"],
    queue: Float[Tensor, "dim k"],
    same_cell: Bool[Tensor, "b k"] | None,
    temperature: float,
) -> Float[Tensor, "b k+1"]:
    """Similarity of each query to its key, then to every key of the queue, over temperature; all of unit length."""
    positive = (queries * keys).sum(dim=1, keepdim=True)  # (b, 1)
    negative = queries @ queue  # (b, k)
    if same_cell is not None:
        negative = negative.masked_fill(same_cell, -torch.inf)
    return torch.cat([positive, negative], dim=1) / temperature


def info_nce(scores: Float[Tensor, "b k+1"]) -> Float[Tensor, ""]:
    """-log softmax of the positive, which stands first (van den Oord et al. 2018, arXiv:1807.03748, equation 4)."""
    return F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device))


class Moco(Objective):
    """State: projectors, `queue` (q, dim, k) of unit columns, the cells that its keys are of, and a pointer."""

    queue: Tensor
    queue_cells: Tensor
    pointer: Tensor

    def __init__(self, settings: Settings, in_dim: int, seed: int, branch: str) -> None:
        super().__init__()
        self.settings = settings
        self.projector = nn.Sequential(
            nn.Linear(in_dim, settings.hidden_dim), nn.ReLU(inplace=True), nn.Linear(settings.hidden_dim, settings.dim)
        )
        initialise(self.projector, seed, f"{branch}.projector")
        self.momentum_projector = copy.deepcopy(self.projector).requires_grad_(False)
        if not settings.symmetric:
            self.online_views, self.momentum_views = (0,), (1,)
        queues = len(self.momentum_views)
        first = [unit_columns(settings.dim, settings.queue, seed, f"{branch}.queue{i}") for i in range(queues)]
        self.register_buffer("queue", torch.stack(first))
        self.register_buffer("queue_cells", torch.full((settings.queue,), NOBODY))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self._fresh: tuple[Tensor, Tensor] | None = None

    @property
    def momentum(self) -> float:
        """How slowly the key encoder follows."""
        return self.settings.momentum

    @property
    def warm(self) -> bool:
        """No queue begins with keys: random ones stand in for them, and are so easy to tell apart that the loss is
        low until the last of them has been overwritten, after queue / batch steps."""
        return bool((self.queue_cells != NOBODY).all())

    def forward(self, seen: Seen) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """InfoNCE of the first view against the keys of the second, and the other way round where symmetric."""
        queries = F.normalize(self.projector(seen.online), dim=-1)  # (q, b, dim)
        with torch.no_grad():
            keys = F.normalize(self.momentum_projector(seen.momentum), dim=-1)
        keys = keys.flip(0)  # (q, b, dim): key i, of the other view, is the positive of query i
        scores = self._scores(queries, keys, seen.cells)
        loss = torch.stack([info_nce(one) for one in scores]).mean()
        if self.training:
            self._fresh = (keys, seen.cells)
        return loss, self._gauges(scores, queries)

    def head(self, *, momentum: bool) -> nn.Module:
        """The projector of queries, or that of keys; its output is not yet of unit length."""
        return self.momentum_projector if momentum else self.projector

    def after_step(self) -> None:
        """Move the momentum projector, then put this step's keys into the queues."""
        follow(self.momentum_projector, self.projector, self.momentum)
        if self._fresh is None:
            return
        keys, cells = self._fresh
        self._fresh = None
        self._enqueue(keys, cells)

    def _scores(
        self, queries: Float[Tensor, "q b dim"], keys: Float[Tensor, "q b dim"], cells: Int64[Tensor, "b"]
    ) -> list[Float[Tensor, "b k+1"]]:
        """Queue i holds former positives of queries i: queue 0 keys of second views, queue 1 those of first views."""
        same = cells[:, None] == self.queue_cells[None, :] if self.settings.mask_same_cell else None
        tau = self.settings.temperature
        return [
            logits(query, key, queue, same, tau) for query, key, queue in zip(queries, keys, self.queue, strict=True)
        ]

    @torch.no_grad()
    def _enqueue(self, keys: Float[Tensor, "q b dim"], cells: Int64[Tensor, "b"]) -> None:
        """Overwrite the oldest keys, around the end where need be; of a batch longer than the queue the last stay."""
        size = self.settings.queue
        places = (self.pointer + torch.arange(len(cells), device=cells.device)) % size
        self.pointer.copy_((self.pointer + len(cells)) % size)
        places, keys, cells = places[-size:], keys[:, -size:], cells[-size:]
        self.queue[:, :, places] = keys.transpose(1, 2).to(self.queue.dtype)
        self.queue_cells[places] = cells

    @torch.no_grad()
    def _gauges(self, scores: list[Tensor], queries: Tensor) -> dict[str, Tensor]:
        """What the loss is to be read by.

        Accuracy of picking the positive; log of the number of candidates, which is the loss of whoever does not look;
        spread of the projections over the 1/sqrt(dim) of an even one: 0 when they have collapsed.
        """
        hits = torch.stack([one.argmax(dim=1) == 0 for one in scores])
        candidates = torch.stack([one.isfinite().sum(dim=1) for one in scores])
        return {
            "accuracy": hits.float().mean(),
            "chance": candidates.float().log().mean(),
            "projection_spread": queries.std(dim=1, correction=0).mean() * self.settings.dim**0.5,
        }
