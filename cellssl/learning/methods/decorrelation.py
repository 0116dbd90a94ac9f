"""decorrelation: the modules behind `barlow_twins`, `vicreg` and `vibcreg`: views alike, features unlike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from cellssl.learning.methods.base import MethodInput, Objective
from cellssl.learning.methods.contrastive_loss import spread_of
from cellssl.learning.methods.heads import l2_normalize, mlp, per_view

if TYPE_CHECKING:
    from jaxtyping import Float

    from cellssl.learning.methods.build_context import BuildContext
    from cellssl.learning.objectives import barlow_twins, vibcreg, vicreg

BARLOW_EPS = 1e-5
"""Added to a variance before its root, as batch norm does."""
VARIANCE_EPS = 1e-4
"""The same, as VICReg has it."""


def cross_correlation(one: Float[Tensor, "b dim"], other: Float[Tensor, "b dim"]) -> Float[Tensor, "dim dim"]:
    """Over cells, of every feature of one view with every feature of the other; 1 on the diagonal where they agree."""
    first, second = (
        (view - view.mean(dim=0)) / (view.var(dim=0, correction=0) + BARLOW_EPS).sqrt() for view in (one, other)
    )
    return first.T @ second / len(one)


def barlow_twins_loss(correlation: Float[Tensor, "dim dim"], redundancy: float) -> Float[Tensor, ""]:
    """Σ_i (1 - C_ii)^2 + λ Σ_(i ≠ j) C_ij^2 (Barlow Twins, arXiv:2103.03230, equation 1)."""
    own = correlation.diagonal()
    return (1 - own).square().sum() + redundancy * off_diagonal(correlation).square().sum()


def variance_hinge(view: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
    """max(0, 1 - sd), averaged over features (VICReg, arXiv:2105.04906, equation 1); one cell alone has no spread."""
    centred = view - view.mean(dim=0)
    variance = centred.square().sum(dim=0) / max(1, len(view) - 1)
    return F.relu(1 - (variance + VARIANCE_EPS).sqrt()).mean()


def covariance(view: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
    """Squared off-diagonal covariance, summed, per feature (VICReg, arXiv:2105.04906, equations 3 and 4)."""
    centred = view - view.mean(dim=0)
    return off_diagonal(centred.T @ centred / max(1, len(view) - 1)).square().sum() / view.shape[1]


def normalised_covariance(view: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
    """Squared off-diagonal correlation, averaged over all pairs of features (VIbCReg, arXiv:2109.00783)."""
    scaled = F.normalize(view - view.mean(dim=0), dim=0)
    return off_diagonal(scaled.T @ scaled).square().mean()


def off_diagonal(square: Float[Tensor, "dim dim"]) -> Float[Tensor, "dim dim"]:
    """The same with zeros on the diagonal."""
    return square - torch.diag(square.diagonal())


class Expanded(Objective):
    """State: a projector of three layers."""

    def __init__(
        self, settings: barlow_twins.Settings | vicreg.Settings | vibcreg.Settings, task: BuildContext
    ) -> None:
        super().__init__()
        widths = [task.in_dim, settings.hidden_dim, settings.hidden_dim, settings.dim]
        self.projector = mlp(widths, task.seed, f"{task.branch}.projector")

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Projections."""
        projected: Tensor = self.projector(features)
        return projected


class BarlowTwins(Expanded):
    """The cross-correlation of both views drawn to the identity."""

    def __init__(self, settings: barlow_twins.Settings, task: BuildContext) -> None:
        super().__init__(settings, task)
        self.redundancy = settings.redundancy

    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Features that agree between the views and say different things."""
        views = per_view(self.projector, seen.online)
        correlation = cross_correlation(views[0], views[1])
        gauges = {
            "agreement": correlation.diagonal().mean().detach(),
            "projection_spread": spread_of(l2_normalize(views)),
        }
        return barlow_twins_loss(correlation, self.redundancy), gauges


class VicReg(Expanded):
    """Variance, invariance and covariance, weighted."""

    share = 0.5
    """Of each view's variance hinge, as the authors' code has it; in the paper, both count whole."""

    def __init__(self, settings: vicreg.Settings | vibcreg.Settings, task: BuildContext) -> None:
        super().__init__(settings, task)
        self.settings = settings

    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The invariance is a mean over cells and features, as the authors' code has it."""
        views = per_view(self.projector, seen.online)
        parts = {
            "invariance": F.mse_loss(views[0], views[1]),
            "variance": self.share * (variance_hinge(views[0]) + variance_hinge(views[1])),
            "covariance": self.redundancy(views[0]) + self.redundancy(views[1]),
        }
        weights = {name: getattr(self.settings, name) for name in parts}
        loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        gauges = {name: part.detach() for name, part in parts.items()}
        return loss, {**gauges, "projection_spread": spread_of(l2_normalize(views))}

    def redundancy(self, view: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
        """Of one view."""
        return covariance(view)


class VibcReg(VicReg):
    """The covariance normalised, so that it does not depend on how long features are."""

    share = 1.0

    def redundancy(self, view: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
        """Of one view."""
        return normalised_covariance(view)
