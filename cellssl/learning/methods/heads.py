"""heads: widths in, a projector or predictor whose first weights follow from seed and name out."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellssl.learning.weight_init import initialise


def mlp(
    widths: list[int],
    seed: int,
    name: str,
    *,
    norm: bool = True,
    last_norm: bool = False,
    activation: type[nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Linear layers with an activation between them, and batch norm before it where `norm`.

    `last_norm` puts batch norm without weights of its own after the last.
    """
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=not norm), *([nn.BatchNorm1d(after)] if norm else []), activation()]
    layers.append(nn.Linear(widths[-2], widths[-1], bias=not last_norm))
    if last_norm:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    head = nn.Sequential(*layers)
    initialise(head, seed, name)
    return head


def per_view(head: nn.Module, features: Tensor) -> Tensor:
    """Each view by itself (v b dim), so that batch norm sees cells once, as the papers have it."""
    return torch.stack([head(view) for view in features])


def l2_normalize(projections: Tensor) -> Tensor:
    """Of length 1."""
    return F.normalize(projections, dim=-1)
