"""decorrelation: the modules of `barlow_twins`, `vicreg` and `vibcreg`: views agree, features do not correlate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from cellssl.learning.methods.base import MethodInput, Objective
from cellssl.learning.methods.contrastive_loss import projection_spread
from cellssl.learning.methods.heads import l2_normalize, mlp, per_view

if TYPE_CHECKING:
    from jaxtyping import Float

    from cellssl.learning.methods.build_context import BuildContext

BARLOW_EPS = 1e-5
"""Added to a variance before the square root, as in batch norm."""
VARIANCE_EPS = 1e-4
"""The same, with the value of VICReg."""


def cross_correlation(one: Float[Tensor, "b dim"], other: Float[Tensor, "b dim"]) -> Float[Tensor, "dim dim"]:
    """Return the correlation over cells of every feature of one view with every feature of the other view.

    The diagonal is 1 where the views agree.
    """
    first, second = (
        (view - view.mean(dim=0)) / (view.var(dim=0, correction=0) + BARLOW_EPS).sqrt() for view in (one, other)
    )
    return first.T @ second / len(one)


def barlow_twins_loss(correlation: Float[Tensor, "dim dim"], redundancy: float) -> Float[Tensor, ""]:
    """Return Σ_i (1 - C_ii)^2 + λ Σ_(i ≠ j) C_ij^2 (Barlow Twins, arXiv:2103.03230, equation 1)."""
    diagonal = correlation.diagonal()
    return (1 - diagonal).square().sum() + redundancy * off_diagonal(correlation).square().sum()


def variance_hinge(view: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
    """Return max(0, 1 - sd), averaged over features (VICReg, arXiv:2105.04906, equation 1); the sd of one cell is 0."""
    centred = view - view.mean(dim=0)
    variance = centred.square().sum(dim=0) / max(1, len(view) - 1)
    return F.relu(1 - (variance + VARIANCE_EPS).sqrt()).mean()


def covariance(view: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
    """Return the sum of squared off-diagonal covariances per feature (VICReg, arXiv:2105.04906, equations 3 and 4)."""
    centred = view - view.mean(dim=0)
    return off_diagonal(centred.T @ centred / max(1, len(view) - 1)).square().sum() / view.shape[1]


def normalised_covariance(view: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
    """Return the mean squared off-diagonal correlation over all pairs of features (VIbCReg, arXiv:2109.00783)."""
    scaled = F.normalize(view - view.mean(dim=0), dim=0)
    return off_diagonal(scaled.T @ scaled).square().mean()


def off_diagonal(square: Float[Tensor, "dim dim"]) -> Float[Tensor, "dim dim"]:
    """Return the matrix with zeros on its diagonal."""
    return square - torch.diag(square.diagonal())


class Decorrelation(Objective):
    """Base of the objectives of this file. State: a projector of three layers."""

    def __init__(self, context: BuildContext, *, hidden_dim: int, dim: int) -> None:
        super().__init__()
        widths = [context.in_dim, hidden_dim, hidden_dim, dim]
        self.projector = mlp(widths, context.seed, f"{context.branch}.projector")

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Return projections."""
        projected: Tensor = self.projector(features)
        return projected


class BarlowTwins(Decorrelation):
    """Barlow Twins: the cross-correlation of both views is drawn to the identity matrix."""

    def __init__(self, context: BuildContext, *, hidden_dim: int, dim: int, redundancy: float) -> None:
        super().__init__(context, hidden_dim=hidden_dim, dim=dim)
        self.redundancy = redundancy

    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the loss of features that agree between views and do not repeat each other."""
        views = per_view(self.projector, inputs.online)
        correlation = cross_correlation(views[0], views[1])
        diagnostics = {
            "agreement": correlation.diagonal().mean().detach(),
            "projection_spread": projection_spread(l2_normalize(views)),
        }
        return barlow_twins_loss(correlation, self.redundancy), diagnostics


class VicReg(Decorrelation):
    """VICReg: a weighted sum of variance, invariance and covariance."""

    variance_share = 0.5
    """Factor of each view's variance hinge: 0.5 as in the authors' code; the paper counts both hinges in full."""

    def __init__(
        self,
        context: BuildContext,
        *,
        hidden_dim: int,
        dim: int,
        invariance: float,
        variance: float,
        covariance: float,
    ) -> None:
        super().__init__(context, hidden_dim=hidden_dim, dim=dim)
        self.weights = {"invariance": invariance, "variance": variance, "covariance": covariance}

    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the weighted sum; the invariance is a mean over cells and features, as in the authors' code."""
        views = per_view(self.projector, inputs.online)
        terms = {
            "invariance": F.mse_loss(views[0], views[1]),
            "variance": self.variance_share * (variance_hinge(views[0]) + variance_hinge(views[1])),
            "covariance": self.redundancy(views[0]) + self.redundancy(views[1]),
        }
        loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        diagnostics = {name: term.detach() for name, term in terms.items()}
        return loss, {**diagnostics, "projection_spread": projection_spread(l2_normalize(views))}

    def redundancy(self, view: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
        """Return the covariance term of one view."""
        return covariance(view)


class VibcReg(VicReg):
    """VIbCReg: VICReg with correlations in place of covariances, so that the scale of features does not matter."""

    variance_share = 1.0

    def redundancy(self, view: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
        """Return the covariance term of one view."""
        return normalised_covariance(view)
