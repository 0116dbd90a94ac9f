"""denoising: the module of `denoising`: features of a noisy crop in, the error of the reconstructed clean crop out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cellssl.learning.methods.base import MethodInput, Objective
from cellssl.learning.transform import Geometric
from cellssl.learning.transforms import gaussian_noise, resize
from cellssl.learning.view import View
from cellssl.learning.weight_init import init_weights

if TYPE_CHECKING:
    from jaxtyping import Float

    from cellssl.learning.methods.build_context import BuildContext
    from cellssl.learning.view import ViewSettings

N_UPSAMPLINGS = 4


class Decoder(nn.Module):
    """Features (b, dim) to crops (b, c, side, side): a coarse map, upsampled twofold four times, then cropped."""

    def __init__(self, in_dim: int, width: int, channels: int, side_px: int) -> None:
        super().__init__()
        self.width, self.side_px = width, side_px
        self.coarse_px = -(-side_px // 2**N_UPSAMPLINGS)
        self.coarse = nn.Linear(in_dim, width * self.coarse_px**2)
        layers: list[nn.Module] = []
        for _ in range(N_UPSAMPLINGS):
            layers += [nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1)]
        self.finer = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b c y x"]:
        """Return reconstructed pixels; the targets lie in [0, 1]."""
        coarse = self.coarse(features).view(-1, self.width, self.coarse_px, self.coarse_px)
        last = self.finer[-1]
        assert isinstance(last, nn.Conv2d)
        if not last.weight.is_contiguous():  # on a GPU, weights have their channels last
            coarse = coarse.contiguous(memory_format=torch.channels_last)
        reconstructed: Tensor = self.finer(coarse)
        return reconstructed[:, :, : self.side_px, : self.side_px]


class Denoising(Objective):
    """Denoising autoencoder. State: a decoder."""

    has_projector = False
    online_views = (0,)
    pixel_views = (1,)

    def __init__(self, context: BuildContext, *, sigma: float, width: int) -> None:
        super().__init__()
        self.sigma = sigma
        self.decoder = Decoder(context.in_dim, width, context.channels, context.side_px)
        init_weights(self.decoder, context.seed, f"{context.branch}.decoder")

    def make_views(self, query: ViewSettings, key: ViewSettings) -> tuple[View, ...]:
        """Return the query with noise, and its target: the same geometry without noise and photometric changes."""
        to_size = resize.Settings(size=self.decoder.side_px)  # before the noise, so that noise is not resampled
        noise = gaussian_noise.Settings(sigma=self.sigma)
        geometric = tuple(part for part in query if isinstance(part, Geometric))
        return (
            View((*query, to_size, noise)),
            View(geometric, as_first=frozenset(part.plugin_name() for part in geometric)),
        )

    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the mean squared error over pixels (Vincent et al. 2008, doi:10.1145/1390156.1390294)."""
        assert inputs.pixels is not None
        clean = inputs.pixels[0]
        error = (self.decoder(inputs.online[0]).flatten(1) - clean).square().mean()
        explained = 1 - error.detach() / clean.var(correction=0).clamp(min=torch.finfo(clean.dtype).eps)
        return error, {"explained": explained}
