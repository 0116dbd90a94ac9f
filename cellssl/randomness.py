"""randomness: names and counters in, random numbers out; the only source of chance.

Every draw is a hash of what it is for (seed, step, branch, view, transform, cell), so that no generator has a state
to save, the number of workers does not matter, and one more draw leaves all the others alone.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jaxtyping import Bool, Float32, Int64
    from torch import Tensor

Name = str | int


def hash64(*names: Name) -> int:
    """A signed 64-bit number for a sequence of names; "1" and 1 differ, and so do ("ab",) and ("a", "b")."""
    text = "\x1f".join(f"{type(name).__name__}:{name}".replace("\x1f", "\x1f\x1f") for name in names)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def generator(*names: Name) -> np.random.Generator:
    """A numpy generator of its own for every sequence of names."""
    return np.random.Generator(np.random.Philox(key=hash64(*names) & (2**64 - 1)))


def seed32(*names: Name) -> int:
    """A seed below 2**31 for libraries that take one, such as scikit-learn."""
    return hash64(*names) & (2**31 - 1)


@contextmanager
def torch_seeded(*names: Name) -> Iterator[None]:
    """Within it torch's own generator on the CPU follows from the names; after it, that generator is as it was.

    For libraries that draw a network's weights while they build it, and take no generator.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(hash64(*names))
        yield


def cell_keys(cell_ids: Iterable[str]) -> Int64[np.ndarray, "n"]:
    """One 64-bit key a cell; computed once, folded with step and view names afterwards."""
    return np.fromiter((hash64(cell_id) for cell_id in cell_ids), dtype=np.int64)


@dataclass(frozen=True)
class Keys:
    """One 64-bit key a cell, on the CPU; draws are made there, so that they are the same bits for every device."""

    values: Int64[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.values)

    def fold(self, *names: Name) -> Keys:
        """The keys of something below these: `keys.fold("affine", 0)`."""
        return Keys(_mix(self.values ^ hash64(*names)))

    def uniform(self, name: Name, low: float = 0.0, high: float = 1.0) -> Float32[Tensor, "n"]:
        """Uniform in [low, high), from the 24 highest bits of the folded key."""
        import torch

        bits = (self.fold(name).values >> 40) & 0xFFFFFF
        unit = bits.to(torch.float32) * 2.0**-24
        return unit * (high - low) + low

    def chance(self, name: Name, p: float) -> Bool[Tensor, "n"]:
        """True with probability `p`; never for 0 and always for 1."""
        return self.uniform(name) < p

    def integers(self, name: Name, below: int) -> Int64[Tensor, "n"]:
        """Whole numbers in [0, below)."""
        return ((self.fold(name).values & 0x7FFFFFFFFFFFFFFF) % below).long()

    def normal(self, name: Name) -> Float32[Tensor, "n"]:
        """Standard normal, by Box and Muller."""
        import torch

        radius = torch.sqrt(-2.0 * torch.log1p(-self.uniform(f"{name}/radius")))
        return radius * torch.cos(2.0 * torch.pi * self.uniform(f"{name}/angle"))

    def permutation(self, name: Name, size: int) -> Int64[Tensor, "n size"]:
        """An order of `size` things for every cell."""
        import torch

        return torch.stack([self.uniform(f"{name}/{i}") for i in range(size)], dim=1).argsort(dim=1)


def _mix(x: Int64[Tensor, "n"]) -> Int64[Tensor, "n"]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195), in wrapping int64."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shift_right(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift_right(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift_right(x, 31)


def _shift_right(x: Int64[Tensor, "n"], bits: int) -> Int64[Tensor, "n"]:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x
