"""embedding_layers: an encoder and its heads in, a network that ends at another layer than the pooled trunk out."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float
    from torch import Tensor

    from cellssl.learning.encoder import EncoderSettings
    from cellssl.learning.methods.base import Objective


def flattened_encoder(settings: EncoderSettings, encoder: nn.Module) -> nn.Module:
    """Return the encoder, changed to give its last feature map row by row in place of the average.

    The representation then keeps where in the crop a feature is.
    """
    feature_map = settings.feature_map(encoder)

    def forward(crops: Float[Tensor, "n c y x"]) -> Float[Tensor, "n dim"]:
        return feature_map(crops).flatten(1)

    encoder.forward = forward  # hooks of the encoder, such as standardisation, still run first
    return encoder


class ProjectedEncoder(nn.Module):
    """An encoder followed by the projectors of the objectives of its branches."""

    def __init__(self, encoder: nn.Module, objectives: Sequence[Objective]) -> None:
        super().__init__()
        self.encoder = encoder
        self.objectives = nn.ModuleList(objectives)

    def forward(self, crops: Float[Tensor, "n c y x"]) -> Float[Tensor, "n dim"]:
        """Return the projections of the pooled trunk by all projectors, side by side."""
        representations = self.encoder(crops)
        objectives = cast("list[Objective]", list(self.objectives))
        return torch.cat([objective.project(representations) for objective in objectives], dim=1)
