"""heads: layer widths in, a projector or predictor out, whose initial weights follow from seed and name."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellssl.learning.weight_init import init_weights


def mlp(
    widths: list[int],
    seed: int,
    name: str,
    *,
    norm: bool = True,
    last_norm: bool = False,
    activation: type[nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Return linear layers with an activation between them, and with `norm` batch norm before each activation.

    `last_norm` adds batch norm without weights of its own after the last layer.
    """
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=not norm), *([nn.BatchNorm1d(after)] if norm else []), activation()]
    layers.append(nn.Linear(widths[-2], widths[-1], bias=not last_norm))
    if last_norm:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    head = nn.Sequential(*layers)
    init_weights(head, seed, name)
    return head


def per_view(head: nn.Module, features: Tensor) -> Tensor:
    """Apply a head to each view (v b dim) separately, so that batch norm sees every cell once, as in the papers."""
    return torch.stack([head(view) for view in features])


def l2_normalize(projections: Tensor) -> Tensor:
    """Scale the vectors along the last axis to length 1."""
    return F.normalize(projections, dim=-1)
