"""blocks: the parts of a joined vector: name, number of columns and weight of each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """One block of columns: the vectors of one model beside those of others."""

    name: str
    dim: int
    weight: float = 1.0
    """Its share of the squared length of a joined vector is this weight over the sum of all weights."""


Blocks = tuple[Block, ...]
"""The blocks of a joined vector, in the order of its columns; empty where a vector has no blocks."""
