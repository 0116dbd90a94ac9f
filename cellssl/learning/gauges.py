"""gauges: a batch of representations in, numbers that show a collapse within minutes out."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def feature_sd(features: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
    """Mean over features of the standard deviation over cells; 0 when all cells look the same."""
    return features.std(dim=0).mean()


def effective_rank(features: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
    """exp(entropy of the normalised singular values) of the centred batch (Roy and Vetterli 2007).

    1 when all cells lie on a line, min(b - 1, dim) when they spread evenly; 0 for a batch of equal cells, and nan
    where a feature is not a number.
    """
    if not features.isfinite().all():
        return torch.tensor(torch.nan)
    exact = features.double()
    singular = torch.linalg.svdvals(exact - exact.mean(dim=0))
    total = singular.sum()
    if total <= 1e-12 * exact.abs().sum():
        return torch.zeros(())
    share = singular / total
    rank: Tensor = torch.special.entr(share).sum().exp().float()
    return rank
