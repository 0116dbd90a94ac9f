"""prototypes: the modules behind `swav`, `deepcluster_v2` and `dino`: to which prototypes a cell belongs, told."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellssl.config import plugins
from cellssl.learning.methods.base import MethodInput, Objective, ema_update
from cellssl.learning.methods.contrastive_loss import spread_of
from cellssl.learning.methods.heads import l2_normalize, mlp
from cellssl.learning.methods.queue import Queued
from cellssl.learning.view import View
from cellssl.learning.weight_init import unit_columns
from cellssl.randomness import generator

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

    from cellssl.learning.methods.build_context import BuildContext
    from cellssl.learning.objectives import deepcluster_v2, dino, swav
    from cellssl.learning.objectives._shared_settings import MultiCropped
    from cellssl.learning.view import ViewSettings

UNKNOWN = -1
"""The cluster of a cell that has not been assigned."""


@torch.no_grad()
def sinkhorn(scores: Float[Tensor, "b k"], epsilon: float, n_iterations: int) -> Float[Tensor, "b k"]:
    """Codes: shares of each cell in the prototypes, high where the scores are and even over prototypes.

    Sinkhorn-Knopp on exp(scores / epsilon) (SwAV, arXiv:2006.09882); every cell's shares sum to 1.
    """
    log = scores / epsilon
    for _ in range(n_iterations):
        log = log - log.logsumexp(dim=0, keepdim=True)  # each prototype gets as much as any other
        log = log - log.logsumexp(dim=1, keepdim=True)  # each cell gives 1
    return log.exp() if n_iterations else log.softmax(dim=1)


def told_by_others(
    logits: Float[Tensor, "v b k"], targets: Float[Tensor, "t b k"], temperature: float
) -> Float[Tensor, ""]:
    """Cross-entropy of target i with every view but view i itself, averaged over cells and pairs.

    SwAV's swapped prediction (arXiv:2006.09882, equations 1 and 2) and DINO's loss (arXiv:2104.14294, equation 3).
    """
    log_shares = (logits / temperature).log_softmax(dim=-1)
    pairs = -torch.einsum("tbk,vbk->tv", targets, log_shares) / logits.shape[1]
    apart = torch.ones_like(pairs, dtype=torch.bool).fill_diagonal_(False)
    return pairs[apart].mean()


@torch.no_grad()
def spherical_k_means(
    points: Float[Tensor, "n dim"], centroids: Float[Tensor, "k dim"], n_iterations: int
) -> tuple[Float[Tensor, "k dim"], Int64[Tensor, "n"]]:
    """Unit centroids, each the direction of the mean of its points, and the most similar one of every point.

    A centroid without points stays where it is.
    """
    for _ in range(n_iterations):
        nearest = (points @ centroids.T).argmax(dim=1)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, points)
        filled = torch.bincount(nearest, minlength=len(centroids)) > 0
        centroids = torch.where(filled[:, None], F.normalize(sums, dim=1), centroids)
    return centroids, (points @ centroids.T).argmax(dim=1)


class MultiCrop(Objective):
    """Two whole views, and small ones of a part of the cell that only the trained encoder sees. State: `steps`."""

    steps: Tensor

    def set_up(self, settings: MultiCropped, task: BuildContext) -> None:
        """Say which views it wants, and begin to count."""
        self.crops = settings
        self.views = 2 + settings.local_crops
        self.online_views = tuple(range(self.views))
        self.epoch_steps = task.epoch_steps
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def shown(self, query: ViewSettings, key: ViewSettings) -> tuple[View, ...]:
        """Small views are cut out of key views."""
        cut = plugins.load("cellssl.learning.transforms", "random_resized_crop").Settings(scale=self.crops.local_scale)
        small = View((*key, cut), side=self.crops.local_side)
        return (View(query), View(key), *[small] * self.crops.local_crops)

    def is_frozen(self, epochs: float) -> bool:
        """Whether the first epochs are not over yet."""
        return bool(self.steps < epochs * self.epoch_steps)

    def after_step(self) -> None:
        """Count."""
        self.steps += 1


class SwAv(MultiCrop, Queued):
    """State: projector, prototypes, queues of former projections of both whole views."""

    uses_stop_gradient = True  # codes

    def __init__(self, settings: swav.Settings, task: BuildContext) -> None:
        super().__init__()
        self.set_up(settings, task)
        self.settings = settings
        widths = [task.in_dim, settings.hidden_dim, settings.dim]
        self.projector = mlp(widths, task.seed, f"{task.branch}.projector")
        start = unit_columns(settings.dim, settings.prototypes, task.seed, f"{task.branch}.prototypes")
        self.prototypes = nn.Parameter(start.T.contiguous())
        self.begin_queues(2, settings.dim, settings.queue, task.seed, task.branch)

    @property
    def queue_is_full(self) -> bool:
        """Random keys are never looked at: the queue is used once it is full."""
        return True

    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The code of each whole view, told by every other view."""
        knobs = self.settings
        views = l2_normalize(self.projector(seen.online.flatten(0, 1))).unflatten(0, seen.online.shape[:2])
        frozen = self.is_frozen(knobs.frozen_epochs)
        scores = views @ (self.prototypes.detach() if frozen else self.prototypes).T
        codes = torch.stack([self._codes(scores[i], i) for i in (0, 1)])
        self.keep(views[:2], seen.cells)
        gauges = {"projection_spread": spread_of(views), "prototypes_used": used(codes)}
        return told_by_others(scores, codes, knobs.temperature), gauges

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Unit projections."""
        return l2_normalize(self.projector(features))

    @torch.no_grad()
    def after_step(self) -> None:
        """Bring the prototypes back to length 1, then fill the queues."""
        super().after_step()
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))
        self.enqueue()

    @torch.no_grad()
    def _codes(self, scores: Float[Tensor, "b k"], view: int) -> Float[Tensor, "b k"]:
        """Of the cells of the batch, shared out together with those of the queue."""
        asked = scores
        if self.settings.queue and self.filled:
            asked = torch.cat([scores, self.queue[view].T @ self.prototypes.T])
        return sinkhorn(asked, self.settings.epsilon, self.settings.n_iterations)[: len(scores)]


class DeepCluster(MultiCrop):
    """State: projector; for both whole views a bank of every training cell's last projection; for each head
    centroids, and the cluster of every cell, found anew after each epoch."""

    bank: Tensor
    bank_cells: Tensor
    centroids: Tensor
    assigned: Tensor

    def __init__(self, settings: deepcluster_v2.Settings, task: BuildContext) -> None:
        super().__init__()
        self.set_up(settings, task)
        self.settings, self.seed, self.branch = settings, task.seed, task.branch
        cells, dim = len(task.cells), settings.dim
        widths = [task.in_dim, settings.hidden_dim, dim]
        self.projector = mlp(widths, task.seed, f"{task.branch}.projector")
        first = [
            unit_columns(dim, settings.prototypes, task.seed, f"{task.branch}.centroids{i}").T
            for i in range(settings.heads)
        ]
        self.register_buffer("centroids", torch.stack(first).contiguous())
        self.register_buffer("assigned", torch.full((settings.heads, cells), UNKNOWN))
        self.register_buffer("bank", torch.zeros(2, cells, dim))
        self.register_buffer("bank_cells", task.cells.sort().values)
        self._fresh: tuple[Tensor, Tensor] | None = None

    @property
    def queue_is_full(self) -> bool:
        """Until the first epoch is over, cells are assigned on sight to random centroids."""
        return bool((self.assigned != UNKNOWN).all())

    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The cluster of each cell, told by every view; the mean over heads."""
        views = l2_normalize(self.projector(seen.online.flatten(0, 1))).unflatten(0, seen.online.shape[:2])
        rows = self.rows_of(seen.cells)
        losses, hits = [], []
        for head, centroids in enumerate(self.centroids):
            logits = views @ centroids.T / self.settings.temperature
            clusters = self._clusters(head, rows, logits[head % 2])
            losses.append(F.cross_entropy(logits.flatten(0, 1), clusters.repeat(len(views))))
            hits.append((logits.argmax(dim=-1) == clusters).float().mean())
        if self.training:
            self._fresh = (views[:2].detach(), rows)
        return torch.stack(losses).mean(), {
            "accuracy": torch.stack(hits).mean(),
            "projection_spread": spread_of(views),
        }

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Unit projections."""
        return l2_normalize(self.projector(features))

    def rows_of(self, cells: Int64[Tensor, "b"]) -> Int64[Tensor, "b"]:
        """Their places in the bank; UNKNOWN for cells that are not learned from."""
        rows = torch.searchsorted(self.bank_cells, cells).clamp(max=len(self.bank_cells) - 1)
        return rows.where(self.bank_cells[rows] == cells, UNKNOWN)

    @torch.no_grad()
    def after_step(self) -> None:
        """Keep the projections; at the end of an epoch, cluster."""
        super().after_step()
        if self._fresh is not None:
            views, rows = self._fresh
            self._fresh = None
            last = list({row: place for place, row in enumerate(rows.tolist()) if row != UNKNOWN}.values())
            self.bank[:, rows[last]] = views[:, last]
        if int(self.steps) % self.epoch_steps == 0:
            self._cluster()

    def _clusters(self, head: int, rows: Int64[Tensor, "b"], logits: Float[Tensor, "b k"]) -> Int64[Tensor, "b"]:
        """As found after the last epoch; on sight for a cell that was not there."""
        known = self.assigned[head][rows.clamp(min=0)].where(rows != UNKNOWN, UNKNOWN)
        return known.where(known != UNKNOWN, logits.argmax(dim=1))

    def _cluster(self) -> None:
        """Spherical K-Means of the bank, for each head from other cells; heads take turns with the views."""
        for head in range(self.settings.heads):
            points = self.bank[head % 2]
            chance = generator("deepcluster", self.seed, self.branch, head, int(self.steps))
            start = torch.from_numpy(chance.permutation(len(points))[: self.settings.prototypes]).to(points.device)
            found = spherical_k_means(points, points[start], self.settings.n_iterations)
            self.centroids[head], self.assigned[head] = found


class Dino(MultiCrop):
    """State: head and momentum head, each a projector and prototypes, and the centre of the teacher's scores."""

    momentum_views = (0, 1)
    centre: Tensor

    def __init__(self, settings: dino.Settings, task: BuildContext) -> None:
        super().__init__()
        self.set_up(settings, task)
        self.settings = settings
        wide, dim = settings.hidden_dim, settings.dim
        name = f"{task.branch}.projector"
        self.projector = mlp([task.in_dim, wide, wide, dim], task.seed, name, norm=False, activation=nn.GELU)
        start = unit_columns(dim, settings.prototypes, task.seed, f"{task.branch}.prototypes")
        self.prototypes = nn.Parameter(start.T.contiguous())
        self.momentum_projector = copy.deepcopy(self.projector).requires_grad_(False)
        self.momentum_prototypes = nn.Parameter(self.prototypes.detach().clone(), requires_grad=False)
        self.register_buffer("centre", torch.zeros(settings.prototypes))
        self._fresh: Tensor | None = None

    @property
    def momentum(self) -> float:
        """How slowly the teacher follows."""
        return self.settings.momentum

    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """What the teacher says of each whole view, told by the student of every other view."""
        knobs = self.settings
        projections = self.project(seen.online)
        prototypes = F.normalize(self.prototypes, dim=1)
        frozen = self.is_frozen(knobs.frozen_epochs)
        logits = projections @ (prototypes.detach() if frozen else prototypes).T
        with torch.no_grad():
            keys = l2_normalize(self.momentum_projector(seen.momentum))
            told = keys @ F.normalize(self.momentum_prototypes, dim=1).T
        targets = ((told - self.centre) / knobs.teacher_temperature).softmax(dim=-1)
        if self.training:
            self._fresh = told.mean(dim=(0, 1))
        gauges = {"projection_spread": spread_of(projections), "prototypes_used": used(targets)}
        return told_by_others(logits, targets, knobs.temperature), gauges

    def project(self, features: Float[Tensor, "*b dim"]) -> Float[Tensor, "*b out"]:
        """Unit projections."""
        return l2_normalize(self.projector(features))

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the teacher's head and the centre (arXiv:2104.14294, equation 4)."""
        super().after_step()
        ema_update(self.momentum_projector, self.projector, self.momentum)
        self.momentum_prototypes.lerp_(self.prototypes, 1 - self.momentum)
        if self._fresh is not None:
            self.centre.lerp_(self._fresh, 1 - self.settings.centre_momentum)
            self._fresh = None


@torch.no_grad()
def used(shares: Float[Tensor, "v b k"]) -> Float[Tensor, ""]:
    """exp(entropy of the mean share): how many prototypes the batch is spread over; 1 when all cells go to one."""
    number: Tensor = torch.special.entr(shares.mean(dim=(0, 1))).sum().exp()
    return number
