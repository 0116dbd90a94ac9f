"""view: crops and one key a cell in, what the model is shown of them out; an ordered list of transforms.

Parameters depend on the key alone, so a cell looks the same in any batch, on any device, with any number of threads.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from threading import Barrier
from typing import TYPE_CHECKING, Annotated

from cellssl.learning.transform import Drawn, Geometric, Photometric
from cellssl.settings import OfRoom, Part

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, UInt8
    from torch import Tensor

    from cellssl.learning.warp import Warp
    from cellssl.randomness import Keys

ViewSettings = tuple[Annotated[Part, OfRoom("cellssl.learning.views")], ...]

CHUNK_BYTES = 1_000_000
"""Float pixels that a thread works on at a time: about a second-level cache."""


@dataclass(frozen=True)
class View:
    """An ordered list of transforms; geometric ones that follow each other resample the crop once."""

    transforms: tuple[Part, ...] = ()

    def render(
        self, crops: UInt8[Tensor, "n c y x"] | Float[Tensor, "n c y x"], keys: Keys, side: int
    ) -> Float32[Tensor, "n c side side"]:
        """The view of every crop, in [0, 1] and `side` px wide, on the device of the crops.

        The resize at the end is part of the last resampling. Crops are bytes, or floats in [0, 1]; they are square.
        """
        import torch

        steps = self.steps(keys, crops.shape[1], crops.shape[-1], side)
        with torch.no_grad():
            return _in_chunks(steps, crops, side) if crops.device.type == "cpu" else _through(steps, crops)

    def steps(self, keys: Keys, channels: int, side_in: int, side_out: int) -> list[Step]:
        """What is done to the crops, with all parameters drawn."""
        from cellssl.learning.warp import Warp

        seen: Counter[str] = Counter()
        steps: list[Step] = []
        side = side_in
        for transform in self.transforms:
            name = transform.part_name()
            own = keys.fold(name, seen[name])
            seen[name] += 1
            if isinstance(transform, Photometric):
                steps.append(Look(transform, transform.draw(own, channels)))
            elif isinstance(transform, Geometric):
                _add(steps, Warp.of(transform, own, side))
                side = transform.out_side(side)
        _add(steps, Warp.resize(len(keys), side, side_out))
        return [step for step in steps if isinstance(step, Look) or not step.changes_nothing()]


@dataclass(frozen=True)
class Look:
    """A photometric transform with its drawn parameters."""

    transform: Photometric
    drawn: Drawn

    def rows(self, rows: slice) -> Look:
        """The same for some of the cells."""
        return replace(self, drawn={name: values[rows] for name, values in self.drawn.items()})

    def apply(self, crops: UInt8[Tensor, "n c y x"] | Float[Tensor, "n c y x"]) -> Float32[Tensor, "n c y x"]:
        """The crops with their new looks."""
        from cellssl.learning.warp import as_float

        return self.transform.apply(as_float(crops), self.drawn)


if TYPE_CHECKING:
    Step = Warp | Look


def _add(steps: list[Step], warp: Warp) -> None:
    """One more warp behind the steps, joined with the last one where both are warps that can be one."""
    joined = None if not steps or isinstance(steps[-1], Look) else steps[-1].then(warp)
    if joined is None:
        steps.append(warp)
    else:
        steps[-1] = joined


def _through(steps: list[Step], crops: Tensor) -> Tensor:
    from cellssl.learning.warp import as_float

    for step in steps:
        crops = step.apply(crops)
    return as_float(crops)


def _in_chunks(steps: list[Step], crops: Tensor, side: int) -> Tensor:
    """A few cells at a time, so that a chunk stays in the cache, and on all cores."""
    import torch

    out = torch.empty(len(crops), crops.shape[1], side, side)
    cells = max(1, CHUNK_BYTES // (4 * crops.shape[1] * max(side, crops.shape[-1]) ** 2))
    chunks = [slice(start, start + cells) for start in range(0, len(crops), cells)]

    def render(rows: slice) -> None:
        out[rows] = _through([step.rows(rows) for step in steps], crops[rows])

    list(_threads(torch.get_num_threads()).map(render, chunks))
    return out


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    """Threads on which torch uses one core each.

    Whole chunks side by side need no barrier after every small operation, and the pixels do not depend on the
    number of cores.
    """
    import torch

    started = Barrier(count + 1)
    pool = ThreadPoolExecutor(count, "view")
    for _ in range(count):
        pool.submit(_stay_on_one_core, started)
    started.wait()
    torch.set_num_threads(count)  # what other threads start with
    return pool


def _stay_on_one_core(started: Barrier) -> None:
    import torch

    torch.set_num_threads(1)  # of this thread, and what threads start with
    torch.get_num_threads()  # starts: later changes of what threads start with no longer matter here
    started.wait()
