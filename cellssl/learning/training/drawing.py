"""drawing: the steps of a training in, the drawn views of every branch out, step by step, before they are needed.

The parameters of views depend on the names of cells and the number of the step, not on pixels or weights. So those of
several steps are drawn in one go, which takes little longer than for one step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from cellssl.learning.training.readers import ahead
from cellssl.learning.view import DrawnViews, draw_views
from cellssl.randomness import Keys

if TYPE_CHECKING:
    from jaxtyping import Int64, UInt8
    from torch import Tensor

    from cellssl.learning.training.loop import Plan
    from cellssl.learning.training.readers import Rows

    BranchViews = tuple[DrawnViews, ...]
    """The views of one step, in the order of the branches."""

STEPS_AT_ONCE = 8
"""Steps whose views are drawn in one go. For the demo on a CPU, drawing takes 3.1 ms per step for one step at a time,
0.9 ms for 8 steps, and 0.7 ms for 16."""


def branch_keys(plan: Plan, branch: str, cells: Int64[Tensor, "b"], when: int | str) -> Keys:
    """Return the random keys of a batch for one branch; `when` is the step, or "validation"."""
    return Keys(cells).fold(plan.seed, when, branch)


def draw_batches(
    plan: Plan, batches: Sequence[tuple[int | str, Int64[Tensor, "b"]]], crop_shape: tuple[int, ...]
) -> list[BranchViews]:
    """Draw the views of all branches for some batches, each given as `when` and the keys of its cells.

    They are the views of this process' share of each batch.
    """
    by_branch = []
    for branch in plan.branches:
        keys = [branch_keys(plan, branch.name, cells, when) for when, cells in batches]
        own = [Keys(plan.group.share(each.values)) for each in keys]
        by_branch.append(draw_views(branch.views, own, crop_shape, plan.side_px, plan.device))
    return list(zip(*by_branch, strict=True))


def drawn_steps(plan: Plan, first: int, crop_shape: tuple[int, ...], *, in_background: bool) -> Iterator[BranchViews]:
    """Yield the views of every step from `first` on.

    With `in_background` a thread draws those of the next steps in the meantime. That serves a GPU, which waits for
    whoever draws; on a CPU the thread would take turns with the network.
    """

    def draw(steps: range) -> list[BranchViews]:
        rows = {step: torch.from_numpy(plan.batches.rows(step)) for step in steps}
        return draw_batches(plan, [(step, plan.cell_keys[rows[step]]) for step in steps], crop_shape)

    blocks = (range(begin, min(begin + STEPS_AT_ONCE, plan.steps)) for begin in range(first, plan.steps, STEPS_AT_ONCE))
    drawn = map(draw, blocks)
    for views in ahead(drawn, "draw") if in_background else drawn:
        yield from views


def with_drawn_views(
    plan: Plan, batches: Iterator[tuple[Rows, UInt8[Tensor, "own c y x"]]], first: int
) -> Iterator[tuple[Rows, UInt8[Tensor, "own c y x"], BranchViews]]:
    """Yield the rows and crops of every step from `first` on, together with their drawn views."""
    views: Iterator[BranchViews] | None = None
    for rows, crops in batches:
        if views is None:  # the size of the crops is known now
            views = drawn_steps(plan, first, tuple(crops.shape[1:]), in_background=plan.device.type != "cpu")
        yield rows, crops, next(views)
