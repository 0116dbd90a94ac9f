"""prototypes: the modules of `swav`, `deepcluster_v2` and `dino`: the prototypes of a cell predicted from its views."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellssl.device import to_device
from cellssl.learning.methods.base import MethodInput, Objective, ema_update
from cellssl.learning.methods.contrastive_loss import projection_spread
from cellssl.learning.methods.heads import l2_normalize, mlp
from cellssl.learning.methods.queue import QueuedObjective
from cellssl.learning.transforms import random_resized_crop
from cellssl.learning.view import View
from cellssl.learning.weight_init import unit_columns
from cellssl.randomness import generator

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

    from cellssl.learning.methods.build_context import BuildContext
    from cellssl.learning.view import ViewSettings

UNASSIGNED = -1
"""The cluster of a cell that has not been assigned yet, and the bank row of a cell that is not a training cell."""


@dataclass(frozen=True)
class LocalCrops:
    """Local crops of multi-crop training, beside the two global views."""

    number: int
    """How many per cell."""
    side: float
    """Their side, as a fraction of the side of a global view."""
    scale: tuple[float, float]
    """Smallest and largest area that they cover, as a fraction of the area of a key view."""


@torch.no_grad()
def sinkhorn(scores: Float[Tensor, "b k"], epsilon: float, n_iterations: int) -> Float[Tensor, "b k"]:
    """Return codes: soft assignments of cells to prototypes, high where the scores are, and even over prototypes.

    Sinkhorn-Knopp on exp(scores / epsilon) (SwAV, arXiv:2006.09882); the code of every cell sums to 1.
    """
    log = scores / epsilon
    for _ in range(n_iterations):
        log = log - log.logsumexp(dim=0, keepdim=True)  # all prototypes get the same total
        log = log - log.logsumexp(dim=1, keepdim=True)  # every cell sums to 1
    return log.exp() if n_iterations else log.softmax(dim=1)


def cross_view_cross_entropy(
    logits: Float[Tensor, "v b k"], targets: Float[Tensor, "t b k"], temperature: float
) -> Float[Tensor, ""]:
    """Return the cross-entropy of target i with every view except view i, averaged over cells and pairs.

    SwAV's swapped prediction (arXiv:2006.09882, equations 1 and 2) and DINO's loss (arXiv:2104.14294, equation 3).
    """
    log_shares = (logits / temperature).log_softmax(dim=-1)
    pairs = -torch.einsum("tbk,vbk->tv", targets, log_shares) / logits.shape[1]
    different_view = [part for i, row in enumerate(pairs) for part in (row[:i], row[i + 1 :])]
    return torch.cat(different_view).mean()


@torch.no_grad()
def spherical_k_means(
    points: Float[Tensor, "n dim"], centroids: Float[Tensor, "k dim"], n_iterations: int
) -> tuple[Float[Tensor, "k dim"], Int64[Tensor, "n"]]:
    """Return unit centroids, each the direction of the mean of its points, and the nearest centroid of every point.

    A centroid without points stays where it is.
    """
    for _ in range(n_iterations):
        nearest = (points @ centroids.T).argmax(dim=1)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, points)
        has_points = torch.zeros_like(centroids[:, 0]).index_fill_(0, nearest, 1.0) > 0  # bincount waits for a GPU
        centroids = torch.where(has_points[:, None], F.normalize(sums, dim=1), centroids)
    return centroids, (points @ centroids.T).argmax(dim=1)


class MultiCrop(Objective):
    """Base of objectives with two global views and some local crops, which only the trained encoder gets.

    State: `steps`, the number of steps so far.
    """

    steps: Tensor

    def init_multi_crop(self, context: BuildContext, local_crops: LocalCrops) -> None:
        """Set the views, and start to count steps."""
        self.local_crops = local_crops
        self.n_views = 2 + local_crops.number
        self.online_views = tuple(range(self.n_views))
        self.epoch_steps = context.epoch_steps
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self._steps_done: int | None = 0
        self.register_load_state_dict_post_hook(_forget_steps)

    def make_views(self, query: ViewSettings, key: ViewSettings) -> tuple[View, ...]:
        """Return the query, the key, and local crops, which are cut out of key views."""
        random_crop = random_resized_crop.Settings(scale=self.local_crops.scale)
        local = View((*key, random_crop), side=self.local_crops.side)
        return (View(query), View(key), *[local] * self.local_crops.number)

    def is_frozen(self, epochs: float) -> bool:
        """Return whether the training is still within its first epochs."""
        return self.steps_done() < epochs * self.epoch_steps

    def steps_done(self) -> int:
        """Return `steps`, which is read once after a state was loaded; then it is counted on the CPU, too."""
        if self._steps_done is None:
            self._steps_done = int(self.steps)
        return self._steps_done

    def after_step(self) -> None:
        """Count the step."""
        self._steps_done = self.steps_done() + 1
        self.steps += 1


def _forget_steps(objective: Objective, _: object) -> None:
    """Forget the number of steps: a state was loaded."""
    assert isinstance(objective, MultiCrop)
    objective._steps_done = None


class SwAv(MultiCrop, QueuedObjective):
    """SwAV. State: a projector, prototypes, and one queue of former projections per global view."""

    uses_stop_gradient = True  # codes

    def __init__(
        self,
        context: BuildContext,
        *,
        local_crops: LocalCrops,
        hidden_dim: int,
        dim: int,
        prototypes: int,
        temperature: float,
        epsilon: float,
        n_iterations: int,
        queue_size: int,
        frozen_epochs: float,
    ) -> None:
        super().__init__()
        self.init_multi_crop(context, local_crops)
        self.temperature, self.epsilon, self.n_iterations = temperature, epsilon, n_iterations
        self.frozen_epochs = frozen_epochs
        seed, branch = context.seed, context.branch
        self.projector = mlp([context.in_dim, hidden_dim, dim], seed, f"{branch}.projector")
        initial = unit_columns(dim, prototypes, seed, f"{branch}.prototypes")
        self.prototypes = nn.Parameter(initial.T.contiguous())
        self.init_queues(2, dim, queue_size, seed, branch)

    @property
    def queue_is_full(self) -> bool:
        """Always True: random keys are never used, because the queue is left out until it is full."""
        return True

    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the loss of predicting the code of each global view from every other view."""
        views = l2_normalize(self.projector(inputs.online.flatten(0, 1))).unflatten(0, inputs.online.shape[:2])
        frozen = self.is_frozen(self.frozen_epochs)
        scores = views @ (self.prototypes.detach() if frozen else self.prototypes).T
        codes = torch.stack([self._codes(scores[i], i) for i in (0, 1)])
        self.stage_for_queue(views[:2], inputs.cells)
        diagnostics = {"projection_spread": projection_spread(views), "prototypes_used": effective_prototypes(codes)}
        return cross_view_cross_entropy(scores, codes, self.temperature), diagnostics

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Return unit projections."""
        return l2_normalize(self.projector(features))

    @torch.no_grad()
    def after_step(self) -> None:
        """Scale the prototypes back to length 1, then fill the queues."""
        super().after_step()
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))
        self.enqueue()

    @torch.no_grad()
    def _codes(self, scores: Float[Tensor, "b k"], view: int) -> Float[Tensor, "b k"]:
        """Return the codes of the batch, computed together with the cells in the queue once it is full."""
        all_scores = scores
        if len(self.queue_cells) and self.filled:
            all_scores = torch.cat([scores, self.queue[view].T @ self.prototypes.T])
        return sinkhorn(all_scores, self.epsilon, self.n_iterations)[: len(scores)]


class DeepCluster(MultiCrop):
    """DeepCluster v2, which clusters all training cells after each epoch.

    State: a projector; for both global views a bank of the last projection of every training cell; for each head
    centroids, and the cluster of every cell.
    """

    bank: Tensor
    bank_cells: Tensor
    centroids: Tensor
    assigned: Tensor

    def __init__(
        self,
        context: BuildContext,
        *,
        local_crops: LocalCrops,
        hidden_dim: int,
        dim: int,
        prototypes: int,
        heads: int,
        n_iterations: int,
        temperature: float,
    ) -> None:
        super().__init__()
        self.init_multi_crop(context, local_crops)
        self.n_iterations, self.temperature = n_iterations, temperature
        self.seed, self.branch = context.seed, context.branch
        cells = len(context.cells)
        self.projector = mlp([context.in_dim, hidden_dim, dim], self.seed, f"{self.branch}.projector")
        initial = [unit_columns(dim, prototypes, self.seed, f"{self.branch}.centroids{i}").T for i in range(heads)]
        self.register_buffer("centroids", torch.stack(initial).contiguous())
        self.register_buffer("assigned", torch.full((heads, cells), UNASSIGNED))
        self.register_buffer("bank", torch.zeros(2, cells, dim))
        self.register_buffer("bank_cells", context.cells.sort().values)
        self._staged: tuple[Tensor, Tensor] | None = None

    @property
    def queue_is_full(self) -> bool:
        """Whether all cells have a cluster: in the first epoch they are assigned to the nearest random centroid."""
        return bool((self.assigned != UNASSIGNED).all())

    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the loss of predicting the cluster of each cell from every view, averaged over heads."""
        views = l2_normalize(self.projector(inputs.online.flatten(0, 1))).unflatten(0, inputs.online.shape[:2])
        rows = self.bank_rows(inputs.cells)
        losses, hits = [], []
        for head, centroids in enumerate(self.centroids):
            logits = views @ centroids.T / self.temperature
            clusters = self._clusters(head, rows, logits[head % 2])
            losses.append(F.cross_entropy(logits.flatten(0, 1), clusters.repeat(len(views))))
            hits.append((logits.argmax(dim=-1) == clusters).float().mean())
        if self.training:
            self._staged = (views[:2].detach(), rows)
        return torch.stack(losses).mean(), {
            "accuracy": torch.stack(hits).mean(),
            "projection_spread": projection_spread(views),
        }

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Return unit projections."""
        return l2_normalize(self.projector(features))

    def bank_rows(self, cells: Int64[Tensor, "b"]) -> Int64[Tensor, "b"]:
        """Return the rows of cells in the bank; UNASSIGNED for cells that are not training cells."""
        rows = torch.searchsorted(self.bank_cells, cells).clamp(max=len(self.bank_cells) - 1)
        return rows.where(self.bank_cells[rows] == cells, UNASSIGNED)

    @torch.no_grad()
    def after_step(self) -> None:
        """Store the projections of this step in the bank; at the end of an epoch, cluster the bank."""
        super().after_step()
        if self._staged is not None:
            views, rows = self._staged
            self._staged = None
            self._store(views, rows)
        if self.steps_done() % self.epoch_steps == 0:
            self._cluster()

    def _store(self, views: Float[Tensor, "2 b dim"], rows: Int64[Tensor, "b"]) -> None:
        """Write projections into the bank; of a cell that is in the batch several times, the last one.

        All places are written, so that shapes do not depend on values: those of a cell with the same projection, and
        those of cells that are not in the bank with what is there.
        """
        places = torch.arange(len(rows), device=rows.device)
        written = rows.clamp(min=0)
        same_row = (written[:, None] == written[None, :]) & (rows != UNASSIGNED)[None, :]
        last = torch.where(same_row, places[None, :], -1).amax(dim=1)
        self.bank[:, written] = torch.where((last < 0)[:, None], self.bank[:, written], views[:, last.clamp(min=0)])

    def _clusters(self, head: int, rows: Int64[Tensor, "b"], logits: Float[Tensor, "b k"]) -> Int64[Tensor, "b"]:
        """Return the clusters found after the last epoch; the nearest centroid for cells that have none."""
        clusters = self.assigned[head][rows.clamp(min=0)].where(rows != UNASSIGNED, UNASSIGNED)
        return clusters.where(clusters != UNASSIGNED, logits.argmax(dim=1))

    def _cluster(self) -> None:
        """Run spherical K-Means on the bank; every head starts from other cells, and heads alternate between views."""
        heads, prototypes, _ = self.centroids.shape
        for head in range(heads):
            points = self.bank[head % 2]
            rng = generator("deepcluster", self.seed, self.branch, head, self.steps_done())
            start = to_device(torch.from_numpy(rng.permutation(len(points))[:prototypes]), points.device)
            found = spherical_k_means(points, points[start], self.n_iterations)
            self.centroids[head], self.assigned[head] = found


class Dino(MultiCrop):
    """DINO. State: a projector and prototypes, the momentum copies of both, and the centre of the teacher's scores."""

    momentum_views = (0, 1)
    centre: Tensor

    def __init__(
        self,
        context: BuildContext,
        *,
        local_crops: LocalCrops,
        hidden_dim: int,
        dim: int,
        prototypes: int,
        temperature: float,
        teacher_temperature: float,
        centre_momentum: float,
        frozen_epochs: float,
        momentum: float,
    ) -> None:
        super().__init__()
        self.init_multi_crop(context, local_crops)
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        self.centre_momentum, self.frozen_epochs, self.momentum = centre_momentum, frozen_epochs, momentum
        seed, branch = context.seed, context.branch
        widths = [context.in_dim, hidden_dim, hidden_dim, dim]
        self.projector = mlp(widths, seed, f"{branch}.projector", norm=False, activation=nn.GELU)
        initial = unit_columns(dim, prototypes, seed, f"{branch}.prototypes")
        self.prototypes = nn.Parameter(initial.T.contiguous())
        self.momentum_projector = copy.deepcopy(self.projector).requires_grad_(False)
        self.momentum_prototypes = nn.Parameter(self.prototypes.detach().clone(), requires_grad=False)
        self.register_buffer("centre", torch.zeros(prototypes))
        self._staged: Tensor | None = None

    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the loss of predicting the teacher's output for each global view from every other student view."""
        projections = self.project(inputs.online)
        prototypes = F.normalize(self.prototypes, dim=1)
        frozen = self.is_frozen(self.frozen_epochs)
        logits = projections @ (prototypes.detach() if frozen else prototypes).T
        with torch.no_grad():
            keys = l2_normalize(self.momentum_projector(inputs.momentum))
            teacher_scores = keys @ F.normalize(self.momentum_prototypes, dim=1).T
        targets = ((teacher_scores - self.centre) / self.teacher_temperature).softmax(dim=-1)
        if self.training:
            self._staged = teacher_scores.mean(dim=(0, 1))
        diagnostics = {
            "projection_spread": projection_spread(projections),
            "prototypes_used": effective_prototypes(targets),
        }
        return cross_view_cross_entropy(logits, targets, self.temperature), diagnostics

    def project(self, features: Float[Tensor, "*b dim"]) -> Float[Tensor, "*b out"]:
        """Return unit projections."""
        return l2_normalize(self.projector(features))

    @torch.no_grad()
    def after_step(self) -> None:
        """Update the teacher's head and the centre (arXiv:2104.14294, equation 4)."""
        super().after_step()
        ema_update(self.momentum_projector, self.projector, self.momentum)
        self.momentum_prototypes.lerp_(self.prototypes, 1 - self.momentum)
        if self._staged is not None:
            self.centre.lerp_(self._staged, 1 - self.centre_momentum)
            self._staged = None


@torch.no_grad()
def effective_prototypes(shares: Float[Tensor, "v b k"]) -> Float[Tensor, ""]:
    """Return exp(entropy of the mean share): the effective number of prototypes in use; 1 when all cells share one."""
    number: Tensor = torch.special.entr(shares.mean(dim=(0, 1))).sum().exp()
    return number
