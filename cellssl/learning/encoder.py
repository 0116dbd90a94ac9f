"""encoder: what every file in the room `encoders` can build; crops in, one vector a cell out."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cellssl.config.settings import Plugin
from cellssl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn


@dataclass(frozen=True)
class Names:
    """The tensors of a network, by the names of their modules, that differ between its publisher's use and ours."""

    classifier: tuple[str, ...] = ()
    """Modules that the encoder lacks: their tensors may be left over in a file of weights."""
    first: tuple[str, ...] = ()
    """Convolutions that look at pixels: they are made to fit another number of channels."""


class EncoderSettings(Plugin):
    """The settings of an encoder, which are all that is needed to build it again."""

    draws_weights: ClassVar[bool] = False
    """Whether `build` draws the first weights itself, from torch's own generator; else `initial.py` does, by name."""

    def given_weights(self) -> Path | str | None:
        """Return the weights that it starts from: a file, "imagenet", or None where they are drawn from the seed."""
        return None

    def called(self) -> str:
        """What a person calls the network."""
        return self.plugin_name()

    @abstractmethod
    def build(self, channels: int) -> nn.Module:
        """A module that takes crops (n, channels, y, x) in [0, 1] to representations (n, `module.out_dim`).

        The names of its tensors are its library's, where it has one.
        """

    @abstractmethod
    def last_map(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """The part of a built network that makes the map (n, features, y, x) whose average is the representation."""

    @abstractmethod
    def shortest_side_px(self) -> int:
        """The smallest crop that the network can take."""

    def check_installed(self) -> None:
        """Raise UsageError where a library that the network needs is not there; loads none."""

    def check_side(self, side_px: int) -> None:
        """Raise UsageError where the network cannot take crops of this side."""
        if side_px < self.shortest_side_px():
            raise UsageError(
                f"{self.called()} cannot see crops of {side_px} px", hint=f"use {self.shortest_side_px()} px or more"
            )

    def names(self, network: nn.Module) -> Names:
        """What to know when weights from elsewhere are loaded into the network that was built."""
        return Names()
