"""transformer: a vision transformer for small crops; patches in, tokens that attend to each other out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

MAX_WAVELENGTH = 10_000.0
"""Of the position encoding, in patches, over 2 pi."""


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, arXiv:1706.03762)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, tokens: Float[Tensor, "b n dim"]) -> Float[Tensor, "b n dim"]:
        """Return for each token the sum of all values, weighted by the softmax of query times key."""
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)  # (b, heads, n, dim / heads)
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Attention, then a two-layer network per token; each has layer norm before it and a residual connection."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.before_attention, self.attention = nn.LayerNorm(dim), Attention(dim, heads)
        self.before_layer = nn.LayerNorm(dim)
        self.layer = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, tokens: Float[Tensor, "b n dim"]) -> Float[Tensor, "b n dim"]:
        """Return updated tokens, as many as came in."""
        tokens = tokens + self.attention(self.before_attention(tokens))
        updated: Tensor = tokens + self.layer(self.before_layer(tokens))
        return updated


def transformer_blocks(dim: int, depth: int, heads: int) -> nn.Sequential:
    """Return `depth` blocks in sequence."""
    return nn.Sequential(*[Block(dim, heads) for _ in range(depth)])


def position_encoding(grid: int, dim: int, device: torch.device) -> Float[Tensor, "n dim"]:
    """Return sines and cosines of row and column, `dim` / 4 each, for the n = grid x grid patches of a crop.

    As in the masked autoencoder (arXiv:2111.06377). They are computed on the device: a copy would wait for it.
    """
    frequencies = MAX_WAVELENGTH ** -(torch.arange(dim // 4, device=device) / (dim // 4))
    angles = torch.arange(grid, device=device)[:, None] * frequencies  # (grid, dim / 4)
    encoded = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = encoded[:, None].expand(-1, grid, -1), encoded[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


class VisionTransformer(nn.Module):
    """Square patches as tokens, transformer blocks, and the mean over tokens at the end (ViT, arXiv:2010.11929)."""

    def __init__(self, channels: int, *, patch_px: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.out_dim = dim
        self.patches = nn.Conv2d(channels, dim, patch_px, stride=patch_px)
        self.blocks = transformer_blocks(dim, depth, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, crops: Float[Tensor, "b c y x"]) -> Float[Tensor, "b dim"]:
        """Return the mean over all tokens."""
        return self.tokens(crops).mean(dim=1)

    def tokens(
        self, crops: Float[Tensor, "b c y x"], visible: Int64[Tensor, "b visible"] | None = None
    ) -> Float[Tensor, "b n dim"]:
        """Return the tokens of all patches, or of the visible patches only."""
        patches = self.patches(crops)
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = tokens + position_encoding(patches.shape[-1], self.out_dim, tokens.device).to(tokens.dtype)
        if visible is not None:
            tokens = tokens.gather(1, visible[:, :, None].expand(-1, -1, self.out_dim))
        out: Tensor = self.norm(self.blocks(tokens))
        return out
