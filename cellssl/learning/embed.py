"""embed: a network and scaled crops in, one float32 vector per cell out, in the order of the crops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from cellssl.learning.training.readers import ahead
from cellssl.learning.view import View
from cellssl.randomness import Keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jaxtyping import Float32, Int64, UInt8


@dataclass(frozen=True)
class EmbeddingViews:
    """The views of a cell that a network gets: the cell as it is, resized only, or several draws of a view.

    A draw depends on the key of the cell alone (`cell_keys`), so it is the same in any batch.
    """

    side_px: int
    view: View = field(default_factory=View)
    draws: int = 1
    cell_keys: Int64[Tensor, "n"] | None = None

    def render(
        self, crops: UInt8[Tensor, "n c y x"], rows: Int64[np.ndarray, "n"]
    ) -> Iterator[Float32[Tensor, "n c y x"]]:
        """Yield the views of the crops of these rows, once per draw; channels last, as convolutions need them."""
        keys = torch.zeros(len(crops), dtype=torch.long)
        if self.cell_keys is not None:
            keys = self.cell_keys[torch.from_numpy(rows)]
        for draw in range(self.draws):
            shape = (len(crops), crops.shape[1], self.side_px, self.side_px)
            out = torch.empty(shape, device=crops.device, memory_format=torch.channels_last)
            yield self.view.render(crops, Keys(keys).fold("embed", draw), self.side_px, out=out)


@torch.no_grad()
def embed(
    network: nn.Module,
    batches: Iterable[tuple[Int64[np.ndarray, "n"], UInt8[Tensor, "n c y x"]]],
    views: EmbeddingViews,
    device: torch.device,
) -> Iterator[Float32[np.ndarray, "n dim"]]:
    """Yield the vectors of each batch of crops: the mean over the draws, in float32 and evaluation mode.

    On a CPU the next views are rendered by another thread while the network works; a GPU is given them ahead anyway.
    """
    network = network.to(device).to(memory_format=torch.channels_last).eval()
    rendered = _views_of(batches, views)
    total: Tensor | None = None
    for draw, view in ahead(rendered, "views") if device.type == "cpu" else rendered:
        vectors = network(view).float()
        total = vectors if draw == 0 or total is None else total + vectors
        if draw == views.draws - 1:
            yield (total / views.draws if views.draws > 1 else total).cpu().numpy()


def _views_of(
    batches: Iterable[tuple[Int64[np.ndarray, "n"], UInt8[Tensor, "n c y x"]]], views: EmbeddingViews
) -> Iterator[tuple[int, Float32[Tensor, "n c y x"]]]:
    """Yield the views of each batch, numbered by draw."""
    for rows, crops in batches:
        yield from enumerate(views.render(crops, rows))
