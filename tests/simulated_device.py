"""simulated_device: code that trains on a GPU in; the same numbers from the CPU, and what would have waited out.

Tensors "on the device" are wrappers around tensors on the CPU. torch sees them on its device `meta`, which has no
memory of its own, so that the code under test takes the paths of a GPU. As on a GPU, operations on tensors of both
devices fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_map

DEVICE = torch.device("meta")
aten = torch.ops.aten
WAITING = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.bincount.default,
    aten.repeat_interleave.Tensor,
    aten._unique2.default,
    aten._linalg_svd.default,
    aten._linalg_eigh.default,
}
"""Operations after which a GPU must tell this process a value, or the shape of a result."""
BY_MASK = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._unsafe_index_put.default}
"""Operations that look for the places of a mask where they get one, and copy places that are given on the CPU."""
COPIES = {aten._to_copy.default, aten.copy_.default}


class OnDevice(Tensor):
    """A tensor that claims to be on the simulated device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        wrapper: OnDevice = Tensor._make_wrapper_subclass(
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=DEVICE
        )
        wrapper.inner = inner
        return wrapper

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of `simulated`")


class _Simulation(TorchDispatchMode):
    def __init__(self, waits: list[str]) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [value for value in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        wrapped = [value for value in given if isinstance(value, OnDevice)]
        target = kwargs.get("device")
        goes_there = target is not None and torch.device(target).type == DEVICE.type
        if not wrapped and not goes_there:
            return func(*args, **kwargs)
        self._note_wait(func, args, kwargs, wrapped, given)
        if goes_there:
            kwargs["device"] = torch.device("cpu")
        comes_back = target is not None and not goes_there
        out = func(*tree_map(_unwrap, args), **tree_map(_unwrap, kwargs))
        if comes_back:
            return out.clone() if any(out is value.inner for value in wrapped) else out
        return (
            return_and_correct_aliasing(func, args, kwargs, tree_map(_wrap, out)) if wrapped else tree_map(_wrap, out)
        )

    def _note_wait(self, func: Any, args: Any, kwargs: Any, wrapped: list[OnDevice], given: list[Tensor]) -> None:
        asynchronous = kwargs.get("non_blocking", False) or (func is aten.copy_.default and len(args) > 2 and args[2])
        other = [value for value in given if not isinstance(value, OnDevice)]
        crosses = func in COPIES and (bool(other) or torch.device(kwargs.get("device", DEVICE)).type != DEVICE.type)
        looks_up = func in BY_MASK and any(
            index is not None and (index.dtype in (torch.bool, torch.uint8) or not isinstance(index, OnDevice))
            for index in args[1]
        )
        if func in WAITING or looks_up or (crosses and not asynchronous):
            self.waits.append(str(func))
        elif not crosses:
            many = [tuple(value.shape) for value in other if value.ndim]
            assert not many, f"{func} gets tensors of the CPU, of shapes {many}, and of the device"


def _unwrap(value: Any) -> Any:
    return value.inner if isinstance(value, OnDevice) else value


def _wrap(value: Any) -> Any:
    return OnDevice(value) if isinstance(value, Tensor) and not isinstance(value, OnDevice) else value


@contextmanager
def simulated() -> Iterator[list[str]]:
    """Simulate the device `DEVICE`, in threads too; yield the list of operations that would have waited for a GPU."""
    waits: list[str] = []
    submit = ThreadPoolExecutor.submit

    def submit_simulated(pool: ThreadPoolExecutor, work: Any, *args: Any, **kwargs: Any) -> Any:
        def simulating() -> Any:
            with _Simulation(waits):
                return work(*args, **kwargs)

        return submit(pool, simulating)

    with (
        patch.object(torch, "inference_mode", torch.no_grad),  # in that mode, torch gives results another class
        patch.object(ThreadPoolExecutor, "submit", submit_simulated),
        _Simulation(waits),
    ):
        yield waits
