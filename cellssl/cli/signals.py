"""signals: SIGINT and SIGTERM in; work that stops at its next event, having saved what it must, out.

Python calls a signal handler in the main thread, between two of its own instructions. Within one call of a library,
such as the backward pass of a large network, these are minutes apart; and an exception that a handler raises while a
library is imported may be swallowed there, or come out as another one. So a thread of its own sees every signal at
once, answers it, and ends the process where the main thread does not do so soon.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, ClassVar, TypeVar

from cellssl.errors import FailedError, InterruptedByUserError

if TYPE_CHECKING:
    from cellssl.cli.console import Console

Result = TypeVar("Result")
Shown = TypeVar("Shown")
NUMBERS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 1.0
"""Seconds that the main thread has to end when it is to stop at once."""
SHOW_CURSOR = b"\x1b[?25h"
"""What a terminal must get where progress bars, which hide the cursor, are not taken down."""


class SignalWatch:
    """What the signals of this process ask for: to stop after this step, or at once."""

    in_use: ClassVar[SignalWatch | None] = None
    """The watch of the command that runs."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The first signal."""
        self.is_gentle = False
        """Whether work runs that can stop at its next event."""
        self.has_raised = False
        """Whether a handler has raised an exception, at any place of the program."""
        self._seen = 0
        self._ending, self._over = threading.Event(), threading.Event()
        self._printed = threading.Lock()

    def raise_once(self, number: int, frame: FrameType | None = None) -> None:
        """Raise InterruptedByUserError in the main thread, unless it has been raised, or the program ends already."""
        self.number = self.number or number
        if not self.has_raised and not self._ending.is_set():
            self.has_raised = True
            raise interrupted(self.number)

    def begin_to_end(self) -> bool:
        """Say that the main thread is about to print how it ends; return whether the other thread has not done so."""
        self._ending.set()
        return self._printed.acquire(blocking=False)

    def see(self, number: int) -> None:
        """Answer a signal; called in a thread of its own, as soon as the signal comes."""
        self.number = self.number or number
        self._seen += 1
        if self.is_gentle and self._seen == 1:
            _console().say("stopping after this step; the same signal again stops at once")
            return
        self._ending.wait(GRACE_S)
        if self._printed.acquire(blocking=False):
            _console().error(interrupted(self.number))
        elif self._over.wait(GRACE_S):
            return  # the main thread has ended the command
        if sys.stderr is not None and sys.stderr.isatty():
            with suppress(OSError):
                os.write(sys.stderr.fileno(), SHOW_CURSOR)
        os._exit(128 + self.number)

    @contextmanager
    def watching(self) -> Iterator[SignalWatch]:
        """Answer signals from now on, in the main process of a command."""
        receive, send = os.pipe()
        os.set_blocking(send, False)
        for number in NUMBERS:
            signal.signal(number, self.raise_once)
        before, hook = signal.set_wakeup_fd(send, warn_on_full_buffer=False), sys.unraisablehook
        sys.unraisablehook = lambda fault: None if isinstance(fault.exc_value, InterruptedByUserError) else hook(fault)
        thread = threading.Thread(target=self._read, args=(receive,), name="signals", daemon=True)
        thread.start()
        SignalWatch.in_use = self
        try:
            yield self
        finally:
            self._ending.set()
            self._over.set()
            SignalWatch.in_use, sys.unraisablehook = None, hook
            signal.set_wakeup_fd(before)
            os.close(send)
            thread.join()
            os.close(receive)

    def _read(self, receive: int) -> None:
        while number := os.read(receive, 1):
            if number[0] in NUMBERS:
                self.see(number[0])


class StopSignals:
    """Remembers the first signal; work asks for it between two events."""

    def __init__(self) -> None:
        self._number: int | None = None

    def run(self, work: Generator[Shown, None, Result], show: Callable[[Shown], None]) -> Result:
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
                raise interrupted(self._number) from error  # a signal to the whole process group stops workers too

    def raise_if_stopped(self) -> None:
        """Raise InterruptedByUserError where a signal has come."""
        if self._number is not None:
            raise interrupted(self._number)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note the first signal, which asks the work to stop at the next event; a second one stops at once."""
        watch = SignalWatch.in_use or SignalWatch()

        def note(number: int, frame: FrameType | None) -> None:
            if self._number is not None:
                watch.raise_once(number)
            self._number = number

        before = {number: signal.signal(number, note) for number in NUMBERS}
        watch.is_gentle = True
        try:
            yield
        finally:
            watch.is_gentle = False
            for number, handler in before.items():
                signal.signal(number, handler)


def interrupted(number: int) -> InterruptedByUserError:
    """Return the error of a command that a signal has stopped."""
    return InterruptedByUserError(
        f"stopped by {signal.Signals(number).name}; what is done so far is kept",
        hint="run the same command again to go on from there",
        exit_code=128 + int(number),
    )


def _console() -> Console:
    from cellssl.cli.console import Console

    return Console.in_use or Console()
