"""training: a state and a plan at their first step in, the trained state out; with metrics, checkpoints and event
files.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from cellssl.disk import fault_number, faults_explained
from cellssl.errors import FailedError
from cellssl.events import Event, Note, Saved, Started, StepDone, Waiting
from cellssl.files import write_text
from cellssl.stages.pretrain.checkpoints import Checkpoints
from cellssl.stages.pretrain.end_forecast import EndForecast

if TYPE_CHECKING:
    from cellssl.artifacts.store import Draft
    from cellssl.learning.training.loop import Plan, UnreadStep
    from cellssl.learning.training.state import BestValidation, TrainState

TENSORBOARD = "tensorboard"


@dataclass(frozen=True)
class Validation:
    """How the loss on the validation cells is measured, and when it ends the training."""

    loss: Callable[[TrainState, Plan], float]
    every_steps: int
    patience: int

    def is_due(self, state: TrainState, plan: Plan) -> bool:
        """Return whether the loss is measured after this step."""
        return state.step % self.every_steps == 0 or state.step >= plan.steps

    def evaluate(self, state: TrainState, plan: Plan) -> tuple[dict[str, float], bool]:
        """Return the loss, where one is due after this step, and whether it is the lowest so far.

        While queues still hold random keys the loss is too low, because those are easy to tell apart; then it does not
        count.
        """
        if not self.is_due(state, plan):
            return {}, False
        from cellssl.learning.training.diagnostics import check_finite

        loss = self.loss(state, plan)
        check_finite({"validation_loss": loss}, state.step)
        counts = all(branch.objective.queue_is_full for branch in plan.branches)
        return {"validation_loss": loss}, counts and state.best.update(loss, state.step)

    def should_stop(self, best: BestValidation) -> bool:
        """Return whether the loss has not reached a new lowest value for `patience` measurements."""
        return best.checks_since >= self.patience


@dataclass(frozen=True)
class Logs:
    """The logs of every step: metrics follow from recipe and inputs; timings, in their own file, from the machine."""

    metrics: TextIO
    timings: TextIO
    board: Callable[[StepDone], None] | None

    def write(self, done: StepDone) -> None:
        """Write one line to each log; JSON has no number for nan, so it becomes null."""
        for log, values in ((self.metrics, done.metrics), (self.timings, done.timings)):
            known = {name: value if math.isfinite(value) else None for name, value in values.items()}
            log.write(json.dumps({"step": done.step, **known}) + "\n")
        if self.board is not None:
            self.board(done)


@dataclass(frozen=True)
class ReadSteps:
    """Steps whose metrics were read together."""

    done: list[StepDone]
    """Their events, up to a fault."""
    is_best: bool = False
    """Whether the last of them has the lowest validation loss so far."""
    fault: FailedError | None = None
    """What ends the training, after the events; then no checkpoint of the state may be written."""

    @classmethod
    def of(
        cls, unread: list[UnreadStep], state: TrainState, plan: Plan, validation: Validation | None = None
    ) -> ReadSteps:
        """Read the metrics of some steps, and measure the validation loss where it is due after the last of them."""
        from cellssl.learning.training.loop import read_steps

        done, fault = read_steps(unread, plan)
        if fault is not None or validation is None or not done:
            return cls(done, fault=fault)
        try:
            measured, is_best = validation.evaluate(state, plan)
        except FailedError as error:
            return cls(done[:-1], fault=error)
        done[-1].metrics.update(measured)
        return cls(done, is_best)


def run_training(
    state: TrainState,
    plan: Plan,
    draft: Draft,
    *,
    checkpoint_s: float,
    validation: Validation | None = None,
    tensorboard: bool = False,
    write_last: Callable[[], None] = lambda: None,
) -> Generator[Event, None, None]:
    """Train, write lines of metrics and checkpoints, and yield events.

    Metrics are read every `plan.read_every` steps, before a checkpoint and before a validation; lines, events and
    checkpoints are those of a training that reads every step, besides `Waiting`, which shows nothing. With
    `validation` the state at the end is that of the lowest loss; `write_last` is called before a later one is left for
    it. A caller that closes the generator finds a checkpoint of the last step.
    """
    from cellssl.learning.training.diagnostics import check_state

    draft.scratch()
    checkpoints = Checkpoints.of(draft)
    if checkpoints.restore(state):
        yield Note(f"continuing after step {state.step:,} of {plan.steps:,}")
    with (
        _add_checkpoint_to_errors(checkpoints),
        faults_explained(draft.path),
        _logs(draft, state.step, tensorboard=tensorboard) as logs,
    ):
        if _has_next_step(state, plan, validation):
            yield Started(state.step, plan.steps, "steps", "first step ...")
        yield from _record_steps(state, plan, checkpoints, logs, checkpoint_s, validation)
        check_state(state)
    if validation is not None and not state.best.step:
        yield Note("no validation loss was counted: training ended before every queue was full of real keys")
    elif validation is not None:
        yield Note(f"the lowest validation loss was {state.best.loss:.4f}, after step {state.best.step:,}")
        if state.step != state.best.step:
            write_last()
        checkpoints.restore_best(state)


def _record_steps(
    state: TrainState,
    plan: Plan,
    checkpoints: Checkpoints,
    logs: Logs,
    checkpoint_s: float,
    validation: Validation | None,
) -> Generator[Event, None, None]:
    """Train to the end; write lines of metrics and checkpoints, and yield the events of every step."""
    from cellssl.learning.training.diagnostics import CollapseMonitor

    monitor = CollapseMonitor(branch.name for branch in plan.branches)
    saved_s, forecast = time.monotonic(), EndForecast(at_latest=validation is not None)
    unread: list[UnreadStep] = []
    read = ReadSteps([])
    for step in _iter_steps(state, plan, validation):
        unread.append(step)
        save_due = time.monotonic() - saved_s >= checkpoint_s
        try:
            if not (save_due or _must_read(state, plan, validation)):
                yield Waiting()
                continue
            read = _read_and_log(unread, state, plan, validation, logs)
            if read.is_best:
                checkpoints.save_best(state, logs.metrics, logs.timings)
            for done in read.done:
                for branch in monitor.newly_collapsed(done.metrics):
                    yield Note(_collapse_warning(branch, done.step))
                if done.step == state.step and save_due and checkpoints.save(state, logs.metrics, logs.timings):
                    saved_s = time.monotonic()
                    yield Saved(state.step)
                yield done
                if done.step == state.step and (words := forecast.after(done.step, plan.steps)) is not None:
                    yield Note(words)
        except GeneratorExit:
            if unread:
                read = _read_and_log(unread, state, plan, validation, logs)
            if read.fault is None:
                checkpoints.save(state, logs.metrics, logs.timings)
            raise
        if read.fault is not None:
            raise read.fault


def run_training_as_assistant(state: TrainState, plan: Plan, draft: Draft, validation: Validation | None) -> None:
    """Do the same steps in a process that is not the main one, which decides when to stop; write nothing."""
    Checkpoints.of(draft).restore(state)
    unread: list[UnreadStep] = []
    for step in _iter_steps(state, plan, validation):
        unread.append(step)
        if _must_read(state, plan, validation):
            read = ReadSteps.of(unread, state, plan, validation)
            unread.clear()
            if read.fault is not None:
                raise read.fault


def _must_read(state: TrainState, plan: Plan, validation: Validation | None) -> bool:
    """Return whether the metrics are read after this step in every process."""
    return plan.must_read(state.step) or (validation is not None and validation.is_due(state, plan))


def _read_and_log(
    unread: list[UnreadStep], state: TrainState, plan: Plan, validation: Validation | None, logs: Logs
) -> ReadSteps:
    """Read the metrics of these steps, forget the steps, and write their lines."""
    read = ReadSteps.of(unread, state, plan, validation)
    unread.clear()
    for done in read.done:
        logs.write(done)
    return read


@contextmanager
def broadcast_stop(state: TrainState, plan: Plan, validation: Validation | None) -> Iterator[None]:
    """Tell the other processes when the main one is stopped; they wait for its decision before each step."""
    try:
        yield
    except GeneratorExit:
        if _has_next_step(state, plan, validation):
            plan.group.broadcast_continue(main_continues=False)
        raise


def _iter_steps(state: TrainState, plan: Plan, validation: Validation | None) -> Iterator[UnreadStep]:
    """Yield steps until the last one, until early stopping, or until the main process stops."""
    from cellssl.learning.training.loop import train_unread

    steps = train_unread(state, plan)
    while _has_next_step(state, plan, validation) and plan.group.broadcast_continue(main_continues=True):
        yield next(steps)


def _has_next_step(state: TrainState, plan: Plan, validation: Validation | None) -> bool:
    return state.step < plan.steps and not (validation is not None and validation.should_stop(state.best))


@contextmanager
def _logs(draft: Draft, step: int, *, tensorboard: bool) -> Iterator[Logs]:
    metrics, timings = draft.file("metrics.jsonl"), draft.extra("timings.jsonl")
    for path in (metrics, timings):
        _truncate_log(path, step)
    with (
        metrics.open("a", encoding="utf-8") as metrics_log,
        timings.open("a", encoding="utf-8") as timings_log,
        _tensorboard_writer(draft, step, wanted=tensorboard) as board,
    ):
        yield Logs(metrics_log, timings_log, board)
    for path in (draft.path / TENSORBOARD).glob("*"):  # from earlier processes too: they are not part of the result
        draft.extra(f"{TENSORBOARD}/{path.name}")


@contextmanager
def _tensorboard_writer(draft: Draft, step: int, *, wanted: bool) -> Iterator[Callable[[StepDone], None] | None]:
    """Yield a function that writes event files for TensorBoard, which drops older entries after `step`."""
    if not wanted:
        yield None
        return
    from torch.utils.tensorboard import SummaryWriter

    folder = draft.file(f"{TENSORBOARD}/events").parent

    def write(done: StepDone) -> None:
        for name, value in {**done.metrics, **done.timings}.items():
            writer.add_scalar(name, value, done.step)

    with _threads_leave_faults_to_main(), SummaryWriter(str(folder), purge_step=step + 1) as writer:
        yield write


@contextmanager
def _threads_leave_faults_to_main() -> Iterator[None]:
    """Print no traceback of a full disk in a thread of the event writer, which raises it again at the next call."""
    before = threading.excepthook

    def report(fault: threading.ExceptHookArgs) -> None:
        if fault_number(fault.exc_value) is None:
            before(fault)

    threading.excepthook = report
    try:
        yield
    finally:
        threading.excepthook = before


@contextmanager
def _add_checkpoint_to_errors(checkpoints: Checkpoints) -> Iterator[None]:
    """Say in an error that ends the training which checkpoint is kept."""
    try:
        yield
    except FailedError as error:
        kept = f"of step {checkpoints.saved_step:,} is kept" if checkpoints.last.is_file() else "was not written yet"
        raise FailedError(f"{error.message}; the last good checkpoint {kept}", error.hint) from error


def _collapse_warning(branch: str, step: int) -> str:
    return (
        f"branch {branch} is collapsing: at step {step:,} its projections hardly differ between cells; "
        "lower pretrain.learning_rate, or choose views for it that change the cell less"
    )


def _truncate_log(log: Path, step: int) -> None:
    """Remove lines that were written after the loaded checkpoint; they will be written again."""
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.is_file() else []
    write_text(log, "".join(lines[:step]))
