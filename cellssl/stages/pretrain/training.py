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
from cellssl.events import Event, Note, Saved, Started, StepDone
from cellssl.files import write_text
from cellssl.stages.pretrain.checkpoints import Checkpoints
from cellssl.stages.pretrain.end_forecast import EndForecast

if TYPE_CHECKING:
    from cellssl.artifacts.store import Draft
    from cellssl.learning.training.loop import Plan
    from cellssl.learning.training.state import BestValidation, TrainState

TENSORBOARD = "tensorboard"


@dataclass(frozen=True)
class Validation:
    """How the loss on the validation cells is measured, and when it ends the training."""

    loss: Callable[[TrainState, Plan], float]
    every_steps: int
    patience: int

    def evaluate(self, state: TrainState, plan: Plan) -> tuple[dict[str, float], bool]:
        """Return the loss, where one is due after this step, and whether it is the lowest so far.

        While queues still hold random keys the loss is too low, because those are easy to tell apart; then it does not
        count.
        """
        if state.step % self.every_steps and state.step < plan.steps:
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

    With `validation` the state at the end is that of the lowest loss; `write_last` is called before a later one is left
    for it. A caller that closes the generator finds a checkpoint of the last step.
    """
    from cellssl.learning.training.diagnostics import CollapseMonitor, check_state

    draft.scratch()
    checkpoints, monitor = Checkpoints.of(draft), CollapseMonitor(branch.name for branch in plan.branches)
    if checkpoints.restore(state):
        yield Note(f"continuing after step {state.step:,} of {plan.steps:,}")
    with (
        _add_checkpoint_to_errors(checkpoints),
        faults_explained(draft.path),
        _logs(draft, state.step, tensorboard=tensorboard) as logs,
    ):
        files = (logs.metrics, logs.timings)
        if _has_next_step(state, plan, validation):
            yield Started(state.step, plan.steps, "steps", "first step ...")
        saved_s, forecast = time.monotonic(), EndForecast(at_latest=validation is not None)
        for done in _iter_steps(state, plan, validation):
            try:
                measured, is_best = validation.evaluate(state, plan) if validation else ({}, False)
                done.metrics.update(measured)
                logs.write(done)
                if is_best:
                    checkpoints.save_best(state, *files)
                for branch in monitor.newly_collapsed(done.metrics):
                    yield Note(_collapse_warning(branch, done.step))
                if time.monotonic() - saved_s >= checkpoint_s and checkpoints.save(state, *files):
                    saved_s = time.monotonic()
                    yield Saved(state.step)
                yield done
                if (words := forecast.after(done.step, plan.steps)) is not None:
                    yield Note(words)
            except GeneratorExit:
                checkpoints.save(state, *files)
                raise
        check_state(state)
    if validation is not None and not state.best.step:
        yield Note("no validation loss was counted: training ended before every queue was full of real keys")
    elif validation is not None:
        yield Note(f"the lowest validation loss was {state.best.loss:.4f}, after step {state.best.step:,}")
        if state.step != state.best.step:
            write_last()
        checkpoints.restore_best(state)


def run_training_as_assistant(state: TrainState, plan: Plan, draft: Draft, validation: Validation | None) -> None:
    """Do the same steps in a process that is not the main one, which decides when to stop; write nothing."""
    Checkpoints.of(draft).restore(state)
    for _ in _iter_steps(state, plan, validation):
        if validation:
            validation.evaluate(state, plan)


@contextmanager
def broadcast_stop(state: TrainState, plan: Plan, validation: Validation | None) -> Iterator[None]:
    """Tell the other processes when the main one is stopped; they wait for its decision before each step."""
    try:
        yield
    except GeneratorExit:
        if _has_next_step(state, plan, validation):
            plan.group.broadcast_continue(main_continues=False)
        raise


def _iter_steps(state: TrainState, plan: Plan, validation: Validation | None) -> Iterator[StepDone]:
    """Yield steps until the last one, until early stopping, or until the main process stops."""
    from cellssl.learning.training.loop import train

    steps = train(state, plan)
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
