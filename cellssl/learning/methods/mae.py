"""mae: the module behind `mae`: hidden patches, drawn anew from those that the encoder sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cellssl.errors import UsageError
from cellssl.learning.encoders._transformer import blocks, places
from cellssl.learning.methods.base import MethodInput, Objective
from cellssl.learning.weight_init import initialise
from cellssl.randomness import Keys

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

    from cellssl.learning.methods.build_context import BuildContext
    from cellssl.learning.objectives.mae import Settings

VARIANCE_EPS = 1e-6
"""Added to a patch's variance before its root, as the paper's code does."""


def patches_of(crops: Float[Tensor, "b c y x"], patch_px: int) -> Float[Tensor, "b n pixels"]:
    """Square patches, row by row; the pixels of each channel by channel."""
    b, c, y, x = crops.shape
    grid = crops.view(b, c, y // patch_px, patch_px, x // patch_px, patch_px)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * patch_px**2)


def each_normalised(patches: Float[Tensor, "b n pixels"]) -> Float[Tensor, "b n pixels"]:
    """Every patch with a mean of 0 and a spread of 1."""
    centred = patches - patches.mean(dim=-1, keepdim=True)
    return centred / (patches.var(dim=-1, keepdim=True) + VARIANCE_EPS).sqrt()


class Mae(Objective):
    """State: a small decoder, and the token that stands for a hidden patch."""

    projects = False
    views = 1
    online_views = (0,)
    pixel_views = (0,)

    def __init__(self, settings: Settings, task: BuildContext) -> None:
        super().__init__()
        encoder: Any = task.encoder
        if not hasattr(encoder, "patch_px"):
            raise UsageError("mae hides patches, and the encoder does not see any", hint='set pretrain.encoder = "vit"')
        self.settings, self.in_dim = settings, task.in_dim
        self.patch_px, self.channels, self.side_px = encoder.patch_px, task.channels, task.side_px
        self.grid = task.side_px // self.patch_px
        self.seen_patches = max(1, round(self.grid**2 * (1 - settings.mask_ratio)))
        if self.seen_patches == self.grid**2:
            raise UsageError(
                f"mae with mask_ratio = {settings.mask_ratio:g} hides none of the {self.grid**2} patches of a cell",
                hint="raise mask_ratio in the branch's objective, or give pretrain.encoder a smaller patch_px",
            )
        dim = settings.dim
        self.decoder = nn.ModuleDict(
            {
                "into": nn.Linear(task.in_dim, dim),
                "blocks": blocks(dim, settings.depth, settings.heads),
                "out": nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, task.channels * self.patch_px**2)),
            }
        )
        initialise(self.decoder, task.seed, f"{task.branch}.decoder")
        self.hidden_token = nn.Parameter(torch.zeros(dim))

    def encode(self, encoder: nn.Module, crops: Float[Tensor, "v own c y x"], keys: Keys) -> Float[Tensor, "v own dim"]:
        """The tokens of the patches that are not hidden, one after the other."""
        network: Any = encoder
        tokens: Tensor = network.tokens(crops[0], self.seen_of(keys).to(crops.device))
        return tokens.flatten(1)[None]

    def seen_of(self, keys: Keys) -> Int64[Tensor, "b seen"]:
        """Which patches of each cell are not hidden, in order."""
        order = keys.permutation("patches", self.grid**2)
        return order[:, : self.seen_patches].sort(dim=1).values

    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Mean squared error over the pixels of hidden patches (He et al. 2022, arXiv:2111.06377)."""
        assert seen.pixels is not None and seen.keys is not None
        crops = seen.pixels[0].view(-1, self.channels, self.side_px, self.side_px)
        target = patches_of(crops, self.patch_px)
        if self.settings.normalise:
            target = each_normalised(target)
        shown = self.seen_of(seen.keys).to(target.device)
        error = (self._drawn(seen.online[0], shown) - target).square().mean(dim=-1)
        hidden = torch.ones_like(error).scatter_(1, shown, 0.0)
        loss = (error * hidden).sum() / hidden.sum()
        flat = target - target.mean(dim=-1, keepdim=True)
        plain = (flat.square().mean(dim=-1) * hidden).sum() / hidden.sum()
        return loss, {"error_of_flat_patches": plain}

    def _drawn(self, tokens: Float[Tensor, "b dim"], shown: Int64[Tensor, "b seen"]) -> Float[Tensor, "b n pixels"]:
        """Every patch: tokens at their places, and the same token, but for its place, wherever a patch is hidden."""
        known = self.decoder["into"](tokens.unflatten(1, (-1, self.in_dim)))
        dim = known.shape[-1]
        whole = self.hidden_token.expand(len(known), self.grid**2, dim)
        whole = whole.scatter(1, shown[:, :, None].expand(-1, -1, dim), known)
        whole = whole + places(self.grid, dim).to(whole.device)
        drawn: Tensor = self.decoder["out"](self.decoder["blocks"](whole))
        return drawn
