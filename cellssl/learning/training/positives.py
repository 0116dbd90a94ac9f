"""positives: a treatment and a well of every cell in; for each cell of a step, another cell to make its other views of,
out.

Which cell that is follows from the seed, the step, the branch and the cell. So it is the same after a resume, with any
number of processes, and on any device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cellssl.device import to_device
from cellssl.learning.training.drawing import branch_keys
from cellssl.learning.training.readers import Batch, Paired, ahead

if TYPE_CHECKING:
    from jaxtyping import Bool, Int64, UInt8

    from cellssl.learning.training.distributed import Group
    from cellssl.learning.training.readers import CropReader, Rows
    from cellssl.randomness import Keys

UNITS_AT_ONCE = 1024
"""Wells that are compared at a time with all wells of their treatment."""


@dataclass(frozen=True)
class Partners:
    """Which cells of a set can be the partner of each: cells of the same treatment, from another well.

    "Treatment" and "well" stand for the columns that a recipe names. A unit is one well of one treatment.
    """

    treatments: Int64[Tensor, "n"]
    """One number per cell; cells of one treatment have the same, a cell without a treatment has one of its own."""
    _unit_of_row: Int64[np.ndarray, "n"]
    _wells: Int64[np.ndarray, "u columns"]
    """Of every unit the values that must differ; -1 where one is missing."""
    _units_of_same: Int64[np.ndarray, "u 2"]
    """Of every unit the first unit of its treatment, and the one behind the last: they lie beside each other."""
    _rows: Int64[np.ndarray, "n"]
    """All rows, unit by unit."""
    _begins: Int64[np.ndarray, "u+1"]
    """Where the rows of every unit begin."""
    has_partner: Bool[np.ndarray, "n"]
    """The cells for which there is another one."""

    @classmethod
    def of(cls, treatments: Int64[np.ndarray, "n"], wells: Int64[np.ndarray, "n columns"]) -> Partners:
        """Group cells by treatment, and those of a treatment by well; each column of a well must differ.

        A cell of which a column of the well is missing (-1) has no partner and is none.
        """
        whole = np.concatenate([treatments[:, None], wells], axis=1)
        units, unit_of_row = np.unique(whole, axis=0, return_inverse=True)
        unit_of_row = unit_of_row.reshape(-1)
        _, first, place, sizes = np.unique(units[:, 0], return_index=True, return_inverse=True, return_counts=True)
        span = np.stack([first, first + sizes], axis=1)[place]
        rows = np.argsort(unit_of_row, kind="stable")
        begins = np.concatenate([[0], np.cumsum(np.bincount(unit_of_row, minlength=len(units)))])
        found = cls(
            torch.from_numpy(treatments), unit_of_row, units[:, 1:], span, rows, begins, np.zeros(len(rows), bool)
        )
        counts = [
            found._partner_units(np.arange(begin, min(begin + UNITS_AT_ONCE, len(units))))[1]
            for begin in range(0, len(units), UNITS_AT_ONCE)
        ]
        found.has_partner[:] = (np.concatenate(counts) > 0)[unit_of_row]
        return found

    def draw(self, rows: Rows, keys: Keys, share: float) -> Rows:
        """Return the partner of some cells, and the cell itself for the others: those without one, and 1 - `share`.

        First a well is drawn and then a cell of it, so that every well counts equally, however many cells it has.
        """
        chosen = np.flatnonzero(keys.chance("has a partner", share).numpy() & self.has_partner[rows])
        partners = rows.copy()
        if len(chosen):
            units, counts = self._partner_units(self._unit_of_row[rows[chosen]])
            unit = units[np.cumsum(counts) - counts + _integers(keys, "well of the partner", chosen, counts)]
            sizes = self._begins[unit + 1] - self._begins[unit]
            partners[chosen] = self._rows[self._begins[unit] + _integers(keys, "partner", chosen, sizes)]
        return partners

    def _partner_units(self, units: Int64[np.ndarray, "m"]) -> tuple[Int64[np.ndarray, "all"], Int64[np.ndarray, "m"]]:
        """Return the units of partners of each unit, one after the other, and how many each has."""
        first, behind = self._units_of_same[units].T
        sizes = behind - first
        owner = np.repeat(np.arange(len(units)), sizes)
        candidates = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(first, sizes)
        theirs, ours = self._wells[candidates], self._wells[units][owner]
        fits = ((theirs != ours) & (theirs >= 0) & (ours >= 0)).all(axis=1)
        return candidates[fits], np.bincount(owner[fits], minlength=len(units))


def _integers(keys: Keys, name: str, chosen: np.ndarray, below: Int64[np.ndarray, "m"]) -> Int64[np.ndarray, "m"]:
    """Draw a whole number below its own bound for each of the chosen keys."""
    drawn: np.ndarray = (keys.fold(name).values.numpy()[chosen] & 0x7FFFFFFFFFFFFFFF) % below
    return drawn


@dataclass(frozen=True)
class Positives:
    """How a branch takes positives from the metadata of one set of cells."""

    partners: Partners
    share: float
    """Share of the cells of a step whose other views are made of a partner, where they have one."""
    mask_same: bool = True
    """Whether cells of one treatment are no negatives of each other."""


@dataclass(frozen=True)
class BatchReader:
    """Reads the crops of batches, and with them those of the partners of every branch with positives."""

    read: CropReader
    cell_keys: Int64[Tensor, "n"]
    seed: int
    group: Group
    positives: Mapping[str, Positives]
    """By branch."""

    def batches(self, steps: Iterable[tuple[int | str, Rows]]) -> Iterator[Batch]:
        """Yield the batch of every step; a slow reader reads one batch ahead.

        Steps are given by their number, or "validation", and their rows.
        """
        items = (self._batch(when, rows) for when, rows in steps)
        yield from ahead(items, "prefetch") if self.read.in_background else items

    def _batch(self, when: int | str, rows: Rows) -> Batch:
        share = self.group.share
        crops, paired = self.read(share(rows)), {}
        for branch, positives in self.positives.items():
            keys = branch_keys(self.seed, branch, self.cell_keys[torch.from_numpy(rows)], when)
            partners = positives.partners.draw(rows, keys, positives.share)
            of_partners = _crops_of_partners(self.read, crops, share(rows), share(partners))
            same = positives.partners.treatments[torch.from_numpy(rows)] if positives.mask_same else None
            paired[branch] = Paired(of_partners, None if same is None else to_device(same, crops.device))
        return Batch(rows, crops, paired)


def _crops_of_partners(read: CropReader, crops: UInt8[Tensor, "own c y x"], rows: Rows, partners: Rows) -> Tensor:
    """Return the crops of the partners; only those that are of another cell are read."""
    other = np.flatnonzero(rows != partners)
    if not len(other):
        return crops
    places = to_device(torch.from_numpy(other), crops.device)
    return crops.index_copy(0, places, read(partners[other]))
