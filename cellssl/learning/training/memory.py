"""memory: tells the C library to keep what training frees, and says in words when there is not enough.

Each step frees and takes the same hundreds of megabytes. By default glibc gives every large block back to the system,
which hands it out again page by page, filled with zeros: on two cores a third of the time of a step of VGG13 at 196 px.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cellssl.errors import FailedError

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
KEPT_BYTES = 2**31 - 1
GROWN_BYTES = 2**28


def keep_freed_memory() -> None:
    """Until the process ends; where the C library is not glibc nothing happens."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first tensor: pages of 2 MB, not 4 kB
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for knob, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, KEPT_BYTES), (M_TOP_PAD, GROWN_BYTES)):
        mallopt(knob, value)


@contextmanager
def enough_memory(cure: str) -> Iterator[None]:
    """FailedError with this cure where a tensor finds no room, on the device or beside it."""
    import torch

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise FailedError(f"there is not enough memory: {error}".split("\n")[0], hint=cure) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(
            error
        ):  # so torch's allocator on a CPU says it, without a type of its own
            raise
        raise FailedError("there is not enough memory on this machine", hint=cure) from error
