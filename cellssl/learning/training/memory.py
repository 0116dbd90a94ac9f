"""memory: settings of the C library in, faster reuse of memory out; and a clear error where memory is too small.

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
TRIM_THRESHOLD_BYTES = 2**31 - 1
TOP_PAD_BYTES = 2**28


def keep_freed_memory() -> None:
    """Let the C library keep freed memory until the process ends; do nothing where it is not glibc."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first tensor: pages of 2 MB, not 4 kB
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for option, value in (
        (M_MMAP_MAX, 0),
        (M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES),
        (M_TOP_PAD, TOP_PAD_BYTES),
    ):
        mallopt(option, value)


@contextmanager
def enough_memory(hint: str) -> Iterator[None]:
    """Raise FailedError with this hint where memory does not suffice for a tensor, on the device or on the CPU."""
    import torch

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise FailedError(f"there is not enough memory: {error}".split("\n")[0], hint=hint) from error
    except RuntimeError as error:
        # torch's allocator on a CPU has no error type of its own, only these words
        if "can't allocate memory" not in str(error):
            raise
        raise FailedError("there is not enough memory on this machine", hint=hint) from error
