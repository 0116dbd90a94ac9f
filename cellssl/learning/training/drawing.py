"""drawing: the steps of a training in, the drawn views of every branch out, step by step, before they are needed.

The parameters of views depend on the names of cells and the number of the step, not on pixels or weights. So those of
several steps are drawn in one go, which takes little longer than for one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellssl.learning.training.readers import ahead
from cellssl.learning.view import DrawnViews, View, draw_views
from cellssl.randomness import Keys

if TYPE_CHECKING:
    import torch
    from jaxtyping import Int64
    from torch import Tensor

    from cellssl.learning.training.distributed import Group
    from cellssl.learning.training.readers import Batch

    BranchViews = tuple[DrawnViews, ...]
    """The views of one step, in the order of the branches."""

STEPS_AT_ONCE = 8
"""Steps whose views are drawn in one go. For the demo on a CPU, drawing takes 3.1 ms per step for one step at a time,
0.9 ms for 8 steps, and 0.7 ms for 16."""


def branch_keys(seed: int, branch: str, cells: Int64[Tensor, "b"], when: int | str) -> Keys:
    """Return the random keys of a batch for one branch; `when` is the step, or "validation"."""
    return Keys(cells).fold(seed, when, branch)


@dataclass(frozen=True)
class ViewDrawer:
    """All that the views of a training depend on, besides cells and steps."""

    views: Mapping[str, tuple[View, ...]]
    """By branch."""
    seed: int
    side_px: int
    device: torch.device
    group: Group

    def draw(
        self, batches: Sequence[tuple[int | str, Int64[Tensor, "b"]]], crop_shape: tuple[int, ...]
    ) -> list[BranchViews]:
        """Draw the views of all branches for some batches, each given as `when` and the keys of its cells.

        They are the views of this process' share of each batch. `crop_shape` is (channels, y, x).
        """
        by_branch = []
        for branch, views in self.views.items():
            keys = [branch_keys(self.seed, branch, cells, when) for when, cells in batches]
            own = [Keys(self.group.share(each.values)) for each in keys]
            by_branch.append(draw_views(views, own, crop_shape, self.side_px, self.device))
        return list(zip(*by_branch, strict=True))


def drawn_steps(
    drawer: ViewDrawer,
    cells_of: Callable[[int], Int64[Tensor, "b"]],
    steps: range,
    crop_shape: tuple[int, ...],
    *,
    in_background: bool,
) -> Iterator[BranchViews]:
    """Yield the views of every step; `cells_of` returns the keys of the cells of a step.

    With `in_background` a thread draws those of the next steps in the meantime. That serves a GPU, which waits for
    whoever draws; on a CPU the thread would take turns with the network.
    """

    def draw(some: range) -> list[BranchViews]:
        return drawer.draw([(step, cells_of(step)) for step in some], crop_shape)

    drawn = map(draw, (steps[begin : begin + STEPS_AT_ONCE] for begin in range(0, len(steps), STEPS_AT_ONCE)))
    for views in ahead(drawn, "draw") if in_background else drawn:
        yield from views


def with_drawn_views(
    drawer: ViewDrawer,
    cells_of: Callable[[int], Int64[Tensor, "b"]],
    steps: range,
    batches: Iterator[Batch],
) -> Iterator[tuple[Batch, BranchViews]]:
    """Yield the batch of every step together with its drawn views."""
    views: Iterator[BranchViews] | None = None
    for batch in batches:
        if views is None:  # the size of the crops is known now
            in_background = drawer.device.type != "cpu"
            views = drawn_steps(drawer, cells_of, steps, tuple(batch.crops.shape[1:]), in_background=in_background)
        yield batch, next(views)
