"""pretrained: settings in, an encoder that can start from published weights, and standardise pixels for them, out."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from cellssl.config.paths import InputPath
from cellssl.learning.encoder import EncoderSettings

if TYPE_CHECKING:
    from torch import Tensor, nn


class PretrainedSettings(EncoderSettings):
    """Settings of a network for which weights trained on photographs are published."""

    weights: Annotated[Literal["imagenet"] | InputPath, Field(union_mode="left_to_right")] | None = None
    """Initial weights. If not given, they are drawn from the seed; `imagenet` are the weights that the library
    publishes; else a .pth, .pt or .safetensors file with the library's own tensor names, identified by its content."""
    standardise: bool | None = None
    """Whether to standardise pixels: subtract the mean of the library's photographs, and divide by their standard
    deviation. If not given, yes with `weights` and no without."""

    def silent(self) -> frozenset[str]:
        """Return the fields without effect; a file of weights counts by its bytes, as an external file."""
        silent = {"weights"} if isinstance(self.weights, Path) else set()
        if self.standardises() == (self.weights is not None):
            silent.add("standardise")
        return frozenset(silent)

    def given_weights(self) -> Path | str | None:
        """Return `weights`."""
        return self.weights

    def standardises(self) -> bool:
        """Return whether the network standardises pixels first."""
        return self.weights is not None if self.standardise is None else self.standardise

    def build(self, channels: int) -> nn.Module:
        """Build the trunk for `channels`; it standardises pixels first where that is asked for."""
        network = self.trunk(channels)
        if self.standardises():
            mean, sd = self.pixel_statistics(network)
            add_standardisation(network, _for_channels(mean, channels), _for_channels(sd, channels))
        return network

    def url(self) -> str | None:
        """Return the address of the published weights; None where the library downloads them (`download_weights`)."""
        return None

    def download_weights(self, folder: Path) -> dict[str, Tensor]:
        """Return the published tensors, which the library downloads to `folder`; only for networks without a URL."""
        raise AssertionError(f"the weights of {self.display_name()} are at {self.url()}")

    def is_cached(self, folder: Path) -> bool:
        """Return whether `folder` already holds the published tensors; only for networks without a URL."""
        raise AssertionError(f"the weights of {self.display_name()} are at {self.url()}")

    @abstractmethod
    def trunk(self, channels: int) -> nn.Module:
        """Build the library's network without its classifier, for pixels that are not standardised."""

    @abstractmethod
    def pixel_statistics(self, network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation per channel of the training images of the published weights, in [0, 1]."""


def add_standardisation(network: nn.Module, mean: tuple[float, ...], sd: tuple[float, ...]) -> None:
    """Make a network subtract `mean` from its crops and divide by `sd`; the names in its state dict do not change."""
    import torch

    for name, values in (("pixel_mean", mean), ("pixel_spread", sd)):
        network.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
    network.register_forward_pre_hook(_standardise)


def _standardise(network: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    return ((args[0] - network.pixel_mean) / network.pixel_spread,)  # type: ignore[operator]


def _for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return one value per channel; stains are not colours, so a different number of channels gets the grey value."""
    return values if len(values) == channels else (sum(values) / len(values),) * channels
