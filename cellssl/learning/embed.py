"""embed: an encoder and scaled crops in, one float32 vector a cell out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from cellssl.learning.view import View
from cellssl.randomness import Keys

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8


class WithHeads(nn.Module):
    """An encoder and, in the place of its representation, what the projectors of objectives make of it."""

    def __init__(self, encoder: nn.Module, objectives: nn.ModuleDict) -> None:
        super().__init__()
        self.encoder = encoder
        self.objectives = nn.ModuleList(objective for objective in objectives.values() if objective.projects)

    def forward(self, crops: Float32[Tensor, "n c y x"]) -> Float32[Tensor, "n dim"]:
        """All projections side by side."""
        features = self.encoder(crops).float()
        seen: list[Any] = list(self.objectives)
        return torch.cat([objective.project(features) for objective in seen], dim=1)


@torch.no_grad()
def embed(
    encoder: nn.Module, blocks: Iterable[UInt8[np.ndarray, "n c y x"]], side_px: int, device: torch.device
) -> Iterator[Float32[np.ndarray, "n dim"]]:
    """Represent crops block by block, whole and unchanged but for their size, in float32 and evaluation mode."""
    encoder = encoder.to(device).to(memory_format=torch.channels_last).eval()
    for block in blocks:
        crops = torch.from_numpy(block).to(device)
        whole = as_seen(crops, side_px)
        yield encoder(whole.contiguous(memory_format=torch.channels_last)).float().cpu().numpy()


def as_seen(crops: UInt8[Tensor, "n c y x"], side_px: int) -> Float32[Tensor, "n c side side"]:
    """Crops in [0, 1] at the size that the encoder takes, without any change of view."""
    nothing = Keys(torch.zeros(len(crops), dtype=torch.long))
    return View(()).render(crops, nothing, side_px)
