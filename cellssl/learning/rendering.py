"""rendering: steps with drawn parameters and crops in, the pixels of views out; in chunks, on all cores of a CPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from threading import Barrier
from typing import TYPE_CHECKING

from cellssl.device import allowed_threads, to_device
from cellssl.learning.transform import Drawn, Standalone, as_float

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from jaxtyping import Float, Float32, Int64, UInt8
    from torch import Tensor

    from cellssl.learning.warp import Resampling, Warp

CHUNK_BYTES = 2_000_000
"""Bytes of float pixels that a thread of a CPU works on at a time: 36 crops of 68 px or 4 of 196 px, of three channels.
Fewer would fit into a second-level cache, but then Python would take longer between the calls of torch than torch."""
GPU_CHUNK_BYTES = 250_000_000
"""The same on a GPU, where it limits the memory."""


@dataclass(frozen=True)
class ViewStep:
    """A standalone transform with its drawn parameters."""

    transform: Standalone
    drawn: Drawn

    def ready(self, device: torch.device) -> ViewStep:
        """Return itself: parameters move to the device when they are used, because Python reads some of them before."""
        return self

    def of_cells(self, cells: slice | Int64[Tensor, "n"]) -> ViewStep:
        """Return the same step for some of the cells."""
        return replace(self, drawn={name: values[cells] for name, values in self.drawn.items()})

    def alike(self) -> Int64[Tensor, "n"] | None:
        """Return equal numbers for cells that a CPU changes in one go, where that makes a difference to the speed."""
        return self.transform.alike(self.drawn)

    def apply(self, crops: UInt8[Tensor, "n c y x"] | Float[Tensor, "n c y x"]) -> Float32[Tensor, "n c y x"]:
        """Return the changed crops; the given crops stay as they are."""
        if crops.is_floating_point():
            return self.transform.apply(crops, self.drawn)
        return self.change(as_float(crops))

    def change(self, crops: Float32[Tensor, "n c y x"]) -> Float32[Tensor, "n c y x"]:
        """Return the changed crops; the given crops may be overwritten."""
        return self.transform.change(crops, self.drawn)


if TYPE_CHECKING:
    Step = Warp | ViewStep
    Ready = Resampling | ViewStep


@dataclass(frozen=True)
class Rendering:
    """What is done to some crops, once or several times; all that does not depend on pixels is computed."""

    steps: list[Ready]
    """In the order in which the results are computed."""
    order: Int64[Tensor, "n"] | None
    """The place of each of them among the results. None where they are computed in the order of their places."""

    @classmethod
    def of(cls, steps: Sequence[Step], sizes: Sequence[int], device: torch.device) -> list[Rendering]:
        """Return one rendering per batch; the steps hold the results of all batches, of `sizes` results each.

        On a CPU, results that can be computed in one go become neighbours within their batch.
        """
        ready = [step.ready(device) for step in steps]
        order = _order_of_work(steps, sizes) if device.type == "cpu" else None
        if order is not None:
            ready = [step.of_cells(order) for step in ready]
        renderings, begin = [], 0
        for size in sizes:
            own = slice(begin, begin + size)
            renderings.append(
                cls([step.of_cells(own) for step in ready], None if order is None else order[own] - begin)
            )
            begin += size
        return renderings

    def render(
        self, crops: UInt8[Tensor, "n c y x"] | Float[Tensor, "n c y x"], out: Float32[Tensor, "results c side side"]
    ) -> None:
        """Write the results into `out`; result i is of crop i % n."""
        if not len(crops):  # the last batch may be so small that this process has no share in it
            return
        on_cpu = crops.device.type == "cpu"
        pixels = crops.shape[1] * max(out.shape[-1], crops.shape[-1]) ** 2
        size = max(1, (CHUNK_BYTES if on_cpu else GPU_CHUNK_BYTES) // (4 * pixels))
        chunks = self._chunks(crops, out, size)
        if on_cpu:
            _work_on_all_cores(chunks)
            return
        for chunk in chunks:
            chunk.render()

    def _chunks(self, crops: Tensor, out: Tensor, size: int) -> list[Chunk]:
        """Cut the work into chunks of so many results.

        That is done here and not in the threads: every call of torch in a thread makes the others wait for Python's
        lock.
        """
        import torch

        rows = None
        if self.order is not None or len(out) > len(crops):
            numbers = torch.arange(len(out)) if self.order is None else self.order
            rows = to_device(numbers % len(crops), crops.device)
        results = out.unbind(0)
        places = None if self.order is None else [results[place] for place in self.order.tolist()]
        chunks = []
        for begin in range(0, len(out), size):
            cells = slice(begin, begin + size)
            chunks.append(
                Chunk(
                    [step.of_cells(cells) for step in self.steps],
                    crops[cells] if rows is None else crops,
                    None if rows is None else rows[cells],
                    out[cells] if places is None else places[cells],
                )
            )
        return chunks


@dataclass(frozen=True)
class Chunk:
    """Some of the results of a rendering."""

    steps: list[Ready]
    crops: UInt8[Tensor, "m c y x"] | Float[Tensor, "m c y x"]
    rows: Int64[Tensor, "n"] | None
    """Which crop each result is of; None where result i is of crop i."""
    out: Float32[Tensor, "n c side side"] | list[Float32[Tensor, "c side side"]]
    """Where the results are written; a list where they do not lie beside each other."""

    def render(self) -> None:
        """Compute the results and write them."""
        import torch

        with torch.inference_mode():  # set per thread; a call of torch takes less time than with no_grad
            crops = self.crops if self.rows is None else self.crops.index_select(0, self.rows)
            results = _apply_steps(self.steps, crops)
            if isinstance(self.out, list):
                torch._foreach_copy_(self.out, results.unbind(0))
            else:
                self.out.copy_(results)


def _apply_steps(steps: list[Ready], crops: Tensor) -> Tensor:
    """Apply all steps; only the first must not overwrite its input."""
    out = steps[0].apply(crops) if steps else as_float(crops)
    for step in steps[1:]:
        out = step.change(out) if isinstance(step, ViewStep) else step.apply(out)
    return out


def _order_of_work(steps: Sequence[Step], sizes: Sequence[int]) -> Int64[Tensor, "n"] | None:
    """Return all results sorted by batch, then by what is done in one go; None where that makes no difference."""
    import torch

    found = (step.alike() for step in steps if isinstance(step, ViewStep))
    alike = next((numbers for numbers in found if numbers is not None), None)
    if alike is None:
        return None
    order = alike.argsort(stable=True)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return order[batch[order].argsort(stable=True)]


def _work_on_all_cores(chunks: list[Chunk]) -> None:
    import torch

    waiting = iter(chunks)

    def work() -> None:
        for chunk in waiting:  # the next free thread takes the next chunk
            chunk.render()

    threads = allowed_threads()  # within a training those of its network; no pixel depends on it
    if threads == 1 and torch.get_num_threads() == 1:  # then a thread of its own would only cost time
        work()
        return
    for future in [_thread_pool(threads).submit(work) for _ in range(min(threads, len(chunks)))]:
        future.result()


@cache
def _thread_pool(count: int) -> ThreadPoolExecutor:
    """Return a pool of threads on which torch uses one core each.

    Chunks run in parallel and need no barrier after every small operation, and the pixels do not depend on the number
    of cores.
    """
    import torch

    before, started = torch.get_num_threads(), Barrier(count + 1)
    pool = ThreadPoolExecutor(count, "view")
    for _ in range(count):
        pool.submit(_stay_on_one_core, started)
    started.wait()
    torch.set_num_threads(before)  # the number that other threads start with
    return pool


def _stay_on_one_core(started: Barrier) -> None:
    import torch

    torch.set_num_threads(1)  # for this thread, and the number that new threads start with
    torch.get_num_threads()  # fixes this thread's number: later changes of that start value have no effect here
    started.wait()
