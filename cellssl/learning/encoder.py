"""encoder: what every file in the room `encoders` can build; crops in, one vector a cell out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import nn


class EncoderSettings(Protocol):
    """The settings of an encoder."""

    def build(self, channels: int) -> nn.Module:
        """A module that takes crops (n, channels, y, x) in [0, 1] to representations (n, `module.out_dim`).

        Its weights are set by name afterwards (`initial.py`); the names of its tensors are torchvision's, where the
        network is one of torchvision's.
        """

    def shortest_side_px(self) -> int:
        """The smallest crop that the network can take."""
