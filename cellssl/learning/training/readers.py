"""readers: the rows of every step in, their crops out; the crops of the next step are read during the current one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import torch

if TYPE_CHECKING:
    from jaxtyping import Int64, UInt8
    from torch import Tensor

    Rows = Int64[np.ndarray, "b"]

Item = TypeVar("Item")


class CropReader(Protocol):
    """Rows of the training set in, their crops on the device out."""

    in_background: bool
    """Whether reading takes so long that a thread should do it during the previous step."""

    def __call__(self, rows: Rows) -> UInt8[Tensor, "b c y x"]:
        """Return the crops of these rows, in that order."""


class InMemoryReader:
    """All crops, held in the memory of the device."""

    in_background = False

    def __init__(
        self, blocks: Iterable[UInt8[np.ndarray, "n c y x"]], shape: tuple[int, ...], device: torch.device
    ) -> None:
        self._crops = torch.empty(shape, dtype=torch.uint8, device=device)
        start = 0
        for block in blocks:  # copied block by block: the set is never in memory twice
            self._crops[start : start + len(block)] = torch.from_numpy(block)
            start += len(block)

    def __call__(self, rows: Rows) -> UInt8[Tensor, "b c y x"]:
        """Return the crops of these rows, selected on the device."""
        return self._crops[torch.from_numpy(rows).to(self._crops.device)]


class MemmapReader:
    """Crops that are read from the disk when they are needed, and not kept."""

    in_background = True

    def __init__(self, read: Callable[[Rows], UInt8[np.ndarray, "b c y x"]], device: torch.device) -> None:
        self._read, self._device = read, device

    def __call__(self, rows: Rows) -> UInt8[Tensor, "b c y x"]:
        """Read the crops of these rows and copy them to the device."""
        crops = torch.from_numpy(self._read(rows))
        return crops if self._device.type == "cpu" else crops.pin_memory().to(self._device, non_blocking=True)


def ahead(items: Iterator[Item], name: str) -> Iterator[Item]:
    """Yield the items of an iterator; a thread of that name makes the next one while the current one is used."""
    with ThreadPoolExecutor(1, name) as thread:
        following = thread.submit(next, items, None)
        while (current := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield current


def prefetch(
    read: CropReader, batches: Iterable[Rows], share: Callable[[Rows], Rows] = lambda rows: rows
) -> Iterator[tuple[Rows, UInt8[Tensor, "own c y x"]]]:
    """Yield the rows of each step and the crops of this process' share of them."""
    if not read.in_background:
        yield from ((rows, read(share(rows))) for rows in batches)
        return
    with ThreadPoolExecutor(1, "prefetch") as thread:
        current = None
        for rows in batches:
            following = rows, thread.submit(read, share(rows))
            if current is not None:
                yield current[0], current[1].result()
            current = following
        if current is not None:
            yield current[0], current[1].result()
