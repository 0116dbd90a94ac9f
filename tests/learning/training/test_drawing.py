"""Views that are drawn ahead, several steps at once or in a thread, have the bits of those drawn in their step."""

import threading
from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from cellssl.learning.training.drawing import STEPS_AT_ONCE, branch_keys, drawn_steps, with_drawn_views
from cellssl.learning.training.loop import Plan, train, train_step
from cellssl.learning.training.readers import Batch, ahead
from cellssl.learning.view import View, ViewSettings, draw_views, render_all
from cellssl.randomness import Keys, cell_keys, generator

BRANCHES = {"centre": {}, "context": {"weight": 0.4}}
CPU = torch.device("cpu")
JITTER = {"name": "color_jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.5, "p": 0.9}


def crops_and_cells(plan: Plan, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    rows = plan.batches.rows(step)
    return plan.read(rows), plan.cell_keys[torch.from_numpy(rows)]


@pytest.mark.parametrize("in_background", [False, True])
def test_views_drawn_ahead_are_those_drawn_in_the_step(training: Any, in_background: bool) -> None:
    _, plan = training(BRANCHES, epochs=6)
    first = 2
    assert plan.steps > first + 2 * STEPS_AT_ONCE and (plan.steps - first) % STEPS_AT_ONCE
    wanted = range(first, plan.steps)
    steps = list(drawn_steps(plan.drawer, plan.cells_of, wanted, (3, 16, 16), in_background=in_background))
    assert len(steps) == len(wanted)
    for step, views in enumerate(steps, start=first):
        crops, cells = crops_and_cells(plan, step)
        for branch, drawn in zip(plan.branches, views, strict=True):
            now = render_all(branch.views, crops, branch_keys(plan.seed, branch.name, cells, step), plan.side_px)
            assert all(torch.equal(*pair) for pair in zip(drawn.render(crops), now, strict=True))


def test_a_training_that_draws_ahead_has_the_weights_of_one_that_draws_in_each_step(training: Any) -> None:
    (ahead, other_plan), (alone, plan) = training(BRANCHES, epochs=4), training(BRANCHES, epochs=4)
    for done in train(ahead, other_plan):
        assert done.metrics == train_step(alone, plan, *crops_and_cells(plan, alone.step))
    ours, theirs = ahead.encoder.state_dict(), alone.encoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_every_batch_comes_with_its_own_views(training: Any) -> None:
    _, plan = training(BRANCHES)
    batches = [Batch(plan.batches.rows(step), crops_and_cells(plan, step)[0]) for step in range(plan.steps)]
    seen = list(with_drawn_views(plan.drawer, plan.cells_of, range(plan.steps), iter(batches)))
    assert [batch.crops.data_ptr() for batch, _ in seen] == [batch.crops.data_ptr() for batch in batches]
    (last,) = plan.drawer.draw([(plan.steps - 1, plan.cells_of(plan.steps - 1))], (3, 16, 16))
    batch, views = seen[-1]
    assert torch.equal(views[1].render(batch.crops)[0], last[1].render(batch.crops)[0])


def mixed_views() -> tuple[View, ...]:
    """Return views of two sizes, some of which share their transforms, and one that shares draws of the first view."""
    turned, jittered = (
        TypeAdapter(ViewSettings).validate_python(each) for each in (({"name": "rotate"}, JITTER), (JITTER, "invert"))
    )
    shared = View(turned, as_first=frozenset({"color_jitter"}))
    return (View(turned), View(turned), shared, View(jittered), *[View(jittered, side=0.5)] * 2, View())


def test_batches_of_different_sizes_that_are_drawn_together_do_not_affect_each_other() -> None:
    crops = torch.from_numpy(generator("test", "crops").integers(0, 256, (9, 3, 24, 24), dtype="uint8"))
    keys = [Keys(torch.from_numpy(cell_keys(f"{count} {i}" for i in range(count)))) for count in (9, 0, 4)]
    for drawn, own in zip(draw_views(mixed_views(), keys, (3, 24, 24), 16, CPU), keys, strict=True):
        together, alone = drawn.render(crops[: len(own)]), render_all(mixed_views(), crops[: len(own)], own, 16)
        assert [piece.shape[-1] for piece in together] == [16, 8, 16]
        assert all(torch.equal(*pair) for pair in zip(together, alone, strict=True))


def test_views_that_are_drawn_together_are_those_of_each_view_by_itself() -> None:
    crops = torch.from_numpy(generator("test", "crops").integers(0, 256, (30, 3, 24, 24), dtype="uint8"))
    keys = Keys(torch.from_numpy(cell_keys(f"cell {i}" for i in range(30))))
    together = [view for piece in render_all(mixed_views(), crops, keys, 16) for view in piece]
    for number, view in enumerate(mixed_views()):
        own, first = keys.fold(f"view{number}"), keys.fold("view0")
        assert torch.equal(together[number], view.render(crops, own, round(16 * view.side), first=first))


def test_each_call_runs_while_the_result_before_is_used() -> None:
    started = [threading.Event() for _ in range(4)]

    def call(number: int) -> int:
        started[number].set()
        return number

    results = ahead(map(call, range(4)), "test")
    for number, following in pairwise(range(4)):
        assert next(results) == number
        assert started[following].wait(timeout=10)
    assert list(results) == [3]
