"""small: crops in, a few hundred features per cell out, computed by a network that a CPU trains in a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from cellssl.learning.encoder import EncoderSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from cellssl.learning.threads import NetworkSize


class Settings(EncoderSettings):
    """A small convolutional network: one strided 3 x 3 convolution with batch norm per width, then a global average."""

    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field((32, 64, 128, 256), min_length=1)
    """Channels after each convolution, each of which halves the crop; the last is the size of the representation."""

    def min_side_px(self) -> int:
        """Return the side that the convolutions reduce to one pixel: each width halves the crop once."""
        return int(2 ** len(self.widths))

    def network_size(self, channels: int, side_px: int) -> NetworkSize:
        """Return the sums over the convolutions: 9 weights for each pair of channels, and pixel of the smaller map."""
        from cellssl.learning.threads import NetworkSize

        multiply_adds = outputs = 0
        for before, after in zip((channels, *self.widths), self.widths, strict=False):
            side_px = (side_px + 1) // 2
            multiply_adds += 9 * before * after * side_px**2
            outputs += 3 * after * side_px**2  # of the convolution, the batch norm and the ReLU
        return NetworkSize(multiply_adds, outputs)

    def feature_map(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return the convolutional part."""
        return network.features  # type: ignore[return-value]

    def build(self, channels: int) -> nn.Module:
        """Build the network; it gives `widths[-1]` features per cell."""
        from torch import nn

        widths = self.widths

        class Small(nn.Module):
            out_dim = widths[-1]

            def __init__(self) -> None:
                super().__init__()
                layers: list[nn.Module] = []
                for before, after in zip((channels, *widths), widths, strict=False):
                    layers += _halving(before, after)
                self.features = nn.Sequential(*layers)

            def forward(self, crops: Tensor) -> Tensor:
                pooled: Tensor = self.features(crops).mean(dim=(-2, -1))
                return pooled

        return Small()


def _halving(before: int, after: int) -> list[nn.Module]:
    from torch import nn

    return [
        nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    ]
