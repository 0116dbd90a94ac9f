"""device: a device and precision by name ("auto", "cuda", "bfloat16") in, those of this machine out; also its cores.

torch is imported inside the functions, so that importing this module is light.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cellssl.errors import UsageError
from cellssl.rank import Rank

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Precision = Literal["auto", "float32", "bfloat16"]


def device_for(name: str, rank: Rank = Rank()) -> torch.device:  # noqa: B008 - a frozen value
    """Return the device of this name; `auto` is a GPU where there is one, else the CPU.

    With several processes, each takes a GPU of its own, in the order of their local ranks. Raises UsageError for a GPU
    that this machine does not have (never a silent fallback to the CPU), and for names that are not known.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and rank.count > 1:
        name = f"cuda:{rank.local_rank}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"there is no device {name!r}", hint="use auto, cpu, cuda or cuda:0") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"the GPU {name!r} was asked for, but this machine shows {torch.cuda.device_count()}",
            hint="check nvidia-smi and that torch was built for CUDA, or use --device auto",
        )
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"devices of type {device.type!r} are not supported", hint="use auto, cpu or cuda")
    return device


def has_gpu_driver() -> bool:
    """Return whether this machine has a driver of a GPU (of NVIDIA or AMD); torch is not loaded for that."""
    return Path("/dev/kfd").exists() or any(Path("/dev").glob("nvidia[0-9]*"))


def dtype_for(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the dtype of a precision; `auto` is bfloat16 where the device has instructions for it, else float32."""
    import torch

    if precision == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Return the context in which convolutions run in `dtype`."""
    import torch

    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy values from the CPU to a device; neither waits for what the device still has to do.

    A GPU reads pinned memory by itself; other memory is copied while this process waits.
    """
    if values.device == device:
        return values
    pinned = values.pin_memory() if device.type == "cuda" and values.device.type == "cpu" else values
    return pinned.to(device, non_blocking=True)


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device has instructions for bfloat16, so that it multiplies it faster than float32."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, check)() for check in checks if hasattr(torch.cpu, check))


_granted: int | None = None
"""The cores that the work of this process was granted, where several processes share the machine."""


@contextlib.contextmanager
def granted_cores(count: int | None) -> Iterator[None]:
    """Let this process use `count` cores inside this context; None changes nothing."""
    global _granted  # noqa: PLW0603 - one process does one piece of work, on many threads
    before = _granted
    _granted = count or before
    try:
        yield
    finally:
        _granted = before


def allowed_cores() -> int:
    """Return how many cores this work may use: those that it was granted, else those of the process."""
    return _granted or cores_of_process()


@cache
def cores_of_process() -> int:
    """Return how many cores this process may use by its affinity, the quota of its container, and its SLURM task."""
    import joblib

    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(joblib.cpu_count(), int(granted)) if granted.isdecimal() and int(granted) else int(joblib.cpu_count())


def allowed_threads() -> int:
    """Return how many threads a library may start: granted cores, else OMP_NUM_THREADS where the user has set it.

    Where neither is given it is `allowed_cores`. Raises UsageError where OMP_NUM_THREADS is not a number of threads.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # "4,2" is for nested loops
    if not wanted or _granted:
        return allowed_cores()
    if not (wanted.isdecimal() and int(wanted)):
        raise UsageError(f"OMP_NUM_THREADS = {wanted!r} is not a number of threads", hint="set it to 1 or more")
    return int(wanted)
