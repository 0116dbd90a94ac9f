"""relabelings: the blocks of treated and control wells -> all ways, or random ways, to say which wells are treated."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int


@dataclass(frozen=True)
class Relabelings:
    """Ways to choose in every block as many wells as it has treated ones."""

    members: tuple[Int[np.ndarray, "_"], ...]
    """The wells of each block, treated and controls."""
    treated: tuple[int, ...]
    """How many of them are treated."""

    @classmethod
    def of(cls, is_treated: Bool[np.ndarray, "n"], block: Int[np.ndarray, "n"]) -> "Relabelings":
        """Return those of wells in blocks; blocks without a treated well have nothing to choose."""
        names = np.unique(block[is_treated])
        members = tuple(np.flatnonzero(block == name) for name in names)
        return cls(members, tuple(int(is_treated[wells].sum()) for wells in members))

    @property
    def number(self) -> int:
        """The number of different relabelings, the observed one among them."""
        return math.prod(math.comb(len(wells), k) for wells, k in zip(self.members, self.treated, strict=True))

    def all(self, at_once: int) -> Iterator[Int[np.ndarray, "b k"]]:
        """Yield every relabeling once, some at a time."""
        choices = [
            wells[np.array(list(itertools.combinations(range(len(wells)), k)))]
            for wells, k in zip(self.members, self.treated, strict=True)
        ]
        sizes = tuple(len(each) for each in choices)
        for begin in range(0, self.number, at_once):
            at = np.unravel_index(np.arange(begin, min(begin + at_once, self.number)), sizes)
            yield np.concatenate([each[rows] for each, rows in zip(choices, at, strict=True)], axis=1)

    def draw(self, rng: np.random.Generator, size: int) -> Int[np.ndarray, "size k"]:
        """Draw relabelings, all equally likely."""
        return np.concatenate(
            [wells[_subsets(rng, size, len(wells), k)] for wells, k in zip(self.members, self.treated, strict=True)],
            axis=1,
        )


def _subsets(rng: np.random.Generator, size: int, n: int, k: int) -> Int[np.ndarray, "size k"]:
    """Draw `k` of `n` numbers, `size` times."""
    if k == 1:
        return rng.integers(n, size=(size, 1))
    if k == n:
        return np.tile(np.arange(n), (size, 1))
    return np.argpartition(rng.random((size, n)), k - 1, axis=1)[:, :k]
