"""denoising: the module behind `denoising`: the clean crop, drawn anew from what the encoder makes of a spoilt one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cellssl.config import plugins
from cellssl.learning.methods.base import MethodInput, Objective
from cellssl.learning.transform import Geometric
from cellssl.learning.view import View
from cellssl.learning.weight_init import initialise

if TYPE_CHECKING:
    from jaxtyping import Float

    from cellssl.learning.methods.build_context import BuildContext
    from cellssl.learning.objectives.denoising import Settings
    from cellssl.learning.view import ViewSettings

DOUBLINGS = 4
VIEWS = "cellssl.learning.transforms"


class Decoder(nn.Module):
    """Vectors (b, dim) to crops (b, c, side, side): a coarse map, doubled four times, then cut to size."""

    def __init__(self, in_dim: int, width: int, channels: int, side_px: int) -> None:
        super().__init__()
        self.width, self.side_px = width, side_px
        self.coarse_px = -(-side_px // 2**DOUBLINGS)
        self.coarse = nn.Linear(in_dim, width * self.coarse_px**2)
        layers: list[nn.Module] = []
        for _ in range(DOUBLINGS):
            layers += [nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1)]
        self.finer = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b c y x"]:
        """Pixels, meant to lie in [0, 1]."""
        coarse = self.coarse(features).view(-1, self.width, self.coarse_px, self.coarse_px)
        drawn: Tensor = self.finer(coarse)
        return drawn[:, :, : self.side_px, : self.side_px]


class Denoising(Objective):
    """State: a decoder."""

    projects = False
    online_views = (0,)
    pixel_views = (1,)

    def __init__(self, settings: Settings, task: BuildContext) -> None:
        super().__init__()
        self.settings = settings
        self.decoder = Decoder(task.in_dim, settings.width, task.channels, task.side_px)
        initialise(self.decoder, task.seed, f"{task.branch}.decoder")

    def shown(self, query: ViewSettings, key: ViewSettings) -> tuple[View, ...]:
        """The query with noise, and what it would be without noise and changes of looks, at the same place."""
        at_last = plugins.load(VIEWS, "resize").Settings(size=self.decoder.side_px)  # noise is not resized
        noise = plugins.load(VIEWS, "gaussian_noise").Settings(sigma=self.settings.sigma)
        placed = tuple(part for part in query if isinstance(part, Geometric))
        return (
            View((*query, at_last, noise)),
            View(placed, as_first=frozenset(part.plugin_name() for part in placed)),
        )

    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Mean squared error over pixels (Vincent et al. 2008, doi:10.1145/1390156.1390294)."""
        assert seen.pixels is not None
        clean = seen.pixels[0]
        error = (self.decoder(seen.online[0]).flatten(1) - clean).square().mean()
        explained = 1 - error.detach() / clean.var(correction=0).clamp(min=torch.finfo(clean.dtype).eps)
        return error, {"explained": explained}
