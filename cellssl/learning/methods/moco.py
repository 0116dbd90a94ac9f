"""moco: the module behind `moco`: projector, momentum projector, queues and a loss of the InfoNCE family."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellssl.learning.methods.base import MethodInput, ema_update
from cellssl.learning.methods.contrastive_loss import contrast, gauges, info_nce
from cellssl.learning.methods.queue import EMPTY_SLOT, Queued
from cellssl.learning.weight_init import initialise

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64

    from cellssl.learning.objectives.moco import Settings

__all__ = ["EMPTY_SLOT", "Moco", "info_nce", "logits"]


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


class Moco(Queued):
    """State: projectors and queues."""

    momentum_views: tuple[int, ...] = (0, 1)

    def __init__(self, settings: Settings, in_dim: int, seed: int, branch: str) -> None:
        super().__init__()
        self.settings = settings
        self.options = settings.options(settings.temperature)
        self.projector = nn.Sequential(
            nn.Linear(in_dim, settings.hidden_dim), nn.ReLU(inplace=True), nn.Linear(settings.hidden_dim, settings.dim)
        )
        initialise(self.projector, seed, f"{branch}.projector")
        self.momentum_projector = copy.deepcopy(self.projector).requires_grad_(False)
        if not settings.symmetric:
            self.online_views, self.momentum_views = (0,), (1,)
        self.begin_queues(len(self.momentum_views), settings.dim, settings.queue, seed, branch)

    @property
    def momentum(self) -> float:
        """How slowly the key encoder follows."""
        return self.settings.momentum

    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The first view against the keys of the second, and the other way round where symmetric."""
        queries = F.normalize(self.projector(seen.online), dim=-1)  # (q, b, dim)
        with torch.no_grad():
            keys = F.normalize(self.momentum_projector(seen.momentum), dim=-1)
        keys = keys.flip(0)  # (q, b, dim): key i, of the other view, is the positive of query i
        scores = self._scores(queries, keys, seen.cells)
        loss = torch.stack([contrast(one, self.options) for one in scores]).mean()
        self.keep(keys, seen.cells)
        return loss, gauges(scores, queries)

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Unit projections."""
        return F.normalize(self.projector(features), dim=-1)

    def after_step(self) -> None:
        """Move the momentum projector, then put this step's keys into the queues."""
        ema_update(self.momentum_projector, self.projector, self.momentum)
        self.enqueue()

    def _scores(
        self, queries: Float[Tensor, "q b dim"], keys: Float[Tensor, "q b dim"], cells: Int64[Tensor, "b"]
    ) -> list[Float[Tensor, "b k+1"]]:
        """Queue i holds former positives of queries i: queue 0 keys of second views, queue 1 those of first views."""
        same = cells[:, None] == self.queue_cells[None, :] if self.settings.mask_same_cell else None
        tau = self.settings.temperature
        return [
            logits(query, key, queue, same, tau) for query, key, queue in zip(queries, keys, self.queue, strict=True)
        ]
