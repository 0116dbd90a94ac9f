"""mae: the module of `mae`: tokens of the visible patches in, the error of the reconstructed hidden patches out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cellssl.device import to_device
from cellssl.errors import UsageError
from cellssl.learning.encoders import vit
from cellssl.learning.methods.base import MethodInput, Objective
from cellssl.learning.transformer import VisionTransformer, position_encoding, transformer_blocks
from cellssl.learning.weight_init import init_weights
from cellssl.randomness import Keys

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

    from cellssl.learning.methods.build_context import BuildContext

VARIANCE_EPS = 1e-6
"""Added to the variance of a patch before the square root, as in the paper's code."""


def patchify(crops: Float[Tensor, "b c y x"], patch_px: int) -> Float[Tensor, "b n pixels"]:
    """Cut square patches, row by row; the pixels of a patch are ordered channel by channel."""
    b, c, y, x = crops.shape
    grid = crops.view(b, c, y // patch_px, patch_px, x // patch_px, patch_px)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * patch_px**2)


def normalise_patches(patches: Float[Tensor, "b n pixels"]) -> Float[Tensor, "b n pixels"]:
    """Scale every patch to a mean of 0 and a standard deviation of 1."""
    centred = patches - patches.mean(dim=-1, keepdim=True)
    return centred / (patches.var(dim=-1, keepdim=True) + VARIANCE_EPS).sqrt()


class Mae(Objective):
    """Masked autoencoder. State: a small decoder, and the token that stands in for a hidden patch.

    Raises UsageError where the encoder has no patches, or no patch would be hidden.
    """

    has_projector = False
    n_views = 1
    online_views = (0,)
    pixel_views = (0,)

    def __init__(
        self, context: BuildContext, *, mask_ratio: float, normalise: bool, dim: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        encoder = context.encoder
        if not isinstance(encoder, vit.Settings):
            raise UsageError("mae hides patches, but the encoder has no patches", hint='set pretrain.encoder = "vit"')
        self.normalise, self.in_dim = normalise, context.in_dim
        self.patch_px, self.channels, self.side_px = encoder.patch_px, context.channels, context.side_px
        self.grid = context.side_px // self.patch_px
        self.n_visible = max(1, round(self.grid**2 * (1 - mask_ratio)))
        if self.n_visible == self.grid**2:
            raise UsageError(
                f"mae with mask_ratio = {mask_ratio:g} hides none of the {self.grid**2} patches of a cell",
                hint="raise mask_ratio in the branch's objective, or give pretrain.encoder a smaller patch_px",
            )
        self.decoder = nn.ModuleDict(
            {
                "into": nn.Linear(context.in_dim, dim),
                "blocks": transformer_blocks(dim, depth, heads),
                "out": nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, context.channels * self.patch_px**2)),
            }
        )
        init_weights(self.decoder, context.seed, f"{context.branch}.decoder")
        self.hidden_token = nn.Parameter(torch.zeros(dim))

    def encode(
        self, encoder: nn.Module, crops: Float[Tensor, "v share c y x"], keys: Keys
    ) -> Float[Tensor, "v share dim"]:
        """Return the tokens of the visible patches, concatenated per cell."""
        assert isinstance(encoder, VisionTransformer)
        tokens = encoder.tokens(crops[0], to_device(self.visible_patches(keys), crops.device))
        return tokens.flatten(1)[None]

    def visible_patches(self, keys: Keys) -> Int64[Tensor, "b visible"]:
        """Draw the visible patches of each cell, in ascending order."""
        order = keys.permutation("patches", self.grid**2)
        return order[:, : self.n_visible].sort(dim=1).values

    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the mean squared error over the pixels of hidden patches (He et al. 2022, arXiv:2111.06377)."""
        assert inputs.pixels is not None and inputs.keys is not None
        crops = inputs.pixels[0].view(-1, self.channels, self.side_px, self.side_px)
        target = patchify(crops, self.patch_px)
        if self.normalise:
            target = normalise_patches(target)
        visible = to_device(self.visible_patches(inputs.keys), target.device)
        error = (self._reconstruct(inputs.online[0], visible) - target).square().mean(dim=-1)
        hidden = torch.ones_like(error).scatter_(1, visible, 0.0)
        loss = (error * hidden).sum() / hidden.sum()
        centred = target - target.mean(dim=-1, keepdim=True)
        flat_error = (centred.square().mean(dim=-1) * hidden).sum() / hidden.sum()
        return loss, {"error_of_flat_patches": flat_error}

    def _reconstruct(
        self, tokens: Float[Tensor, "b dim"], visible: Int64[Tensor, "b visible"]
    ) -> Float[Tensor, "b n pixels"]:
        """Decode all patches from the visible tokens; hidden patches differ in their position encoding only."""
        embedded = self.decoder["into"](tokens.unflatten(1, (-1, self.in_dim)))
        dim = embedded.shape[-1]
        full = self.hidden_token.expand(len(embedded), self.grid**2, dim)
        full = full.scatter(1, visible[:, :, None].expand(-1, -1, dim), embedded)
        full = full + position_encoding(self.grid, dim, full.device)
        reconstructed: Tensor = self.decoder["out"](self.decoder["blocks"](full))
        return reconstructed
