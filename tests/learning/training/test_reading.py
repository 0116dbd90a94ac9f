"""Reading the metrics of many steps at once changes no number, no line, no event, no checkpoint and no error."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from learning.training.test_loop import assert_same_bits
from learning.training.test_state import draft_in, lines
from learning.training.test_validation import BRANCHES, from_a_list

from cellssl.errors import FailedError
from cellssl.events import Event, StepDone, Waiting
from cellssl.learning.training.diagnostics import PendingRank, effective_rank, read_metrics
from cellssl.learning.training.loop import READ_EVERY, read_interval, train
from cellssl.learning.training.state import TrainState
from cellssl.stages.pretrain.training import Validation, run_training

EPOCHS = 8.0


def trained(
    training: Any, folder: Path, read_every: int, *, stop_after: int | None = None, **given: Any
) -> tuple[TrainState, list[Event]]:
    """Train to the end, or until the given number of events; return the state and the events."""
    state, plan = training(BRANCHES, epochs=EPOCHS)
    folder.mkdir(exist_ok=True)
    events = run_training(state, replace(plan, read_every=read_every), draft_in(folder), **given)
    seen: list[Event] = []
    for event in events:
        seen.append(event)
        if len(seen) == stop_after:
            events.close()
    return state, seen


def files_of(folder: Path) -> dict[str, bytes]:
    """Return what a result rests on."""
    return {name: (folder / "made.partial" / name).read_bytes() for name in ("metrics.jsonl", "scratch/last.ckpt")}


def numbers_of(events: list[Event]) -> list[Any]:
    """Return the events that show something, without timings."""
    shown = [event for event in events if not isinstance(event, Waiting)]
    return [(event.step, event.metrics) if isinstance(event, StepDone) else event for event in shown]


@pytest.mark.parametrize("checkpoint_s", [0.0, 3600.0])
@pytest.mark.parametrize("read_every", [2, 20, 1000])
def test_lines_events_and_checkpoints_are_those_of_a_training_that_reads_every_step(
    training: Any, tmp_path: Path, read_every: int, checkpoint_s: float
) -> None:
    given = {"checkpoint_s": checkpoint_s, "validation": Validation(lambda *_: 1.0, every_steps=7, patience=99)}
    one, each = trained(training, tmp_path / "each", 1, **given)
    other, together = trained(training, tmp_path / "together", read_every, **given)
    assert_same_bits(one, other)
    assert numbers_of(each) == numbers_of(together) and Waiting() not in each
    assert (Waiting() in together) == (checkpoint_s > 0)  # reading comes before a checkpoint
    assert files_of(tmp_path / "each") == files_of(tmp_path / "together")


def test_early_stopping_ends_at_the_same_step(training: Any, tmp_path: Path) -> None:
    for name, read_every in (("each", 1), ("together", 20)):
        validation = Validation(from_a_list, every_steps=1, patience=2)
        trained(training, tmp_path / name, read_every, checkpoint_s=3600, validation=validation)
        assert lines(draft_in(tmp_path / name)) == [1, 2, 3, 4, 5, 6]
    assert files_of(tmp_path / "each")["metrics.jsonl"] == files_of(tmp_path / "together")["metrics.jsonl"]


@pytest.mark.parametrize("stop_after", [2, 4, 9, 12, 20])
def test_a_stop_at_any_event_leaves_a_checkpoint_of_the_last_step_with_all_lines(
    training: Any, tmp_path: Path, stop_after: int
) -> None:
    stopped, _ = trained(training, tmp_path / "stopped", 5, stop_after=stop_after, checkpoint_s=3600)
    assert lines(draft_in(tmp_path / "stopped")) == list(range(1, stopped.step + 1))
    resumed, _ = trained(training, tmp_path / "stopped", 5, checkpoint_s=3600)
    expected, _ = trained(training, tmp_path / "undisturbed", 1, checkpoint_s=3600)
    assert_same_bits(resumed, expected)
    metrics = [files_of_metrics(tmp_path / name) for name in ("stopped", "undisturbed")]
    assert metrics[0] == metrics[1]


def files_of_metrics(folder: Path) -> bytes:
    return (folder / "made.partial/metrics.jsonl").read_bytes()


def test_a_nan_loss_names_its_own_step_and_never_gets_into_a_checkpoint(training: Any, tmp_path: Path) -> None:
    """Whether the training goes on until the metrics are read, or is stopped before."""
    state, plan = training(BRANCHES, epochs=EPOCHS)
    events = run_training(state, replace(plan, read_every=10), draft_in(tmp_path), checkpoint_s=3600)
    for _ in range(1 + 13):  # the start, nothing new nine times, three of the ten steps that were read together
        last = next(events)
    assert isinstance(last, StepDone) and (last.step, state.step) == (4, 10)
    until_waiting(events)
    state.encoder.features[0].weight.data.fill_(torch.inf)
    with pytest.raises(FailedError, match="the loss is nan at step 12; the last good checkpoint was not written yet"):
        list(events)
    assert lines(draft_in(tmp_path)) == list(range(1, 12))


def until_waiting(events: Any) -> None:
    while next(events) != Waiting():
        pass


def test_a_training_that_is_stopped_after_an_unread_nan_loss_writes_no_checkpoint(
    training: Any, tmp_path: Path
) -> None:
    state, plan = training(BRANCHES, epochs=EPOCHS)
    events = run_training(state, replace(plan, read_every=10), draft_in(tmp_path), checkpoint_s=3600)
    until_waiting(events)
    weight = state.encoder.features[0].weight.data
    good = weight.clone()
    weight.fill_(torch.inf)
    next(events)
    for module in state.modules():  # only the loss shows the damage
        for value in module.state_dict().values():
            value.nan_to_num_(0.0, 0.0, 0.0)
    weight.copy_(good)
    events.close()
    assert lines(draft_in(tmp_path)) == [1] and not (tmp_path / "made.partial/scratch/last.ckpt").exists()


def test_a_loop_that_reads_seldom_yields_the_good_steps_before_the_error(training: Any) -> None:
    state, plan = training(BRANCHES, epochs=EPOCHS)
    list(train(state, replace(plan, steps=3)))
    steps = train(state, replace(plan, read_every=5))
    assert [next(steps).step for _ in range(2)] == [4, 5]
    state.encoder.features[0].weight.data.fill_(torch.nan)
    with pytest.raises(FailedError, match="the loss is nan at step 6"):
        next(steps)


def test_the_metrics_of_several_steps_are_read_in_their_order() -> None:
    features = torch.eye(5, 4)
    steps = [{"loss": torch.tensor(float(i)), "rank": PendingRank(features * i), "rate": 0.5} for i in range(3)]
    expected = [{"loss": float(i), "rank": effective_rank(features * i).item(), "rate": 0.5} for i in range(3)]
    assert read_metrics(steps, torch.device("cpu")) == expected


def test_a_cpu_reads_every_step_and_a_gpu_every_twentieth() -> None:
    assert read_interval(torch.device("cpu")) == 1 and read_interval(torch.device("cuda")) == READ_EVERY == 20
