"""event_process: work that yields events in; the same work in a process of its own out, which can be asked to stop.

A fork server imports the large libraries once and does nothing else. Each piece of work is forked from it, so it starts
in milliseconds, shares the memory of the libraries with the others, and ends with its process. No library may run
threads in the fork server: a process that does so cannot be forked safely.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import TypeVar, cast

from cellssl.engine.process_pool import JOIN_S, how_ended, picklable
from cellssl.errors import FailedError
from cellssl.events import Event

Result = TypeVar("Result")
LIBRARIES = (
    "torch", "torchvision", "pandas", "pyarrow.parquet", "matplotlib.pyplot", "scipy.stats", "skimage.measure",
    "sklearn.cluster", "sklearn.linear_model", "sklearn.neighbors", "sklearn.decomposition",
)  # fmt: skip
"""What the stages import."""
ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "PYTHONSAFEPATH": "1",
}
"""Variables of the fork server: no library starts threads, and none is taken from the folder that a user is in."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOP = "stop"


@dataclass(frozen=True)
class Outcome:
    """How a piece of work has ended: its result, the exception that it raised, or stopped before its end."""

    result: object = None
    fault: Exception | None = None
    is_stopped: bool = False


class StoppedError(BaseException):
    """The work was asked to stop while it waited."""


class Outside:
    """What a piece of work sees of the process that started it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._sending, self._stop = pipe, threading.Lock(), threading.Event()
        threading.Thread(target=self._listen, name="outside", daemon=True).start()

    def send(self, message: Event | Outcome) -> None:
        """Send an event out, or how the work has ended; it can be done between two events of the work, too."""
        with self._sending:
            self._pipe.send(message)

    @property
    def wants_stop(self) -> bool:
        """Whether the work was asked to stop."""
        return self._stop.is_set()

    def raise_if_stopped(self) -> None:
        """Raise StoppedError where the work was asked to stop."""
        if self.wants_stop:
            raise StoppedError

    def _listen(self) -> None:
        """Wait for the word to stop; end at once with the process outside, which cannot say anything when killed."""
        with suppress(EOFError, OSError):
            while self._pipe.recv() == STOP:
                self._stop.set()
        os._exit(1)


Work = Callable[[Outside], Generator[Event, None, Result]]


class EventProcess:
    """A piece of work that runs in a process of its own."""

    def __init__(self, work: Work[Result], name: str) -> None:
        """Start the process; `work` must be picklable. `name` is what an error calls it."""
        self.name = name
        self.outcome: Outcome | None = None
        """How the work has ended; None while it runs."""
        _start_fork_server()
        context = multiprocessing.get_context("forkserver")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, dict(os.environ)), name=name, daemon=True)
        try:
            self._process.start()  # waits until the libraries are imported
        except (EOFError, OSError) as error:
            raise FailedError(
                f"no process could be started for {name}: the one that imports the libraries has ended",
                hint="run the same command again with --jobs 1",
            ) from error
        finally:
            theirs.close()
        with suppress(OSError):  # it has died meanwhile: its end is seen by `receive`
            self.pipe.send(work)

    def receive(self) -> Event | None:
        """Wait for the next event and return it, or None where the work has ended; `outcome` says how."""
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join(JOIN_S)
            fault = FailedError(
                f"its process died ({how_ended(self._process.exitcode)}), most likely because memory was full",
                hint="run the same command again with --jobs 1, or free some memory; what is done is kept",
            )
            message = Outcome(fault=fault)
        if not isinstance(message, Outcome):
            return cast(Event, message)
        self.outcome = message
        self._process.join(JOIN_S)
        return None

    def ask_to_stop(self) -> None:
        """Ask the work to save what it must and to end after its next event."""
        with suppress(OSError):
            self.pipe.send(STOP)

    def kill(self) -> None:
        """End the process at once, whatever it does; nothing happens where it has ended."""
        self.pipe.close()
        if self.outcome is None:
            self._process.kill()
        self._process.join(JOIN_S)


def _start_fork_server() -> None:
    """Start the fork server, which imports the libraries in the meantime; nothing happens where it runs already.

    It takes no signals, and neither do the processes before they do their work: what they are to do at a signal, this
    process says.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(LIBRARIES))
    resource_tracker.ensure_running()  # the fork server wants it; where it starts it itself, it lets signals in again
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    os.environ.update(ENVIRONMENT)
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _serve(pipe: Connection, environment: dict[str, str]) -> None:
    """Do the work and send its events; this runs in the process. Signals are for the process outside alone."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    os.environ.clear()
    os.environ.update(environment)
    with suppress(EOFError, OSError):
        work = pipe.recv()
        outside = Outside(pipe)
        outside.send(_done(work, outside))


def _done(work: Work[Result], outside: Outside) -> Outcome:
    """Run the work to its end, or close it at its next event where it is asked to stop, so that it can save."""
    try:
        running = work(outside)
        while True:
            outside.send(next(running))
            if outside.wants_stop:
                running.close()
                return Outcome(is_stopped=True)
    except StopIteration as end:
        return Outcome(end.value)
    except StoppedError:
        return Outcome(is_stopped=True)
    except Exception as fault:
        return Outcome(fault=picklable(fault))
