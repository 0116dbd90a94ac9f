"""build_context: what an objective is built for: the encoder whose features it gets, and the training around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor

    from cellssl.learning.encoder import EncoderSettings


@dataclass(frozen=True)
class BuildContext:
    """What an objective must know to build its heads, queues and buffers."""

    in_dim: int
    """Number of features per cell, or per token."""
    seed: int
    branch: str
    """Name of the branch. Initial weights follow from the seed and from names that begin with it."""
    cells: Int64[Tensor, "n"]
    """Keys of all training cells."""
    batch: int
    """Cells per step."""
    channels: int
    side_px: int
    encoder: EncoderSettings | None = None

    @property
    def epoch_steps(self) -> int:
        """Return the number of steps in one pass over all training cells."""
        return -(-len(self.cells) // self.batch)
