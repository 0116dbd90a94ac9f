"""signals: SIGINT and SIGTERM in; work that stops at its next event, having saved what it must, out."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from cellssl.errors import FailedError, InterruptedByUserError
from cellssl.events import Event

Result = TypeVar("Result")


class StopSignals:
    """Remembers the first signal; work asks for it between two events."""

    def __init__(self) -> None:
        self._number: int | None = None

    def run(self, work: Generator[Event, None, Result], show: Callable[[Event], None]) -> Result:
        """Show every event of the work and return its result.

        After a signal the work is closed, which saves what it must. Raises InterruptedByUserError.
        """
        with self.listening():
            try:
                while True:
                    show(next(work))
                    if self._number is not None:
                        work.close()
                        self.raise_if_stopped()
            except StopIteration as end:
                result: Result = end.value
                return result
            except FailedError as error:
                if self._number is None:
                    raise
                raise self._interrupted() from error  # a signal to the whole process group stops workers too

    def raise_if_stopped(self) -> None:
        """Raise InterruptedByUserError where a signal has come."""
        if self._number is not None:
            raise self._interrupted()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note the first signal, which asks the work to stop at the next event; a second one stops at once."""

        def note(number: int, frame: FrameType | None) -> None:
            self.raise_if_stopped()
            self._number = number

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _interrupted(self) -> InterruptedByUserError:
        number = self._number or signal.SIGINT
        return InterruptedByUserError(
            f"stopped by {signal.Signals(number).name}; what is done so far is kept",
            hint="run the same command again to go on from there",
            exit_code=128 + int(number),
        )
