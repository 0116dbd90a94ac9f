"""pretrained: what the encoders share whose weights others have published: first weights, and the pixels that suit."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from cellssl.config.paths import InputPath
from cellssl.learning.encoder import EncoderSettings

if TYPE_CHECKING:
    from torch import Tensor, nn


class PublishedSettings(EncoderSettings):
    """A network that others have trained on photographs."""

    weights: Annotated[Literal["imagenet"] | InputPath, Field(union_mode="left_to_right")] | None = None
    """Where training starts: drawn from the seed where nothing is given; `imagenet`, the weights that the library
    publishes; else a .pth, .pt or .safetensors file under the library's own names, whose content counts."""
    standardise: bool | None = None
    """Whether the mean of the library's photographs is taken off the pixels, and their spread divided by; where
    nothing is given, yes with weights and no without."""

    def non_default(self) -> dict[str, Any]:
        """A file counts by its bytes, as a file of the user, not by its place."""
        counted = super().non_default()
        if isinstance(self.weights, Path):
            counted["weights"] = "file"
        if self.standardises() == (self.weights is not None):
            counted.pop("standardise", None)
        return counted

    def given_weights(self) -> Path | str | None:
        """Return `weights`."""
        return self.weights

    def standardises(self) -> bool:
        """Whether pixels are standardised before the network sees them."""
        return self.weights is not None if self.standardise is None else self.standardise

    def build(self, channels: int) -> nn.Module:
        """The trunk, made for `channels`, with a look at standardised pixels where that is asked for."""
        network = self.trunk(channels)
        if self.standardises():
            mean, spread = self.photographs(network)
            look_at_standardised(network, _for_channels(mean, channels), _for_channels(spread, channels))
        return network

    def url(self) -> str | None:
        """Where the published weights lie as one file; None where the library brings them itself, by `published`."""
        return None

    def published(self, folder: Path) -> dict[str, Tensor]:
        """The published tensors, which the library keeps below `folder`; asked for only where there is no address."""
        raise AssertionError(f"{self.called()} lies at {self.url()}")

    def has_published(self, folder: Path) -> bool:
        """Whether the library has its tensors below `folder` already, so that it asks nobody for them."""
        raise AssertionError(f"{self.called()} lies at {self.url()}")

    @abstractmethod
    def trunk(self, channels: int) -> nn.Module:
        """The library's network without its classifier, which takes pixels as they are."""

    @abstractmethod
    def photographs(self, network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel of what the published weights were trained on, in [0, 1]."""


def look_at_standardised(network: nn.Module, mean: tuple[float, ...], spread: tuple[float, ...]) -> None:
    """Let a network take `mean` off its crops and divide by `spread`; its state dict keeps the names it had."""
    import torch

    for name, values in (("pixel_mean", mean), ("pixel_spread", spread)):
        network.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
    network.register_forward_pre_hook(_standardised)


def _standardised(network: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
    return ((given[0] - network.pixel_mean) / network.pixel_spread,)  # type: ignore[operator]


def _for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Stains are no colours: where their number is not that of the photographs, each gets the grey value."""
    return values if len(values) == channels else (sum(values) / len(values),) * channels
