"""randomness: names and counters in, random numbers out; all random numbers of cellssl come from here.

Every draw is a hash of its purpose (seed, step, branch, view, transform, cell). So no generator has a state to save,
the number of workers does not matter, and a further draw does not change the others.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from cellssl.device import to_device

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import torch
    from jaxtyping import Bool, Float32, Int16, Int32, Int64
    from torch import Tensor

Name = str | int


def hash64(*names: Name) -> int:
    """Return a signed 64-bit hash of a sequence of names; "1" and 1 differ, and so do ("ab",) and ("a", "b")."""
    text = "\x1f".join(f"{type(name).__name__}:{name}".replace("\x1f", "\x1f\x1f") for name in names)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def generator(*names: Name) -> np.random.Generator:
    """Return a numpy generator that is determined by a sequence of names."""
    return np.random.Generator(np.random.Philox(key=hash64(*names) & (2**64 - 1)))


def seed32(*names: Name) -> int:
    """Return a seed below 2**31 for libraries that take one, such as scikit-learn."""
    return hash64(*names) & (2**31 - 1)


@contextmanager
def torch_seeded(*names: Name) -> Iterator[None]:
    """Seed the CPU generator of torch from the names for this context, and restore its state afterwards.

    This is for libraries that draw the weights of a network while they build it, and take no generator.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(hash64(*names))
        yield


def cell_keys(cell_ids: Iterable[str]) -> Int64[np.ndarray, "n"]:
    """Return one 64-bit key per cell; computed once, then folded with the names of step and view."""
    return np.fromiter((hash64(cell_id) for cell_id in cell_ids), dtype=np.int64)


@dataclass(frozen=True)
class Keys:
    """One 64-bit key per cell, on the CPU; draws are made there, so that they are the same bits for every device."""

    values: Int64[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.values)

    def fold(self, *names: Name) -> Keys:
        """Return the keys for a purpose below these: `keys.fold("affine", 0)`."""
        return Keys(_mix(self.values ^ hash64(*names)))

    def fold_each(self, *names: tuple[Name, ...]) -> Keys:
        """Return the results of `fold` for several names in columns: keys (n, names); their draws have that shape."""
        import torch

        hashes = torch.tensor([hash64(*name) for name in names])
        return Keys(_mix(self.values[:, None] ^ hashes))

    def uniform(self, name: Name, low: float = 0.0, high: float = 1.0) -> Float32[Tensor, "n"]:
        """Draw uniform numbers in [low, high), from the 24 highest bits of the folded key."""
        return _unit(self.fold(name).values) * (high - low) + low

    def uniforms(self, **ranges: tuple[float, float]) -> dict[str, Float32[Tensor, "n"]]:
        """Draw `uniform` for several names at once, which takes little longer than for one."""
        units = _unit(self.fold_each(*((name,) for name in ranges)).values).unbind(1)
        return {
            name: unit * (high - low) + low for (name, (low, high)), unit in zip(ranges.items(), units, strict=True)
        }

    def chance(self, name: Name, p: float) -> Bool[Tensor, "n"]:
        """Draw True with probability `p`; never for 0 and always for 1."""
        return self.uniform(name) < p

    def integers(self, name: Name, below: int) -> Int64[Tensor, "n"]:
        """Draw whole numbers in [0, below)."""
        return ((self.fold(name).values & 0x7FFFFFFFFFFFFFFF) % below).long()

    def permutation(self, name: Name, size: int) -> Int64[Tensor, "n size"]:
        """Draw a permutation of 0 to `size` - 1 for every cell."""
        return _unit(self.fold_each(*((f"{name}/{i}",) for i in range(size))).values).argsort(dim=1)

    def pixels(
        self, count: int, parts: Literal[2, 4]
    ) -> Int32[Tensor, "n count parts"] | Int16[Tensor, "n count parts"]:
        """Draw uniform bits for `count` pixels of every cell, as 2 whole numbers of 32 bits or 4 of 16.

        They are computed on the device of the keys, with whole numbers only, so that they are the same bits on every
        device.
        """
        import torch

        counters = self.values[:, None] + torch.arange(count, device=self.values.device) * _STRIDE
        mixed: Tensor = _mix(counters)[:, :, None]
        return mixed.view(torch.int32 if parts == 2 else torch.int16)  # every device of torch is little-endian


@cache
def normal_quantiles(device: torch.device | None = None) -> Float32[Tensor, "65536"]:
    """Return the quantiles of the standard normal distribution at the middles of 65,536 equally probable slices.

    Looked up by 16 uniform bits, they give normal noise that is the same on every device, where logarithm and cosine
    differ in their last bits. The largest is 4.3249; the standard deviation is 1 within 2e-5. They are computed once,
    on the CPU, for every device.
    """
    import torch

    if device is not None and device.type != "cpu":
        return to_device(normal_quantiles(), device)
    middles = (torch.arange(32768, dtype=torch.float64) + 0.5) / 65536
    below = torch.special.ndtri(middles).float()
    return torch.cat([below, -below.flip(0)])


_STRIDE = 0x1E3779B97F4A7C15
"""An odd number with well mixed bits, so that the counters of neighbouring pixels and cells do not meet."""


def _unit(values: Int64[Tensor, "*n"]) -> Float32[Tensor, "*n"]:
    """Return numbers in [0, 1) from the 24 highest bits, as many as a float32 holds."""
    import torch

    return ((values >> 40) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def _mix(x: Int64[Tensor, "n"]) -> Int64[Tensor, "n"]:
    """Apply the finaliser of splitmix64 (Steele et al. 2014, doi:10.1145/2660193.2660195), in wrapping int64."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shift_right(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift_right(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift_right(x, 31)


def _shift_right(x: Int64[Tensor, "n"], bits: int) -> Int64[Tensor, "n"]:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x
