"""warp: crops and one matrix per cell in, resampled crops out; a chain of geometric transforms is one resampling."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Float32, Float64, Int64, UInt8
from torch import Tensor

from cellssl.device import to_device
from cellssl.learning.transform import Geometric, Interpolation, Sampling, as_float
from cellssl.randomness import Keys


@dataclass(frozen=True)
class Warp:
    """One resampling: for every cell, where its output pixels lie in its input, and how they are interpolated."""

    matrix: Float64[Tensor, "n 3 3"]
    side_in: int
    side_out: int
    sampling: Sampling = field(default_factory=Sampling)
    averages: bool = False
    """Whether it averages detail away at its end; then no later warp can be joined to it."""

    @classmethod
    def of(cls, transform: Geometric, keys: Keys, side: int) -> Warp:
        """Return the warp of one transform alone."""
        matrix = transform.matrix(transform.draw(keys, side), side).double()
        return cls(matrix, side, transform.out_side(side), transform.sampling(), transform.averages(side))

    @classmethod
    def resize(cls, cells: int, side_in: int, side_out: int) -> Warp:
        """Return the warp that makes the whole input larger or smaller."""
        share = side_in / side_out
        return cls(
            torch.diag(torch.tensor([share, share, 1.0], dtype=torch.float64)).repeat(cells, 1, 1), side_in, side_out
        )

    def then(self, later: Warp) -> Warp | None:
        """Return both warps as one, or None where they interpolate differently or the first ends in an average."""
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

    def changes_nothing(self) -> bool:
        """Return whether every output pixel is the same pixel of the input."""
        identity = torch.eye(3, dtype=torch.float64)
        return self.side_in == self.side_out and bool((self.matrix == identity).all())

    def ready(self, device: torch.device) -> Resampling:
        """Compute, for all cells at once and on their device, all that does not depend on pixels."""
        squares = shrink_factors(self.matrix)
        if self.sampling.interpolation == "nearest":
            squares = torch.ones_like(squares)
        columns, rows = grid_terms(self.matrix, self.side_in, self.side_out, squares)
        columns, rows = (to_device(term, device) for term in (columns[:, None, :], rows[:, :, None]))
        return Resampling(columns, rows, squares, self.sampling)

    def apply(
        self, crops: Float[Tensor, "n c y x"] | UInt8[Tensor, "n c y x"]
    ) -> Float32[Tensor, "n c {self.side_out} {self.side_out}"]:
        """Return the resampled crops in [0, 1]; more than twofold shrinking averages small squares first."""
        return as_float(crops) if self.changes_nothing() else self.ready(crops.device).apply(crops)


@dataclass(frozen=True)
class Resampling:
    """A warp that is ready for pixels: the two terms of every position, and the squares that are averaged before."""

    columns: Complex[Tensor, "n 1 u"]
    rows: Complex[Tensor, "n v 1"]
    squares: Int64[Tensor, "n"]
    """Their sides in px, one per cell, on the CPU."""
    sampling: Sampling

    def of_cells(self, cells: slice | Int64[Tensor, "cells"]) -> Resampling:
        """Return the same resampling for some of the cells."""
        return replace(self, columns=self.columns[cells], rows=self.rows[cells], squares=self.squares[cells])

    def apply(self, crops: Float[Tensor, "n c y x"] | UInt8[Tensor, "n c y x"]) -> Float32[Tensor, "n c v u"]:
        """Return the resampled crops, in [0, 1]."""
        pixels = as_float(crops)
        grid = torch.view_as_real(self.columns + self.rows)
        squares = self.squares.tolist()
        different = sorted(set(squares))
        if len(different) == 1:
            return self._sample(pixels, grid, different[0])
        out = pixels.new_empty(*pixels.shape[:2], *grid.shape[1:3])
        if pixels.device.type == "cpu":  # neighbours of one kind at a time: nothing is copied
            begin = 0
            for square, run in groupby(squares):
                cells = slice(begin, begin + len(list(run)))
                out[cells] = self._sample(pixels[cells], grid[cells], square)
                begin = cells.stop
            return out
        for square in different:
            same = [cell for cell, side in enumerate(squares) if side == square]
            rows = to_device(torch.tensor(same), pixels.device)
            out[rows] = self._sample(pixels[rows], grid[rows], square)
        return out

    def _sample(
        self, pixels: Float32[Tensor, "n c y x"], grid: Float32[Tensor, "n v u 2"], square: int
    ) -> Float32[Tensor, "n c v u"]:
        past_the_edge = "replicate" if self.sampling.fill is None else "constant"
        return sample(average_squares(pixels, square, past_the_edge, self.sampling.fill or 0.0), grid, self.sampling)


def sample(
    pixels: Float32[Tensor, "n c y x"], grid: Float32[Tensor, "n v u 2"], sampling: Sampling
) -> Float32[Tensor, "n c v u"]:
    """Return the values at the positions of the grid.

    Past the edge they are the fill, or the edge pixels where there is no fill.
    """
    fill = sampling.fill
    values = F.grid_sample(
        pixels - fill if fill else pixels,  # past the edge grid_sample gives 0, which then stands for the fill
        grid,
        mode=sampling.interpolation or "bilinear",
        padding_mode="border" if fill is None else "zeros",
        align_corners=False,
    )
    return values.add_(fill).clamp_(0.0, 1.0) if fill else values


def append(steps: list[Any], warp: Warp) -> None:
    """Append a warp to the steps; join it with the last step where that is a warp too and both can be one."""
    joined = steps[-1].then(warp) if steps and isinstance(steps[-1], Warp) else None
    if joined is None:
        steps.append(warp)
    else:
        steps[-1] = joined


def shrink_factors(matrix: Float64[Tensor, "n 3 3"]) -> Int64[Tensor, "n"]:
    """Return the side of the squares that are averaged before sampling, one per cell.

    It is 1 up to a twofold shrink, which bilinear sampling averages well enough by itself.
    """
    across = matrix.det().abs().sqrt() + 1e-6  # a small margin, so that 3 stays 3 despite rounding
    return torch.where(across > 2.0 + 2e-6, across.floor(), 1.0).long()


def average_squares(
    pixels: Float32[Tensor, "n c y x"], square: int, past_the_edge: str, fill: float = 0.0
) -> Float32[Tensor, "n c v u"]:
    """Return means over squares of `square` px.

    An image whose side is not a multiple of it is padded, equally at both ends.
    """
    if square == 1:
        return pixels
    missing = -pixels.shape[-1] % square
    before, after = missing // 2, missing - missing // 2
    if missing:
        value = fill if past_the_edge == "constant" else None
        pixels = F.pad(pixels, (before, after, before, after), mode=past_the_edge, value=value)
    return F.avg_pool2d(pixels, square)


def grid_terms(
    matrix: Float64[Tensor, "n 3 3"], side_in: int, side_out: int, squares: Int64[Tensor, "n"]
) -> tuple[Complex[Tensor, "n {side_out}"], Complex[Tensor, "n {side_out}"]]:
    """Return where each output pixel lies among the averaged squares of the input, as two terms.

    The position is the sum of a term of its column and a term of its row, in the units of grid_sample (-1 to 1 between
    the outer edges). Written as complex numbers (x + iy) that sum is one vectorised addition; affine_grid takes 20
    times as long on a CPU.
    """
    missing = -side_in % squares
    at = torch.arange(side_out, dtype=torch.float64) - (side_out - 1) / 2
    along_x, along_y, shift = matrix[:, :2].unsqueeze(-1).unbind(2)  # each (n, 2, 1)
    off_centre = (missing // 2 - missing / 2)[:, None, None]  # the odd pixel that average_squares adds at the far end
    unit = (2.0 / (side_in + missing))[:, None, None]
    return _complex(along_x * at * unit), _complex((along_y * at + shift + off_centre) * unit)


def _complex(pairs: Float64[Tensor, "n 2 side"]) -> Complex[Tensor, "n side"]:
    return torch.view_as_complex(pairs.float().transpose(1, 2).clone(memory_format=torch.contiguous_format))


def _differ(first: Interpolation | float | None, second: Interpolation | float | None) -> bool:
    return first is not None and second is not None and first != second
