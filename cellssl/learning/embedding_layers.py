"""embedding_layers: an encoder and its heads in, the network that ends at another layer than the pooled trunk out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float
    from torch import Tensor

    from cellssl.learning.encoder import EncoderSettings
    from cellssl.learning.methods.base import Objective


def flattened(settings: EncoderSettings, encoder: nn.Module) -> nn.Module:
    """The same encoder, its last map row by row instead of its average: where in the crop something is stays known."""
    last_map = settings.last_map(encoder)

    def forward(crops: Float[Tensor, "n c y x"]) -> Float[Tensor, "n dim"]:
        return last_map(crops).flatten(1)

    encoder.forward = forward  # what is hooked to the encoder still comes first
    return encoder


class Projected(nn.Module):
    """An encoder and the objectives of its branches, whose projections stand side by side."""

    def __init__(self, encoder: nn.Module, objectives: Sequence[Objective]) -> None:
        super().__init__()
        self.encoder = encoder
        self.objectives = nn.ModuleList(objectives)

    def forward(self, crops: Float[Tensor, "n c y x"]) -> Float[Tensor, "n dim"]:
        """What every projector makes of the pooled trunk."""
        representations = self.encoder(crops)
        seen: list[Any] = list(self.objectives)
        return torch.cat([objective.project(representations) for objective in seen], dim=1)
