"""chain: vectors, a chain of normalisers and frames -> a fitted chain and normalised vectors, also of later plates.

A joined vector has blocks. The chain is then fitted and applied to the columns of every block by itself, and the blocks
get their shares of the squared length.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from cellssl.errors import DataError
from cellssl.profiling import chain_arrays
from cellssl.profiling.block_columns import check_blocks, columns_of
from cellssl.profiling.blocks import Blocks
from cellssl.profiling.chain_arrays import Links
from cellssl.profiling.fitted_links import FittedLinks, fit_links
from cellssl.profiling.frames import Frames
from cellssl.profiling.labels import Labels, codes
from cellssl.profiling.moments import chunks

ENERGY = "energy of blocks"
"""What `fitted_by` calls the factors that give every block its share of the squared length."""


@dataclass(frozen=True)
class FittedChain:
    """The links of a chain, fitted on all columns, or on those of every block by itself."""

    parts: tuple[FittedLinks, ...]
    """One for every block; a single one where there are no blocks."""
    blocks: Blocks = ()
    factors: tuple[float, ...] = ()
    """What the columns of every block are multiplied by after the links; 0 where all its reference rows are 0."""

    @property
    def links(self) -> Links:
        """The links, which are the same for every block."""
        return self.parts[0].links

    @property
    def dim(self) -> int:
        """Number of features that go in."""
        return sum(part.dim for part in self.parts)

    @cached_property
    def blocks_out(self) -> Blocks:
        """The blocks of normalised vectors: links such as pca change their number of columns."""
        return tuple(replace(block, dim=part.dim_out) for block, part in zip(self.blocks, self.parts, strict=False))

    @property
    def empty_blocks(self) -> tuple[str, ...]:
        """Names of the blocks whose reference rows are all 0 after the links: they count for nothing."""
        return tuple(block.name for block, factor in zip(self.blocks, self.factors, strict=True) if factor == 0)

    def apply(self, x: Float[np.ndarray, "n d"], frames: Frames | None = None) -> Float[np.ndarray, "n _"]:
        """Return normalised vectors: pooled parts and the factors of blocks as saved, per-plate parts fitted on the
        controls of these frames."""
        if x.shape[1] != self.dim:
            raise DataError(
                f"the normalisation was fitted on {self.dim} features, but the embeddings have {x.shape[1]}",
                hint="embed these cells with the model of the earlier clustering",
            )
        if not self.blocks:
            return self.parts[0].apply(x, frames)
        columns = zip(self.parts, columns_of(self.blocks), strict=True)
        return _joined([part.apply(x[:, own], frames) for part, own in columns], self.factors)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the chain as named arrays, to be stored in an .npz file beside the centroids."""
        pooled = [part.pooled for part in self.parts]
        return chain_arrays.named_arrays(self.links, pooled, self.dim, self.blocks, self.factors)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "FittedChain":
        """Return the chain that `arrays()` stored, or that an earlier version stored; other arrays are ignored.

        Raises KeyError or ValueError where they are not those of a chain.
        """
        links, pooled, dims, blocks, factors = chain_arrays.read(arrays)
        parts = (FittedLinks(links, of_part, dim) for of_part, dim in zip(pooled, dims, strict=True))
        return cls(tuple(parts), blocks, factors)


def is_per_plate(links: Links) -> bool:
    """Return whether a link is fitted on the controls of every plate, so that the chain needs frames."""
    return any(link.of_plate for link in links)


def needs_controls(links: Links) -> bool:
    """Return whether a link is fitted on controls, of every plate or of all together."""
    return any(link.of_plate or link.fitted_on == "controls" for link in links)


def fit_chain(
    links: Links,
    x: Float[np.ndarray, "n d"],
    reference: Bool[np.ndarray, "n"],
    plates: Labels,
    is_control: Bool[np.ndarray, "n"],
    frames: Frames | None,
    fitting_controls: Bool[np.ndarray, "n"] | None = None,
    key: str = "fetch.controls",
    blocks: Blocks = (),
    energy_rows: Bool[np.ndarray, "n"] | None = None,
) -> tuple[FittedChain, Float[np.ndarray, "n _"]]:
    """Fit a chain link by link; return it and the normalised vectors of all rows.

    The pooled part of a link is fitted on the `reference` rows, as the links before it leave them in the frame of each
    row; where it is fitted on controls, on `fitting_controls`, by default the controls among the reference rows. The
    per-plate part is fitted frame by frame, on the fitting rows as the links before leave them in that frame. `key` is
    the setting that names the controls.

    With `blocks`, all this happens in the columns of every block by itself. Then the mean squared length of the
    `energy_rows`, by default the reference rows, is 1, of which every block has its weight over the sum of weights.
    """
    controls = _fitting_controls(reference, is_control, fitting_controls)
    if not blocks:
        part, normal = fit_links(links, x, reference, plates, controls, frames, key)
        return FittedChain((part,)), normal
    check_blocks(blocks, x.shape[1])
    parts, normal_of = [], []
    for block, own in zip(blocks, columns_of(blocks), strict=True):
        try:
            part, normal = fit_links(links, x[:, own], reference, plates, controls, frames, key)
        except DataError as error:
            raise DataError(f"block {block.name}: {error.message}", hint=error.hint) from error
        parts.append(part)
        normal_of.append(normal)
    factors = _factors(blocks, normal_of, reference if energy_rows is None else energy_rows)
    return FittedChain(tuple(parts), blocks, factors), _joined(normal_of, factors)


def fitted_by(
    links: Links,
    reference: Bool[np.ndarray, "n"],
    plates: Labels,
    is_control: Bool[np.ndarray, "n"],
    frames: Frames | None,
    fitting_controls: Bool[np.ndarray, "n"] | None = None,
    blocks: Blocks = (),
    energy_rows: Bool[np.ndarray, "n"] | None = None,
) -> list[dict[str, Any]]:
    """Return which rows fitted every part of every link, ready for JSON.

    Each entry has the name of the link, what it was fitted on ("cells", "controls", or "controls of each plate"), the
    numbers of these rows and their plates, the number of folds, and whether wells or cells were split into them. With
    blocks, the last entry is that of their shares.
    """
    controls = _fitting_controls(reference, is_control, fitting_controls)
    plate = codes(plates)[1]
    found = []
    for link in links:
        name = link.plugin_name()
        if link.fitted_on != "nothing":
            rows = np.flatnonzero(controls if link.fitted_on == "controls" else reference)
            found.append(_entry(name, link.fitted_on, plate[rows], 1, None))
        if link.of_plate and frames is not None:
            rows = np.unique(np.concatenate([frame.fitting for frame in frames.frames]))
            split = None if frames.folds == 1 else "cell" if frames.by_cell else "well"
            found.append(_entry(name, "controls of each plate", plate[rows], frames.folds, split))
    if blocks:
        rows = np.flatnonzero(reference if energy_rows is None else energy_rows)
        found.append(_entry(ENERGY, "controls" if is_control[rows].all() else "cells", plate[rows], 1, None))
    return found


def _entry(link: str, on: str, plate: Int[np.ndarray, "m"], folds: int, split: str | None) -> dict[str, Any]:
    counted = {"rows": len(plate), "plates": len(np.unique(plate)), "folds": folds, "split_by": split}
    return {"link": link, "on": on, **counted}


def _fitting_controls(
    reference: Bool[np.ndarray, "n"], is_control: Bool[np.ndarray, "n"], fitting_controls: Bool[np.ndarray, "n"] | None
) -> Bool[np.ndarray, "n"]:
    return np.asarray(is_control & (reference if fitting_controls is None else fitting_controls))


def _factors(blocks: Blocks, normal_of: list[np.ndarray], energy_rows: Bool[np.ndarray, "n"]) -> tuple[float, ...]:
    """Return what gives every block its share of the mean squared length of these rows."""
    rows = np.flatnonzero(energy_rows)
    if not len(rows):
        raise DataError("there are no cells to fit the normalisation on", hint="check which cells are kept and split")
    total = sum(block.weight for block in blocks)
    found = []
    for block, normal in zip(blocks, normal_of, strict=True):
        energy = sum(float(np.square(some.astype(np.float64)).sum()) for some in chunks(normal, rows)) / len(rows)
        is_empty = energy <= np.finfo(normal.dtype).tiny  # a larger factor would not be a number
        found.append(0.0 if is_empty else math.sqrt(block.weight / total / energy))
    return tuple(found)


def _joined(normal_of: list[np.ndarray], factors: tuple[float, ...]) -> Float[np.ndarray, "n _"]:
    """Return the blocks side by side, each multiplied by its factor; they are let go one after another."""
    widths = [part.shape[1] for part in normal_of]
    out = np.empty((len(normal_of[0]), sum(widths)), normal_of[0].dtype)
    normal_of.reverse()
    end = 0
    for width, factor in zip(widths, factors, strict=True):
        out[:, end : end + width] = normal_of.pop() * out.dtype.type(factor)
        end += width
    return out
