"""encoder: the base class of settings in `encoders`; settings in, a network that maps each crop to one vector out."""

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

    from cellssl.learning.threads import NetworkSize


@dataclass(frozen=True)
class TensorNames:
    """Modules whose tensors differ between the published network and ours, by name."""

    classifier: tuple[str, ...] = ()
    """Modules that the encoder lacks: tensors of these modules in a file of weights are ignored."""
    first: tuple[str, ...] = ()
    """Convolutions that read pixels: their weights are adapted to another number of channels."""


class EncoderSettings(Plugin):
    """Settings of an encoder; they are all that is needed to build it again."""

    draws_weights: ClassVar[bool] = False
    """Whether `build` draws the initial weights itself, from torch's own generator; otherwise `weight_init.py` draws
    them by name."""

    def given_weights(self) -> Path | str | None:
        """Return the weights that it starts from: a file, "imagenet", or None where they are drawn from the seed."""
        return None

    def display_name(self) -> str:
        """Return the network's name for messages."""
        return self.plugin_name()

    @abstractmethod
    def build(self, channels: int) -> nn.Module:
        """Build a module that maps crops (n, channels, y, x) in [0, 1] to representations (n, `module.out_dim`).

        Its tensors have the names that its library gives them, where it comes from a library.
        """

    @abstractmethod
    def feature_map(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return the part of a built network that computes the last feature map (n, features, y, x).

        The average of this map over the crop is the representation, save where that is a token of its own.
        """

    @abstractmethod
    def min_side_px(self) -> int:
        """Return the side of the smallest crop that the network can take."""

    def network_size(self, channels: int, side_px: int) -> NetworkSize | None:
        """Return what the network does to one crop where that is known without building it, else None.

        It is asked by what must not load torch, to see whether one thread serves a network; None counts as a large one.
        """
        return None

    def check_installed(self) -> None:
        """Raise UsageError where a library that the network needs is not installed; does not import it."""

    def check_side(self, side_px: int) -> None:
        """Raise UsageError where the network cannot take crops of this side."""
        if side_px < self.min_side_px():
            raise UsageError(
                f"{self.display_name()} cannot take crops of {side_px} px", hint=f"use {self.min_side_px()} px or more"
            )

    def frozen_parameters(self, network: nn.Module) -> tuple[str, ...]:
        """Return the names of the parameters of a built network that a training must not change."""
        return ()

    def tensor_names(self, network: nn.Module) -> TensorNames:
        """Return what must be known to load weights from elsewhere into a built network."""
        return TensorNames()
