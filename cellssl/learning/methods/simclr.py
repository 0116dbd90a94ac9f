"""simclr: the modules of `simclr`, `supcon` and `dose_aware`: every view of a batch compared with all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from cellssl.learning.methods.base import MethodInput, Objective
from cellssl.learning.methods.contrastive_loss import (
    contrastive_loss,
    diagnostics,
    epsilon_sup_info_nce,
    projection_spread,
    sup_con,
    y_aware,
    y_exponential,
    y_threshold,
)
from cellssl.learning.methods.heads import l2_normalize, mlp

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64

    from cellssl.learning.methods.build_context import BuildContext
    from cellssl.learning.methods.contrastive_loss import ContrastiveOptions


class AllPairs(Objective):
    """Base of the objectives of this file. State: a projector."""

    def __init__(self, context: BuildContext, *, hidden_dim: int, dim: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        widths = [context.in_dim, hidden_dim, dim]
        self.projector = mlp(widths, context.seed, f"{context.branch}.projector", norm=False)

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Return unit projections."""
        return l2_normalize(self.projector(features))

    def similarities(self, projections: Float[Tensor, "v b dim"]) -> Float[Tensor, "vb vb"]:
        """Return the similarity of every view of every cell to every other, over the temperature; -inf to itself."""
        flat = projections.flatten(0, 1)
        diagonal = torch.eye(len(flat), dtype=torch.bool, device=flat.device)
        return (flat @ flat.T / self.temperature).masked_fill(diagonal, -torch.inf)


class SimClr(AllPairs):
    """SimCLR with NT-Xent: the other view of the same cell is the positive, all views of other cells are negatives."""

    def __init__(self, context: BuildContext, *, hidden_dim: int, dim: int, options: ContrastiveOptions) -> None:
        super().__init__(context, hidden_dim=hidden_dim, dim=dim, temperature=options.temperature)
        self.options = options

    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the loss over 2 b anchors, one per view; a cell that is twice in a batch is not its own negative."""
        views = self.project(inputs.online)  # (2, b, dim)
        positive = (views[0] * views[1]).sum(dim=1, keepdim=True).repeat(2, 1) / self.temperature
        cells = inputs.identities.repeat(2)
        negative = self.similarities(views).masked_fill(cells[:, None] == cells[None, :], -torch.inf)
        scores = torch.cat([positive, negative], dim=1)
        return contrastive_loss(scores, self.options), diagnostics([scores], views)


class SupCon(AllPairs):
    """Supervised contrastive learning: all views of cells of the same class are positives."""

    def __init__(
        self,
        context: BuildContext,
        *,
        hidden_dim: int,
        dim: int,
        temperature: float,
        label: str,
        form: Literal["sup_con", "epsilon_sup_info_nce"],
        margin: float,
        ifm_epsilon: float,
        ifm_alpha: float,
    ) -> None:
        super().__init__(context, hidden_dim=hidden_dim, dim=dim, temperature=temperature)
        self.label, self.form, self.margin = label, form, margin
        self.ifm_epsilon, self.ifm_alpha = ifm_epsilon, ifm_alpha

    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the loss over all views; a cell without a label has one positive, its other view."""
        views = self.project(inputs.online)
        labels = inputs.metadata[self.label].repeat(2)
        # two views of a cell are always a pair: a missing number does not equal itself
        positive = same_class_pairs(labels) | same_class_pairs(inputs.cells.repeat(2))
        scores = self.similarities(views)
        loss = self._loss(scores, positive)
        if self.ifm_epsilon > 0:
            step = self.ifm_epsilon / self.temperature
            adversarial = self._loss(scores + torch.where(positive, -step, step), positive)
            loss = (loss + self.ifm_alpha * adversarial) / (1 + self.ifm_alpha)
        accuracy = positive.gather(1, scores.argmax(dim=1, keepdim=True)).float().mean()
        return loss, {"accuracy": accuracy, "projection_spread": projection_spread(views)}

    def _loss(self, scores: Float[Tensor, "n n"], positive: Bool[Tensor, "n n"]) -> Float[Tensor, ""]:
        if self.form == "sup_con":
            return sup_con(scores, positive)
        return epsilon_sup_info_nce(scores, positive, self.margin)


class DoseAware(AllPairs):
    """y-aware InfoNCE: views attract each other the more, the nearer the doses of their cells are."""

    def __init__(
        self,
        context: BuildContext,
        *,
        hidden_dim: int,
        dim: int,
        temperature: float,
        form: Literal["y_aware", "threshold", "exponential"],
        sigma_decades: float,
        unrelated_weight: float,
    ) -> None:
        super().__init__(context, hidden_dim=hidden_dim, dim=dim, temperature=temperature)
        self.loss = {"y_aware": y_aware, "threshold": y_threshold, "exponential": y_exponential}[form]
        self.sigma_decades, self.unrelated_weight = sigma_decades, unrelated_weight

    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the loss over all views; both views of a cell have its dose."""
        views = self.project(inputs.online)
        doses, compounds = (inputs.metadata[name] for name in ("dose_micromolar", "compound"))
        weights = dose_kernel(doses, compounds, inputs.cells, self.sigma_decades, self.unrelated_weight)
        weights = weights.repeat(2, 2).fill_diagonal_(0.0)  # a view is not paired with itself
        scores = self.similarities(views)
        weight_of_nearest = weights.gather(1, scores.argmax(dim=1, keepdim=True)).mean()
        return self.loss(scores, weights), {
            "weight_of_nearest": weight_of_nearest,
            "projection_spread": projection_spread(views),
        }


def dose_kernel(
    dose_micromolar: Float[Tensor, "b"],
    compound: Int64[Tensor, "b"],
    cells: Int64[Tensor, "b"],
    sigma_decades: float,
    unrelated_weight: float = 0.0,
) -> Float[Tensor, "b b"]:
    """Return exp(-(log10 d_i - log10 d_j)^2 / 2 sigma^2) for cells under one compound; 1 for a cell and itself.

    `unrelated_weight` is the weight of two compounds, and of controls and cells of unknown dose with any other cell. It
    is also the smallest weight of all, so that distant doses of one compound are not less similar than two compounds.
    """
    log_doses = dose_micromolar.where(dose_micromolar > 0, torch.nan).log10()
    distances = (log_doses[:, None] - log_doses[None, :]) / sigma_decades
    related = (compound[:, None] == compound[None, :]) & distances.isfinite()
    weights = torch.where(related, torch.exp(-distances.square() / 2).clamp_min(unrelated_weight), unrelated_weight)
    return weights.masked_fill(cells[:, None] == cells[None, :], 1.0)


def same_class_pairs(classes: Int64[Tensor, "n"]) -> Bool[Tensor, "n n"]:
    """Return which pairs have the same class; False on the diagonal."""
    same: Tensor = classes[:, None] == classes[None, :]
    return same.fill_diagonal_(False)
