"""warp: crops and one matrix a cell -> crops seen through it; chains of geometric transforms become one resampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Float32, Float64, Int64, UInt8
from torch import Tensor

from cellssl.learning.transform import Geometric, Interpolation, Sampling
from cellssl.randomness import Keys


@dataclass(frozen=True)
class Warp:
    """One resampling: for every cell where the pixels of its output lie in its input, and how they are looked up."""

    matrix: Float64[Tensor, "n 3 3"]
    side_in: int
    side_out: int
    sampling: Sampling = field(default_factory=Sampling)
    averages: bool = False
    """Whether detail is averaged away at its end; then nothing can be joined to it."""

    @classmethod
    def of(cls, transform: Geometric, keys: Keys, side: int) -> Warp:
        """The warp of one transform alone."""
        matrix = transform.matrix(transform.draw(keys, side), side).double()
        return cls(matrix, side, transform.out_side(side), transform.sampling(), transform.averages(side))

    @classmethod
    def resize(cls, cells: int, side_in: int, side_out: int) -> Warp:
        """The whole input, made larger or smaller."""
        share = side_in / side_out
        return cls(
            torch.diag(torch.tensor([share, share, 1.0], dtype=torch.float64)).repeat(cells, 1, 1), side_in, side_out
        )

    def then(self, later: Warp) -> Warp | None:
        """Both as one, or None where they look up pixels differently or the first ends in an average."""
        first, second = self.sampling, later.sampling
        if self.averages and not (later.changes_nothing() and second == Sampling()):
            return None
        if _differ(first.interpolation, second.interpolation) or _differ(first.fill, second.fill):
            return None
        both = Sampling(
            second.interpolation if first.interpolation is None else first.interpolation,
            second.fill if first.fill is None else first.fill,
        )
        return Warp(self.matrix @ later.matrix, self.side_in, later.side_out, both, self.averages or later.averages)

    def rows(self, rows: slice) -> Warp:
        """The same for some of the cells."""
        return replace(self, matrix=self.matrix[rows])

    def changes_nothing(self) -> bool:
        """Whether every output pixel is the same pixel of the input."""
        still = torch.eye(3, dtype=torch.float64)
        return self.side_in == self.side_out and bool((self.matrix == still).all())

    def apply(
        self, crops: Float[Tensor, "n c y x"] | UInt8[Tensor, "n c y x"]
    ) -> Float32[Tensor, "n c {self.side_out} {self.side_out}"]:
        """The crops seen through it, in [0, 1]; what shrinks more than twofold is averaged over small squares first."""
        pixels = as_float(crops)
        if self.changes_nothing():
            return pixels
        squares = shrink_factors(self.matrix)
        different = [1] if self.sampling.interpolation == "nearest" else sorted(set(squares.tolist()))
        if len(different) == 1:
            return self._sample(pixels, different[0])
        out = pixels.new_empty(len(pixels), pixels.shape[1], self.side_out, self.side_out)
        for square in different:
            rows = (squares == square).nonzero()[:, 0]
            where = rows.to(pixels.device)
            out[where] = replace(self, matrix=self.matrix[rows])._sample(pixels[where], square)
        return out

    def _sample(self, pixels: Float32[Tensor, "n c y x"], square: int) -> Float32[Tensor, "n c v u"]:
        fill = self.sampling.fill
        shifted = pixels - fill if fill else pixels  # beyond the edge grid_sample sees 0, which then means the fill
        averaged, to_averaged = average_squares(
            shifted, square, past_the_edge="constant" if fill is not None else "replicate"
        )
        grid = sampling_grid(to_averaged @ self.matrix, averaged.shape[-1], self.side_out, pixels.device)
        seen = F.grid_sample(
            averaged,
            grid,
            mode=self.sampling.interpolation or "bilinear",
            padding_mode="zeros" if fill is not None else "border",
            align_corners=False,
        )
        return seen.add_(fill).clamp_(0.0, 1.0) if fill else seen


def compose(transforms: Sequence[tuple[Geometric, Keys]], side: int) -> list[Warp]:
    """Consecutive geometric transforms as few warps as can be: one, unless their fills or interpolations differ."""
    warps: list[Warp] = []
    for transform, keys in transforms:
        append(warps, Warp.of(transform, keys, warps[-1].side_out if warps else side))
    return warps


def append(warps: list[Warp], warp: Warp) -> None:
    """Put one more warp behind a chain, joined with the last one where that can be."""
    joined = warps[-1].then(warp) if warps else None
    if joined is None:
        warps.append(warp)
    else:
        warps[-1] = joined


def as_float(crops: Float[Tensor, "n c y x"] | UInt8[Tensor, "n c y x"]) -> Float32[Tensor, "n c y x"]:
    """Pixels in [0, 1]: bytes divided by 255, floats as they are."""
    return crops.float().mul_(1.0 / 255.0) if crops.dtype == torch.uint8 else crops.float()


def shrink_factors(matrix: Float64[Tensor, "n 3 3"]) -> Int64[Tensor, "n"]:
    """Side of the squares that are averaged before sampling, one a cell: 1 up to a twofold shrink, which bilinear
    sampling still averages itself."""
    across = matrix.det().abs().sqrt() + 1e-6  # a hair, so that 3 is 3 whatever the rounding
    return torch.where(across > 2.0 + 2e-6, across.floor(), 1.0).long()


def average_squares(
    pixels: Float32[Tensor, "n c y x"], square: int, past_the_edge: str
) -> tuple[Float32[Tensor, "n c v u"], Float64[Tensor, "3 3"]]:
    """Means over squares of `square` px, and the matrix from positions in the crop to positions among the means."""
    if square == 1:
        return pixels, torch.eye(3, dtype=torch.float64)
    missing = -pixels.shape[-1] % square
    before, after = missing // 2, missing - missing // 2
    if missing:
        pixels = F.pad(pixels, (before, after, before, after), mode=past_the_edge)
    offset = before - missing / 2
    rows = [[1.0, 0.0, offset], [0.0, 1.0, offset], [0.0, 0.0, square]]
    return F.avg_pool2d(pixels, square), torch.tensor(rows, dtype=torch.float64) / square


def sampling_grid(
    matrix: Float64[Tensor, "n 3 3"], side_in: int, side_out: int, device: torch.device
) -> Float32[Tensor, "n {side_out} {side_out} 2"]:
    """Where each output pixel lies in the input, in the units of grid_sample (-1 to 1 between the outer edges).

    A position is the sum of a term of its column and a term of its row. Written as complex numbers (x + iy) that sum
    is one vectorised addition; affine_grid takes 20 times as long on a CPU.
    """
    at = torch.arange(side_out, dtype=torch.float64) - (side_out - 1) / 2
    scaled = matrix[:, :2] * (2.0 / side_in)
    along_x, along_y, shift = scaled.unsqueeze(-1).unbind(2)  # each (n, 2, 1)
    columns = _complex(along_x * at).to(device)[:, None, :]
    rows = _complex(along_y * at + shift).to(device)[:, :, None]
    return torch.view_as_real(columns + rows)


def _complex(pairs: Float64[Tensor, "n 2 side"]) -> Complex[Tensor, "n side"]:
    return torch.view_as_complex(pairs.float().transpose(1, 2).contiguous())


def _differ(first: Interpolation | float | None, second: Interpolation | float | None) -> bool:
    return first is not None and second is not None and first != second
