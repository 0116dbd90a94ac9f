"""resources: a running piece of work in, its seconds, CPU and GPU time, memory, bytes read and written out."""

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
"""Measures that are combined by their maximum, not by their sum."""
CGROUP = Path("/sys/fs/cgroup")
"""Where a container finds its limits."""


def _cpu_s() -> float:
    """Return the CPU time of this process and its finished workers."""
    return sum(os.times()[:4])


def _workers_s() -> float:
    """Return the CPU time of finished workers."""
    return sum(os.times()[2:4])


def _bytes_moved() -> dict[str, int]:
    """Return the bytes that this process and its finished workers read and wrote; known on Linux only."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return {}
    counters = {name: int(number) for name, _, number in (line.partition(":") for line in lines)}
    return {"bytes_read": counters["rchar"], "bytes_written": counters["wchar"]}


@dataclass(frozen=True)
class UsageMeter:
    """A measurement that begins when the object is made, for this process and the workers that end meanwhile.

    Wall time is monotonic, so that setting the clock changes nothing. Bytes are those of read and write calls, served
    by the disk or by its cache; reads through a memory map are not counted. A number that the system does not give is
    left out.
    """

    began_s: float = field(default_factory=time.monotonic)
    cpu_s: float = field(default_factory=_cpu_s)
    workers_s: float = field(default_factory=_workers_s)
    bytes_moved: Mapping[str, int] = field(default_factory=_bytes_moved)

    def __post_init__(self) -> None:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets the peak of resident memory
        if cuda := _cuda():
            cuda.reset_peak_memory_stats()

    def read(self, device: str = "cpu") -> Usage:
        """Return the usage since the object was made; `gpu_s` is how long a GPU was held, busy or idle."""
        seconds = time.monotonic() - self.began_s
        usage: Usage = {
            "seconds": round(seconds, 3),
            "cpu_s": round(_cpu_s() - self.cpu_s, 3),
            "peak_memory_mb": round(peak_memory_mb(), 1),
            **{
                name: after - self.bytes_moved[name]
                for name, after in _bytes_moved().items()
                if name in self.bytes_moved
            },
        }
        if _workers_s() > self.workers_s:
            usage["peak_worker_mb"] = round(_in_mb(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss), 1)
        if device.startswith("cuda"):
            usage["gpu_s"] = round(seconds, 3)
            if cuda := _cuda():
                usage["peak_gpu_memory_mb"] = round(cuda.max_memory_allocated() / 1e6, 1)
        return usage


def sum_usage(runs: Iterable[Mapping[str, Any]]) -> Usage:
    """Return the usage of several pieces of work together: the sums of times and bytes, the maximum of memory."""
    total: Usage = {}
    for run in runs:
        for name in ("seconds", "cpu_s", "gpu_s", "bytes_read", "bytes_written", *LARGEST):
            if name in run:
                both = (total.get(name, 0), run[name])
                total[name] = max(both) if name in LARGEST else round(sum(both), 3)
    return total


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process since it was last reset."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return _in_mb(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _in_mb(resident: int) -> float:
    """Convert `ru_maxrss` to MB: it counts bytes on macOS, kibibytes elsewhere."""
    return resident / 1e6 if sys.platform == "darwin" else resident * 1024 / 1e6


def _cuda() -> Any:
    """Return torch.cuda where the work already uses it, else None; this must not import torch."""
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    return cuda if cuda is not None and cuda.is_initialized() else None


def available_memory_mb() -> float | None:
    """Return the memory that this process could take: that of the machine, or what its container or job has left.

    Cached pages of files count as free: the system gives them up when memory is asked for.
    """
    free: list[float] = []
    with suppress(OSError, ValueError, StopIteration):
        free.append(_number_after("MemAvailable", Path("/proc/meminfo")) * 1024 / 1e6)
    with suppress(OSError):
        free += free_in_groups_mb(Path("/proc/self/cgroup").read_text(encoding="utf-8"), CGROUP)
    return min(free, default=None)


def free_in_groups_mb(groups: str, root: Path) -> list[float]:
    """Return the memory that is left in every control group (version 2) around a process, where that is limited.

    `groups` is what the system says of the process: a line "0::/system.slice/job_17" for a folder below `root`.
    """
    own = next((line[3:] for line in groups.splitlines() if line.startswith("0::")), "")
    folders = [root]
    for part in own.split("/"):
        folders += [folders[-1] / part] if part not in ("", "..") else []
    free: list[float] = []
    for folder in folders:
        with suppress(OSError, ValueError, StopIteration):  # "max" is no limit
            limit, used = (
                int((folder / file).read_text(encoding="ascii")) for file in ("memory.max", "memory.current")
            )
            free.append((limit - used + _number_after("inactive_file", folder / "memory.stat")) / 1e6)
    return free


def _number_after(name: str, file: Path) -> int:
    lines = file.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
