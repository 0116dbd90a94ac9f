"""_transformer: patches of a crop in, tokens that have looked at each other out; a small vision transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

    from cellssl.learning.encoders.vit import Settings

LONGEST_WAVE = 10_000.0


class Attention(nn.Module):
    """Every token asks all tokens (Vaswani et al. 2017, arXiv:1706.03762)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, tokens: Float[Tensor, "b n dim"]) -> Float[Tensor, "b n dim"]:
        """What each was told, weighted by how well the answer fits."""
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        told = F.scaled_dot_product_attention(query, key, value)  # (b, heads, n, dim / heads)
        answer: Tensor = self.out(told.transpose(1, 2).flatten(2))
        return answer


class Block(nn.Module):
    """Attention and a layer for each token by itself, each added to what there was, which is normalised before."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.before_attention, self.attention = nn.LayerNorm(dim), Attention(dim, heads)
        self.before_layer = nn.LayerNorm(dim)
        self.layer = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, tokens: Float[Tensor, "b n dim"]) -> Float[Tensor, "b n dim"]:
        """As many tokens, richer."""
        tokens = tokens + self.attention(self.before_attention(tokens))
        richer: Tensor = tokens + self.layer(self.before_layer(tokens))
        return richer


def blocks(dim: int, depth: int, heads: int) -> nn.Sequential:
    """Some of them in a row."""
    return nn.Sequential(*[Block(dim, heads) for _ in range(depth)])


def places(grid: int, dim: int) -> Float[Tensor, "n dim"]:
    """Sines and cosines of row and column, a quarter of `dim` each (as in the masked autoencoder, arXiv:2111.06377)."""
    waves = LONGEST_WAVE ** -(torch.arange(dim // 4) / (dim // 4))
    angles = torch.arange(grid)[:, None] * waves  # (grid, dim / 4)
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = line[:, None].expand(-1, grid, -1), line[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


class VisionTransformer(nn.Module):
    """Square patches as tokens, blocks, and the mean of all tokens at the end (ViT, arXiv:2010.11929)."""

    def __init__(self, settings: Settings, channels: int) -> None:
        super().__init__()
        self.out_dim = settings.dim
        self.patches = nn.Conv2d(channels, settings.dim, settings.patch_px, stride=settings.patch_px)
        self.blocks = blocks(settings.dim, settings.depth, settings.heads)
        self.norm = nn.LayerNorm(settings.dim)

    def forward(self, crops: Float[Tensor, "b c y x"]) -> Float[Tensor, "b dim"]:
        """The mean over all tokens."""
        return self.tokens(crops).mean(dim=1)

    def tokens(
        self, crops: Float[Tensor, "b c y x"], seen: Int64[Tensor, "b seen"] | None = None
    ) -> Float[Tensor, "b n dim"]:
        """The tokens of all patches, or of those alone that are seen."""
        patches = self.patches(crops)
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = tokens + places(patches.shape[-1], self.out_dim).to(tokens.device, tokens.dtype)
        if seen is not None:
            tokens = tokens.gather(1, seen[:, :, None].expand(-1, -1, self.out_dim))
        richer: Tensor = self.norm(self.blocks(tokens))
        return richer
