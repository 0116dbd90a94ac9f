"""The validation loss leaves no trace in the state; its lowest value can end a training."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learning.conftest import MadeUpCrops
from learning.training.test_loop import all_tensors, assert_same_bits
from learning.training.test_state import draft_in, lines

from cellssl.errors import FailedError
from cellssl.events import StepDone
from cellssl.learning.training.loop import Plan, encode_views, train
from cellssl.learning.training.state import BestValidation, TrainState
from cellssl.learning.training.validation import validation_batches, validation_loss
from cellssl.stages.pretrain.networks import crop_reader, keys_of
from cellssl.stages.pretrain.training import Validation, run_training

BRANCHES = {"context": {"weight": 0.4}, "centre": {"weight": 1.0, "mask_same_cell": True, "queue": 9}}
CPU = torch.device("cpu")


def validation_cells(cells: int = 6) -> dict[str, Any]:
    """Return a reader and keys of cells that the training does not see."""
    crops: Any = MadeUpCrops(cells)
    return {"read": crop_reader(crops, CPU), "cell_keys": keys_of([f"other {i}" for i in range(cells)])}


def test_measuring_twice_gives_the_same_loss_and_changes_no_tensor(training: Any) -> None:
    state, plan = training(BRANCHES)
    next(train(state, plan))
    before = all_tensors(state)
    first, second = (validation_loss(state, plan, **validation_cells()) for _ in range(2))
    assert first == second and math.isfinite(first)
    after = all_tensors(state)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_measuring_between_steps_does_not_change_the_training(training: Any) -> None:
    (state, plan), (undisturbed, same) = training(BRANCHES), training(BRANCHES)
    for _ in train(state, plan):
        validation_loss(state, plan, **validation_cells())
    list(train(undisturbed, same))
    assert_same_bits(state, undisturbed)


def test_it_is_the_weighted_sum_of_the_branches_losses_as_training_computes_them(training: Any) -> None:
    """Two batches of 4 for 6 cells, normalised by their own statistics; two cells fill the second batch."""
    state, plan = training(BRANCHES)
    next(train(state, plan))
    given, expected = validation_cells(), 0.0
    measured = validation_loss(state, plan, **given)
    state.train()  # afterwards, because it changes the running statistics
    with torch.no_grad():
        for rows in ([0, 1, 2, 3], [4, 5, 0, 1]):
            crops, cells = given["read"](np.array(rows)), given["cell_keys"][rows]
            for branch in plan.branches:
                seen = encode_views(state, plan, branch, crops, cells, "validation")
                expected += branch.weight * branch.objective(seen)[0].item() / 2
    assert measured == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("cells, size, batches", [(6, 4, 2), (4, 4, 1), (3, 4, 1), (9, 2, 5), (1, 4, 1)])
def test_validation_batches_hold_every_cell_and_are_of_equal_size(cells: int, size: int, batches: int) -> None:
    rows = validation_batches(cells, size)
    assert [len(one) for one in rows] == [min(cells, size)] * batches
    assert sorted(set(np.concatenate(rows).tolist())) == list(range(cells))


def test_the_lowest_loss_is_kept_and_measurements_since_then_are_counted() -> None:
    best = BestValidation()
    results = [best.update(loss, step) for step, loss in enumerate([3.0, 2.0, 2.0, math.nan, 1.5, 9.0], start=1)]
    assert results == [True, True, False, False, True, False]
    assert best == BestValidation(loss=1.5, step=5, checks_since=1)


LOSSES = [5.0, 3.0, 4.0, 2.0, 2.5, 2.6, 1.0]


def from_a_list(state: TrainState, plan: Plan) -> float:
    return LOSSES[state.step - 1]


def run(training: Any, folder: Path, stop_after: int | None = None) -> TrainState:
    """Train with validation losses from a list and patience 2: lowest after step 4, ended after step 6."""
    state, plan = training(BRANCHES)
    folder.mkdir(exist_ok=True)
    validation = Validation(from_a_list, every_steps=1, patience=2)
    events = run_training(state, plan, draft_in(folder), checkpoint_s=3600, validation=validation)
    for event in events:
        if isinstance(event, StepDone) and event.step == stop_after:
            events.close()
    if stop_after is None:
        assert len(list((folder / "made.partial/scratch").glob("lowest-*.ckpt"))) == 1
    return state


def test_training_ends_after_the_patience_with_the_state_of_the_lowest_loss(training: Any, tmp_path: Path) -> None:
    ended = run(training, tmp_path / "ended")
    state, plan = training(BRANCHES)
    steps = train(state, plan)
    for _ in range(4):
        next(steps)
    assert_same_bits(ended, state)
    assert lines(draft_in(tmp_path / "ended")) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("stop_after", range(1, 7))
def test_a_training_that_was_stopped_at_any_step_and_resumed_has_the_same_result(
    training: Any, tmp_path: Path, stop_after: int
) -> None:
    run(training, tmp_path / "stopped", stop_after)
    assert_same_bits(run(training, tmp_path / "stopped"), run(training, tmp_path / "undisturbed"))
    written = [draft_in(tmp_path / name).file("metrics.jsonl").read_text() for name in ("stopped", "undisturbed")]
    assert written[0] == written[1]


def test_a_nan_validation_loss_is_an_error(training: Any, tmp_path: Path) -> None:
    state, plan = training(BRANCHES)
    validation = Validation(lambda state, plan: math.nan, every_steps=3, patience=9)
    with pytest.raises(FailedError, match="the validation loss is nan at step 3"):
        list(run_training(state, plan, draft_in(tmp_path), checkpoint_s=3600, validation=validation))


def test_every_validation_loss_is_in_the_metrics_of_its_step(training: Any, tmp_path: Path) -> None:
    state, plan = training(BRANCHES)
    validation = Validation(lambda state, plan: 1.0 / state.step, every_steps=4, patience=9)
    events = list(run_training(state, plan, draft_in(tmp_path), checkpoint_s=0, validation=validation))
    measured = [e.step for e in events if isinstance(e, StepDone) and "validation_loss" in e.metrics]
    assert measured == [4, 8, 10] and plan.steps == 10  # and after the last step
    assert state.best.step == 10


def test_a_loss_against_random_keys_is_reported_but_does_not_count(training: Any, tmp_path: Path) -> None:
    """A queue of 7 is full of real keys after the second batch of 4."""
    state, plan = training({"centre": {"queue": 7}})
    validation = Validation(lambda state, plan: float(state.step), every_steps=1, patience=20)
    events = list(run_training(state, plan, draft_in(tmp_path), checkpoint_s=3600, validation=validation))
    assert [e.metrics["validation_loss"] for e in events if isinstance(e, StepDone)] == list(range(1, plan.steps + 1))
    assert state.best.loss == 2.0
