"""activity_design: labels of wells -> which wells of each treatment can be tested, and against which wells."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from cellssl.profiling.labels import Labels, codes
from cellssl.profiling.relabelings import Relabelings

Reference = Literal["controls", "all"]
"""Which wells give the centre of a plate and the negatives: the control wells, or all wells."""
FEWEST = 2
"""Wells of a treatment, and reference wells of a plate, that a test needs: one control well would be its own centre,
and its deviation would be part of every treated well of the plate."""


@dataclass(frozen=True)
class ActivityDesign:
    """The wells of every treatment that can be tested, the plates, and the blocks within which labels change."""

    names: tuple[str, ...]
    """Treatments of wells that are not controls, sorted as text."""
    tested: tuple[Int[np.ndarray, "_"], ...]
    """The tested wells of each, ordered by block; empty where there are fewer than two."""
    plate: Int[np.ndarray, "n"]
    block: Int[np.ndarray, "n"]
    """A number per plate and block, in the order of plates."""
    is_reference: Bool[np.ndarray, "n"]
    """Wells that can be negatives, of treatments other than their own."""

    @classmethod
    def of(
        cls,
        treatments: Labels,
        is_control: Bool[np.ndarray, "n"],
        plates: Labels,
        blocks: Labels | None = None,
        reference: Reference = "controls",
    ) -> "ActivityDesign":
        """Return the design of wells. A block ends where its plate ends, and wells without a block are one block."""
        labels = np.array([*treatments, None], dtype=object)[:-1]
        labels[is_control] = None
        names, treatment = codes(labels)
        _, plate = codes(plates)
        plate -= plate.min(initial=0)  # wells without a plate are on one plate
        _, block = (None, plate) if blocks is None else codes(blocks)
        joint = np.unique(plate * (block.max(initial=0) + 2) + block + 1, return_inverse=True)[1].reshape(-1)
        wells = np.bincount(plate)
        if reference == "controls":
            comparable = np.bincount(plate, weights=is_control)[plate]
        else:
            comparable = wells[plate] - _equal(plate, treatment)
        can_be_tested = (treatment >= 0) & (comparable >= FEWEST)
        tested = tuple(
            _ordered(np.flatnonzero(can_be_tested & (treatment == code)), joint) for code in range(len(names))
        )
        is_reference = (is_control & (comparable >= FEWEST)) if reference == "controls" else np.ones(len(plate), bool)
        return cls(tuple(names), tested, plate, joint, is_reference)

    def compared(self, number: int, *, all_plates: bool) -> Int[np.ndarray, "w"]:
        """Return the tested wells of a treatment and the reference wells of their plates (or of all), by block."""
        wells = self.tested[number]
        near = self.is_reference if all_plates else self.is_reference & np.isin(self.plate, self.plate[wells])
        rows = np.union1d(wells, np.flatnonzero(near))
        return rows[np.argsort(self.block[rows], kind="stable")]

    def relabelings(self, number: int, rows: Int[np.ndarray, "w"]) -> Relabelings:
        """Return the ways to choose the treated wells of a treatment among some wells, as numbers of these wells."""
        return Relabelings.of(np.isin(rows, self.tested[number]), self.block[rows])


def smallest_p_value(design: ActivityDesign, number: int, null_size: int) -> float:
    """Return the smallest p-value that a permutation of labels can give a treatment; 1 where there is no test.

    It is 1 / number of different relabelings, or 1 / (null_size + 1) where these are more than `null_size`.
    """
    if not len(design.tested[number]):
        return 1.0
    ways = design.relabelings(number, design.compared(number, all_plates=False)).number
    return 1 / ways if ways <= null_size else 1 / (null_size + 1)


def _equal(plate: Int[np.ndarray, "n"], treatment: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """Return for every well the number of wells of its plate that have its treatment."""
    _, pair, times = np.unique(
        plate * (treatment.max(initial=0) + 2) + treatment + 1, return_inverse=True, return_counts=True
    )
    return np.asarray(times[pair.reshape(-1)])


def _ordered(wells: Int[np.ndarray, "w"], block: Int[np.ndarray, "n"]) -> Int[np.ndarray, "_"]:
    """Return wells by block; none where there are too few."""
    enough = wells if len(wells) >= FEWEST else wells[:0]
    return enough[np.argsort(block[enough], kind="stable")]
