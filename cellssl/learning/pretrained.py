"""pretrained: settings in, an encoder that can start from published weights, and standardise pixels for them, out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from cellssl.config.paths import InputPath
from cellssl.errors import UsageError
from cellssl.learning.encoder import EncoderSettings

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Licence:
    """A licence of weights, and who says so."""

    name: str
    source: str


NOT_KNOWN = Licence("not known", "nothing names it")


class PretrainedSettings(EncoderSettings):
    """Settings of a network for which weights trained on photographs are published."""

    weights: Annotated[Literal["imagenet"] | InputPath, Field(union_mode="left_to_right")] | None = None
    """Initial weights. If not given, they are drawn from the seed; `imagenet` are the weights that the library
    publishes; else a .pth, .pt or .safetensors file with the library's own tensor names, identified by its content."""
    standardise: bool | None = None
    """Whether to standardise pixels: subtract the mean of the library's photographs, and divide by their standard
    deviation. If not given, yes with `weights` and no without."""
    channels: Literal["together", "each"] = "together"
    """How channels enter the network. `together`: all at once; three channels are red, green and blue, and for another
    number the first convolution is adapted. `each`: every channel by itself as a grey photograph, through the unchanged
    network; the vectors of all channels are put one after the other, so the representation has as many times more
    features, and takes as many times longer."""
    frozen_parts: int = Field(0, ge=0)
    """Number of early parts that a training leaves as they are, with the statistics of their batch norm: the first is
    the stem, then come stages (of a VGG the layers between two poolings, of a transformer blocks). Needs `weights` or
    `pretrain.init_from`."""
    licence: str | None = None
    """Licence of the weights in a file, which must be named; that of published weights is known."""

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
        read = 3 if self.channels == "each" else channels
        network = self.trunk(read)
        if self.channels == "each":
            add_grey_channels(network, channels)
        if self.standardises():
            mean, sd = self.pixel_statistics(network)
            add_standardisation(network, _for_channels(mean, read), _for_channels(sd, read))
        return network

    def check_frozen_parts(self) -> None:
        """Raise UsageError where the frozen parts leave nothing to train; the network is built without any number."""
        import torch

        with torch.device("meta"):
            self.frozen_parameters(self.build(3))

    def frozen_parameters(self, network: nn.Module) -> tuple[str, ...]:
        """Return the parameters of the first `frozen_parts` parts.

        Raises UsageError where that leaves nothing to train.
        """
        if not self.frozen_parts:
            return ()
        parts = self.parts(network)
        if self.frozen_parts >= len(parts):
            raise UsageError(
                f"encoder.frozen_parts = {self.frozen_parts}, but {self.display_name()} has {len(parts)} parts, and "
                "one must be trained",
                hint=f"set it to {len(parts) - 1} or less, or set pretrain.epochs = 0 to train nothing",
            )
        frozen = [prefix for part in parts[: self.frozen_parts] for prefix in part]
        names = [name for name, _ in network.named_parameters()]
        return tuple(name for name in names if any(name == one or name.startswith(f"{one}.") for one in frozen))

    def renamed(self, tensors: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the content of a file of weights, under the library's names where it has other known ones."""
        return tensors

    def url(self) -> str | None:
        """Return the address of the published weights; None where the library downloads them (`download_weights`)."""
        return None

    def download_weights(self, folder: Path) -> dict[str, Tensor]:
        """Return the published tensors, which the library downloads to `folder`; only for networks without a URL."""
        raise AssertionError(f"the weights of {self.display_name()} are at {self.url()}")

    def cached_file(self, folder: Path) -> Path | None:
        """Return the file in `folder` that already holds the published tensors; only for networks without a URL."""
        raise AssertionError(f"the weights of {self.display_name()} are at {self.url()}")

    def cache_folder(self) -> str:
        """Return the name of the folder that a library downloads weights to."""
        return self.plugin_name()

    def published_licence(self) -> Licence:
        """Return the licence of the published weights."""
        return NOT_KNOWN

    @abstractmethod
    def parts(self, network: nn.Module) -> list[tuple[str, ...]]:
        """Return the parts of a built network in the order in which a crop passes them; each is names of parameters,
        or of modules that hold them."""

    @abstractmethod
    def trunk(self, channels: int) -> nn.Module:
        """Build the library's network without its classifier, for pixels that are not standardised."""

    @abstractmethod
    def pixel_statistics(self, network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation per channel of the training images of the published weights, in [0, 1]."""


def add_grey_channels(network: nn.Module, channels: int) -> None:
    """Make a network for photographs see every channel as a grey one; the names in its state dict do not change."""
    network.grey_channels = channels  # type: ignore[assignment]
    network.out_dim = channels * int(network.out_dim)  # type: ignore[assignment,arg-type]
    network.register_forward_pre_hook(_as_grey)
    network.register_forward_hook(_side_by_side)


def _as_grey(network: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    """Return crops (n, channels, y, x) as n x channels photographs of three equal colours."""
    import torch

    grey = args[0].flatten(0, 1).unsqueeze(1).expand(-1, 3, -1, -1)
    return (grey.contiguous(memory_format=torch.channels_last),)


def _side_by_side(network: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
    """Return the vectors of the channels of each crop, one after the other."""
    beside: Tensor = output.unflatten(0, (-1, int(network.grey_channels))).flatten(1)  # type: ignore[arg-type]
    return beside


def fill_patches(network: nn.Module, patch_px: int) -> None:
    """Make a transformer resize crops whose side is not a multiple of its patch to the next larger multiple."""
    network.patch_side_px = patch_px  # type: ignore[assignment]
    network.register_forward_pre_hook(_resize_to_patches)


def _resize_to_patches(network: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
    import torch.nn.functional as F

    patch_px, side_px = int(network.patch_side_px), args[0].shape[-1]  # type: ignore[arg-type]
    if side_px % patch_px == 0:
        return None
    filled = -(-side_px // patch_px) * patch_px
    return (F.interpolate(args[0], size=(filled, filled), mode="bilinear", antialias=True),)


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
