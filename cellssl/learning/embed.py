"""embed: a network and scaled crops in, one float32 vector a cell out, in the order of the crops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from cellssl.learning.view import View
from cellssl.randomness import Keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jaxtyping import Float32, Int64, UInt8


@dataclass(frozen=True)
class EmbeddingViews:
    """How a network looks at cells: whole and unchanged but for their size, or several times through a view.

    What a view shows of a cell depends on `cell_keys` alone, so it is the same in any company.
    """

    side_px: int
    view: View = field(default_factory=View)
    draws: int = 1
    cell_keys: Int64[Tensor, "n"] | None = None

    def at(self, crops: UInt8[Tensor, "n c y x"], rows: Int64[np.ndarray, "n"]) -> Iterator[Float32[Tensor, "n c y x"]]:
        """The crops of these rows as they are seen, once a draw; channels last, as convolutions want them."""
        keys = torch.zeros(len(crops), dtype=torch.long)
        if self.cell_keys is not None:
            keys = self.cell_keys[torch.from_numpy(rows)]
        for draw in range(self.draws):
            shape = (len(crops), crops.shape[1], self.side_px, self.side_px)
            seen = torch.empty(shape, device=crops.device, memory_format=torch.channels_last)
            yield self.view.render(crops, Keys(keys).fold("embed", draw), self.side_px, out=seen)


@torch.no_grad()
def embed(
    network: nn.Module,
    fed: Iterable[tuple[Int64[np.ndarray, "n"], UInt8[Tensor, "n c y x"]]],
    look: EmbeddingViews,
    device: torch.device,
) -> Iterator[Float32[np.ndarray, "n dim"]]:
    """The vectors of the crops that come, block by block: the mean over the looks, in float32 and evaluation mode."""
    network = network.to(device).to(memory_format=torch.channels_last).eval()
    for rows, crops in fed:
        total: Tensor | None = None
        for seen in look.at(crops, rows):
            vectors = network(seen).float()
            total = vectors if total is None else total + vectors
        assert total is not None, "a look has at least one draw"
        yield (total / look.draws if look.draws > 1 else total).cpu().numpy()
