"""view: crops and one key per cell in, the views that a model gets out; a view is an ordered list of transforms.

Parameters depend on the key alone, so a cell looks the same in any batch, on any device, with any number of threads.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from threading import Barrier
from typing import TYPE_CHECKING, Annotated

from cellssl.config.settings import Plugin, PluginField
from cellssl.device import allowed_threads
from cellssl.learning.transform import Drawn, Geometric, Standalone, as_float

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from jaxtyping import Bool, Float, Float32, UInt8
    from torch import Tensor

    from cellssl.learning.warp import Resampling, Warp
    from cellssl.randomness import Keys

ViewSettings = tuple[Annotated[Plugin, PluginField("cellssl.learning.transforms")], ...]

CHUNK_BYTES = 4_000_000
"""Bytes of float pixels that a thread works on at a time: eight crops of 196 px and three channels. A single crop would
fit into a second-level cache, but then the threads would lose more time by waiting for each other."""


@dataclass(frozen=True)
class View:
    """An ordered list of transforms; consecutive geometric transforms resample the crop once."""

    transforms: tuple[Plugin, ...] = ()
    side: float = 1.0
    """Side of the view, as a share of the side of the other views."""
    as_first: frozenset[str] = frozenset()
    """Names of transforms whose parameters are those of the first view of the same cell."""

    def render(
        self,
        crops: UInt8[Tensor, "n c y x"] | Float[Tensor, "n c y x"],
        keys: Keys,
        side: int,
        out: Float32[Tensor, "n c side side"] | None = None,
        first: Keys | None = None,
    ) -> Float32[Tensor, "n c side side"]:
        """Return the view of every crop, in [0, 1] and `side` px wide, on the device of the crops.

        The resize at the end is part of the last resampling. Crops are bytes, or floats in [0, 1]; they are square.
        Where `out` is given the views are written there: into a part of a larger batch, or with channels last. `first`
        are the keys of the first view, for the transforms in `as_first`.
        """
        import torch

        if out is None:
            out = torch.empty(len(crops), crops.shape[1], side, side, device=crops.device)
        if not len(crops):  # the last batch may be so small that this process has no share in it
            return out
        steps = self.steps(keys, crops.shape[1], crops.shape[-1], side, first)
        with torch.no_grad():
            ready = [step.ready(crops.device) for step in steps]
            if crops.device.type == "cpu":
                _render_in_chunks(ready, crops, out)
            else:
                out.copy_(_apply_steps(ready, crops))
        return out

    def steps(self, keys: Keys, channels: int, side_in: int, side_out: int, first: Keys | None = None) -> list[Step]:
        """Return what is done to the crops, with all parameters drawn."""
        from cellssl.learning.warp import Warp, append

        steps: list[Step] = []
        side = side_in
        for _, step in self._drawn(keys, channels, side_in, first):
            if isinstance(step, Warp):
                append(steps, step)
                side = step.side_out
            else:
                steps.append(step)
        append(steps, Warp.resize(len(keys), side, side_out))
        return [step for step in steps if isinstance(step, ViewStep) or not step.changes_nothing()]

    def steps_of(self, name: str, keys: Keys, channels: int, side: int, first: Keys | None = None) -> list[Step]:
        """Return what the transforms of one name do, each by itself."""
        return [step for found, step in self._drawn(keys, channels, side, first) if found == name]

    def _drawn(self, keys: Keys, channels: int, side: int, first: Keys | None) -> Iterator[tuple[str, Step]]:
        """Yield every transform by name, with its parameters drawn for the size of its input."""
        from cellssl.learning.warp import Warp

        count: Counter[str] = Counter()
        for transform in self.transforms:
            name = transform.plugin_name()
            own = (first if first is not None and name in self.as_first else keys).fold(name, count[name])
            count[name] += 1
            if isinstance(transform, Standalone):
                yield name, ViewStep(transform, transform.draw(own, channels))
            elif isinstance(transform, Geometric):
                yield name, Warp.of(transform, own, side)
                side = transform.out_side(side)


def render_all(
    views: tuple[View, ...], crops: UInt8[Tensor, "n c y x"], keys: Keys, side: int
) -> list[Float32[Tensor, "v n c side side"]]:
    """Return every view of every crop; consecutive views of one size are in one tensor.

    The memory format is channels last, as convolutions need it, so nothing is copied later.
    """
    import torch

    view_keys = [keys.fold(f"view{i}") for i in range(len(views))]
    pieces = []
    for share, numbers in groupby(range(len(views)), lambda i: views[i].side):
        own, px = list(numbers), round(side * share)
        shape = (len(own) * len(crops), crops.shape[1], px, px)
        piece: Tensor = torch.empty(shape, device=crops.device, memory_format=torch.channels_last)
        piece = piece.view(len(own), len(crops), *shape[1:])
        for position, i in enumerate(own):
            views[i].render(crops, view_keys[i], px, out=piece[position], first=view_keys[0])
        pieces.append(piece)
    return pieces


def same_draws(
    views: tuple[View, ...], number: int, name: str, keys: Keys, channels: int, side: int
) -> Bool[Tensor, "n"]:
    """Return the cells on which the transform `name` does the same in view `number` as in the first view.

    That can be so by design or by chance. `keys` are those that `render_all` gets, `side` is that of the crops in px.
    """
    import torch

    first, own = keys.fold("view0"), keys.fold(f"view{number}")
    theirs = views[0].steps_of(name, first, channels, side)
    ours = views[number].steps_of(name, own, channels, side, first)
    if len(ours) != len(theirs):
        return torch.zeros(len(keys), dtype=torch.bool)
    each = [_same_effect(one, other) for one, other in zip(ours, theirs, strict=True)]
    return torch.stack([torch.ones(len(keys), dtype=torch.bool), *each]).all(dim=0)


def _same_effect(one: Step, other: Step) -> Bool[Tensor, "n"]:
    if isinstance(one, ViewStep) and isinstance(other, ViewStep):
        return one.transform.same_effect(one.drawn, other.drawn)
    same: Tensor = (one.matrix == other.matrix).all(dim=(1, 2))  # type: ignore[union-attr]
    return same


@dataclass(frozen=True)
class ViewStep:
    """A standalone transform with its drawn parameters."""

    transform: Standalone
    drawn: Drawn

    def ready(self, device: torch.device) -> ViewStep:
        """Return itself: parameters move to the device when they are used, because Python reads some of them before."""
        return self

    def of_cells(self, cells: slice) -> ViewStep:
        """Return the same step for some of the cells."""
        return replace(self, drawn={name: values[cells] for name, values in self.drawn.items()})

    def apply(self, crops: UInt8[Tensor, "n c y x"] | Float[Tensor, "n c y x"]) -> Float32[Tensor, "n c y x"]:
        """Return the changed crops; the given crops stay as they are."""
        apply = self.transform.apply if crops.is_floating_point() else self.transform.apply_to_bytes
        return apply(crops, self.drawn)

    def change(self, crops: Float32[Tensor, "n c y x"]) -> Float32[Tensor, "n c y x"]:
        """Return the changed crops; the given crops may be overwritten."""
        return self.transform.change(crops, self.drawn)


if TYPE_CHECKING:
    Step = Warp | ViewStep
    Ready = Resampling | ViewStep


def _apply_steps(steps: list[Ready], crops: Tensor) -> Tensor:
    """Apply all steps; only the first must not overwrite its input."""
    out = steps[0].apply(crops) if steps else as_float(crops)
    for step in steps[1:]:
        out = step.change(out) if isinstance(step, ViewStep) else step.apply(out)
    return out


def _render_in_chunks(steps: list[Ready], crops: Tensor, out: Tensor) -> None:
    """Render a few cells at a time, so that a chunk stays in the cache, and use all cores."""

    size = max(1, CHUNK_BYTES // (4 * crops.shape[1] * max(out.shape[-1], crops.shape[-1]) ** 2))
    slices = [slice(start, start + size) for start in range(0, len(crops), size)]
    # sliced here and not in the threads: every call of torch in a thread makes the others wait for Python's lock
    chunks = iter([([step.of_cells(cells) for step in steps], crops[cells], out[cells]) for cells in slices])

    def work() -> None:
        for own_steps, own_crops, own_out in chunks:  # the next free thread takes the next chunk
            own_out.copy_(_apply_steps(own_steps, own_crops))

    threads = allowed_threads()  # not those of the network: no pixel depends on it
    for future in [_thread_pool(threads).submit(work) for _ in range(threads)]:
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
