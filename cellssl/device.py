"""device: a wish ("auto", "cuda", "bfloat16") in, the device and precision that this machine has out."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Literal

import torch

from cellssl.errors import UsageError
from cellssl.rank import Rank

Precision = Literal["auto", "float32", "bfloat16"]


def device_for(wish: str, seat: Rank = Rank()) -> torch.device:  # noqa: B008 - a frozen value
    """`auto` takes a GPU where there is one; a GPU asked for and missing is an error, never a fallback.

    Of several processes each takes a GPU of its own, in the order of their seats.
    """
    if wish == "auto":
        wish = "cuda" if torch.cuda.is_available() else "cpu"
    if wish == "cuda" and seat.count > 1:
        wish = f"cuda:{seat.on_this_machine}"
    try:
        device = torch.device(wish)
    except RuntimeError as error:
        raise UsageError(f"there is no device {wish!r}", hint="use auto, cpu, cuda or cuda:0") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"the GPU {wish!r} was asked for, but this machine shows {torch.cuda.device_count()}",
            hint="check nvidia-smi and that torch was built for CUDA, or use --device auto",
        )
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"devices of type {device.type!r} are not supported", hint="use auto, cpu or cuda")
    return device


def dtype_for(precision: Precision, device: torch.device) -> torch.dtype:
    """bfloat16 where the device has instructions for it, or where it is asked for; else float32."""
    if precision == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """The context in which convolutions run in `dtype`."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, check)() for check in checks if hasattr(torch.cpu, check))
