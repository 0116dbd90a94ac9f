"""readers: the rows of every step in, their crops out; the next step's are read while this one's are worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from jaxtyping import Int64, UInt8
    from torch import Tensor

    Rows = Int64[np.ndarray, "b"]


class Read(Protocol):
    """Rows of the training set in, their crops on the device out."""

    ahead: bool
    """Whether reading takes time that is better spent beside the work."""

    def __call__(self, rows: Rows) -> UInt8[Tensor, "b c y x"]:
        """The crops of these rows, in that order."""


class InMemoryReader:
    """All crops lie in the memory of the device."""

    ahead = False

    def __init__(
        self, blocks: Iterable[UInt8[np.ndarray, "n c y x"]], shape: tuple[int, ...], device: torch.device
    ) -> None:
        self._crops = torch.empty(shape, dtype=torch.uint8, device=device)
        begin = 0
        for block in blocks:  # put in their place one by one: the set is never held twice
            self._crops[begin : begin + len(block)] = torch.from_numpy(block)
            begin += len(block)

    def __call__(self, rows: Rows) -> UInt8[Tensor, "b c y x"]:
        """A selection on the device."""
        return self._crops[torch.from_numpy(rows).to(self._crops.device)]


class MemmapReader:
    """Crops are read from the disk when they are needed, and nothing is kept."""

    ahead = True

    def __init__(self, read: Callable[[Rows], UInt8[np.ndarray, "b c y x"]], device: torch.device) -> None:
        self._read, self._device = read, device

    def __call__(self, rows: Rows) -> UInt8[Tensor, "b c y x"]:
        """Read, then brought to the device."""
        crops = torch.from_numpy(self._read(rows))
        return crops if self._device.type == "cpu" else crops.pin_memory().to(self._device, non_blocking=True)


def prefetch(
    read: Read, rows: Iterable[Rows], share: Callable[[Rows], Rows] = lambda rows: rows
) -> Iterator[tuple[Rows, UInt8[Tensor, "own c y x"]]]:
    """The rows of each step, and the crops of this process' share of them."""
    if not read.ahead:
        yield from ((these, read(share(these))) for these in rows)
        return
    with ThreadPoolExecutor(1, "feed") as thread:
        coming = None
        for these in rows:
            following = these, thread.submit(read, share(these))
            if coming is not None:
                yield coming[0], coming[1].result()
            coming = following
        if coming is not None:
            yield coming[0], coming[1].result()
