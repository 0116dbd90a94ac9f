"""resources: a piece of work in, what it cost out: seconds, processor and GPU time, memory, bytes read and written."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Usage = dict[str, float]
LARGEST = ("peak_memory_mb", "peak_worker_mb", "peak_gpu_memory_mb")
"""What is not added up: the largest of several is what a machine must have."""


def _processor_s() -> float:
    return sum(os.times()[:4])


def _workers_s() -> float:
    return sum(os.times()[2:4])


def _moved() -> dict[str, int]:
    """Bytes that this process and the workers that it has outlived read and wrote; Linux tells."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return {}
    told = {name: int(number) for name, _, number in (line.partition(":") for line in lines)}
    return {"bytes_read": told["rchar"], "bytes_written": told["wchar"]}


@dataclass(frozen=True)
class UsageMeter:
    """Begins to count when it is made, for this process and the workers that end meanwhile.

    Wall time is monotonic, so that setting the clock changes nothing. Bytes are those of read and write calls, be they
    served by the disk or its cache; what is read through a memory map shows in none. Where the system does not tell a
    number, it is left out.
    """

    began_s: float = field(default_factory=time.monotonic)
    processor_s: float = field(default_factory=_processor_s)
    workers_s: float = field(default_factory=_workers_s)
    moved: Mapping[str, int] = field(default_factory=_moved)

    def __post_init__(self) -> None:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory begins anew
        if cuda := _cuda():
            cuda.reset_peak_memory_stats()

    def read(self, device: str = "cpu") -> Usage:
        """What was spent since it was made; `gpu_s` is how long a GPU was held, busy or not."""
        seconds = time.monotonic() - self.began_s
        costs = {
            "seconds": round(seconds, 3),
            "cpu_s": round(_processor_s() - self.processor_s, 3),
            "peak_memory_mb": round(_peak_memory_mb(), 1),
            **{name: after - self.moved[name] for name, after in _moved().items() if name in self.moved},
        }
        if _workers_s() > self.workers_s:
            costs["peak_worker_mb"] = round(_in_mb(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss), 1)
        if device.startswith("cuda"):
            costs["gpu_s"] = round(seconds, 3)
            if cuda := _cuda():
                costs["peak_gpu_memory_mb"] = round(cuda.max_memory_allocated() / 1e6, 1)
        return costs


def sum_usage(runs: Iterable[Mapping[str, Any]]) -> Usage:
    """What several pieces of work cost together: times and bytes added up, of memory the largest."""
    total: Usage = {}
    for run in runs:
        for name in ("seconds", "cpu_s", "gpu_s", "bytes_read", "bytes_written", *LARGEST):
            if name in run:
                both = (total.get(name, 0), run[name])
                total[name] = max(both) if name in LARGEST else round(sum(both), 3)
    return total


def _peak_memory_mb() -> float:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return _in_mb(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _in_mb(resident: int) -> float:
    """`ru_maxrss` counts in bytes on a Mac, in kibibytes elsewhere."""
    return resident / 1e6 if sys.platform == "darwin" else resident * 1024 / 1e6


def _cuda() -> Any:
    """torch.cuda where the work has already begun to use it; asking must not load it."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda if cuda is not None and cuda.is_initialized() else None
