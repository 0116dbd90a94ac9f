"""view: crops and one key per cell in, the views that a model gets out; a view is an ordered list of transforms.

Parameters depend on the key alone, so a cell looks the same in any batch, on any device, with any number of threads.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cellssl.config.settings import Plugin, PluginField
from cellssl.learning.rendering import Rendering, ViewStep
from cellssl.learning.transform import Geometric, Standalone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from jaxtyping import Bool, Float, Float32, UInt8
    from torch import Tensor

    from cellssl.learning.rendering import Step
    from cellssl.randomness import Keys

ViewSettings = tuple[Annotated[Plugin, PluginField("cellssl.learning.transforms")], ...]


@dataclass(frozen=True)
class View:
    """An ordered list of transforms; consecutive geometric transforms resample the crop once."""

    transforms: tuple[Plugin, ...] = ()
    side: float = 1.0
    """Side of the view, as a share of the side of the other views."""
    as_first: frozenset[str] = frozenset()
    """Names of transforms whose parameters are those of the first view of the same cell."""
    of_partner: bool = False
    """Whether it is a view of the cell's partner, where the cell has one."""

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
        steps = self.steps(keys, crops.shape[1], crops.shape[-1], side, first)
        (rendering,) = Rendering.of(steps, [len(crops)], crops.device)
        rendering.render(crops, out)
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


@dataclass(frozen=True)
class DrawnViews:
    """All views of a batch of cells, with their parameters drawn: only pixels are missing.

    Parameters depend on keys and sizes alone, so they can be drawn before the crops are read, for several batches at
    once, and in another thread.
    """

    pieces: tuple[DrawnPiece, ...]

    def render(
        self, crops: UInt8[Tensor, "n c y x"], of_partners: UInt8[Tensor, "n c y x"] | None = None
    ) -> list[Float32[Tensor, "v n c side side"]]:
        """Return every view of every crop; consecutive views of one size are in one tensor.

        Views of a partner are made of the crops `of_partners`, where they are given. The memory format is channels
        last, as convolutions need it, so nothing is copied later.
        """
        return [piece.render(crops, crops if of_partners is None else of_partners) for piece in self.pieces]


class DrawnRun(NamedTuple):
    """Consecutive views with the same transforms, with their parameters drawn."""

    views: int
    rendering: Rendering
    """What makes them out of the crops, view by view."""
    of_partner: bool


@dataclass(frozen=True)
class DrawnPiece:
    """Consecutive views of one size, with their parameters drawn."""

    side_px: int
    runs: tuple[DrawnRun, ...]

    def render(
        self, crops: UInt8[Tensor, "n c y x"], of_partners: UInt8[Tensor, "n c y x"]
    ) -> Float32[Tensor, "v n c side side"]:
        """Return every view of every crop, channels last."""
        import torch

        cells, channels = crops.shape[:2]
        views = sum(run.views for run in self.runs)
        shape = (views * cells, channels, self.side_px, self.side_px)
        piece: Tensor = torch.empty(shape, device=crops.device, memory_format=torch.channels_last)
        begin = 0
        for run in self.runs:
            rendered = piece[begin * cells : (begin + run.views) * cells]
            run.rendering.render(of_partners if run.of_partner else crops, rendered)
            begin += run.views
        return piece.view(views, cells, *shape[1:])


def draw_views(
    views: tuple[View, ...], batches: Sequence[Keys], crop_shape: tuple[int, ...], side: int, device: torch.device
) -> list[DrawnViews]:
    """Draw the parameters of all views of several batches, which takes little longer than for one batch.

    `crop_shape` is the shape of a crop (channels, y, x), `side` the side of a view in px, `device` that of the crops.
    Each batch has one key per cell; its draws do not depend on the other batches.
    """
    pieces: list[list[DrawnPiece]] = [[] for _ in batches]
    for share, numbers in groupby(range(len(views)), lambda number: views[number].side):
        side_px = round(side * share)
        runs: list[list[DrawnRun]] = [[] for _ in batches]
        for view, alike in groupby(numbers, lambda number: views[number]):
            own = list(alike)
            keys, first = _view_keys(batches, own), _view_keys(batches, [0] * len(own))
            steps = view.steps(keys, crop_shape[0], crop_shape[-1], side_px, first)
            sizes = [len(own) * len(batch) for batch in batches]
            for found, rendering in zip(runs, Rendering.of(steps, sizes, device), strict=True):
                found.append(DrawnRun(len(own), rendering, view.of_partner))
        for found_pieces, found in zip(pieces, runs, strict=True):
            found_pieces.append(DrawnPiece(side_px, tuple(found)))
    return [DrawnViews(tuple(found)) for found in pieces]


def _view_keys(batches: Sequence[Keys], numbers: list[int]) -> Keys:
    """Return the keys of some views of every batch: batch by batch, within it view by view."""
    import torch

    from cellssl.randomness import Keys

    sizes = [len(batch) for batch in batches]
    cells = Keys(torch.cat([batch.values for batch in batches]))
    by_view = [cells.fold(f"view{number}").values.split(sizes) for number in numbers]
    return Keys(torch.cat([keys for of_batch in zip(*by_view, strict=True) for keys in of_batch]))


def render_all(
    views: tuple[View, ...], crops: UInt8[Tensor, "n c y x"], keys: Keys, side: int
) -> list[Float32[Tensor, "v n c side side"]]:
    """Draw and render every view of every crop; see `DrawnViews.render`."""
    (drawn,) = draw_views(views, [keys], tuple(crops.shape[1:]), side, crops.device)
    return drawn.render(crops)


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
