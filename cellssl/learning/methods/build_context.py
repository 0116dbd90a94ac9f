"""build_context: what a method is built from: the training around it, and the encoder whose features it gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor

    from cellssl.learning.encoder import EncoderSettings


@dataclass(frozen=True)
class BuildContext:
    """What an objective is built for: the representations it is shown, and the training around it."""

    in_dim: int
    """Numbers in a representation."""
    seed: int
    branch: str
    """First weights follow from the seed and from names that begin with the branch's."""
    cells: Int64[Tensor, "n"]
    """The keys of all training cells."""
    batch: int
    """Cells a step."""
    channels: int
    side_px: int
    encoder: EncoderSettings | None = None

    @property
    def epoch_steps(self) -> int:
        """Steps after which every training cell has been seen once more."""
        return -(-len(self.cells) // self.batch)
