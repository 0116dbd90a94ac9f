"""threads: functions that block in -> their results as they come, with regular events so that they can be stopped."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from cellssl.events import Event, Waiting

T = TypeVar("T")
JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")

POLL_S = 0.25
"""Seconds between two looks at a thread; so often the caller gets an event, and may stop the work."""


class _Raised:
    """The exception that ended a thread; None where it ended well."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def iterate_in_thread(work: Iterable[T]) -> Generator[T | None, None, None]:
    """Iterate over `work` in a thread and yield its items; yield None while nothing comes.

    A caller that stops iterating leaves the thread behind: it ends at its next item, and never keeps the process alive.
    """
    items: queue.Queue[T | _Raised] = queue.Queue(maxsize=16)
    stopped = threading.Event()

    def put(item: T | _Raised) -> bool:
        while not stopped.is_set():
            try:
                items.put(item, timeout=POLL_S)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        end = _Raised(None)
        try:
            for item in work:
                if not put(item):
                    return
        except BaseException as error:  # raised again where the items are taken
            end = _Raised(error)
        put(end)

    threading.Thread(target=run, daemon=True).start()
    try:
        while True:
            try:
                item = items.get(timeout=POLL_S)
            except queue.Empty:
                yield None
                continue
            if not isinstance(item, _Raised):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                return
    finally:
        stopped.set()


def run_in_thread(
    work: Callable[[], T], raise_if_stalled: Callable[[], None] = lambda: None
) -> Generator[Event, None, T]:
    """Run `work` in a thread and return its result; yield an event now and then, so that the caller can stop.

    `raise_if_stalled` is called meanwhile, and raises where the result cannot be expected any more.
    """
    for result in iterate_in_thread(
        (work(),) for _ in range(1)
    ):  # in a tuple, so that a result None differs from "not yet"
        if result is not None:
            return result[0]
        raise_if_stalled()
        yield Waiting()
    raise AssertionError


def result_of(work: Generator[object, None, T]) -> T:
    """Run a generator to its end, drop what it yields, and return its result."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


class WorkerThreads(Generic[JobT, ResultT]):
    """A few threads that do jobs; an exception in one of them is raised where the results are taken."""

    def __init__(self, do: Callable[[JobT], ResultT], workers: int) -> None:
        self._do, self._workers = do, workers
        self._jobs: queue.SimpleQueue[JobT] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[JobT, ResultT | _Raised]] = queue.SimpleQueue()
        self._open, self._stopped = 0, threading.Event()
        self._threads: list[threading.Thread] = []

    def submit(self, job: JobT) -> None:
        """Add one job."""
        self._open += 1
        self._jobs.put(job)
        if len(self._threads) < min(self._workers, self._open):
            self._threads.append(threading.Thread(target=self._work, daemon=True))
            self._threads[-1].start()

    def results(self) -> Iterator[tuple[JobT, ResultT] | None]:
        """Yield every job with its result, in the order in which they end; yield None while nothing comes."""
        while self._open:
            try:
                job, result = self._done.get(timeout=POLL_S)
            except queue.Empty:
                yield None
                continue
            self._open -= 1
            if isinstance(result, _Raised):
                raise result.error or AssertionError
            yield job, result

    def stop(self) -> None:
        """Start no further job."""
        self._stopped.set()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called; the results of jobs that still run are not needed then."""
        return self._stopped.is_set()

    def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                job = self._jobs.get(timeout=POLL_S)
            except queue.Empty:
                continue
            result: ResultT | _Raised
            try:
                result = self._do(job)
            except BaseException as error:  # raised again where the results are taken
                result = _Raised(error)
            self._done.put((job, result))


@contextmanager
def worker_threads(do: Callable[[JobT], ResultT], workers: int) -> Iterator[WorkerThreads[JobT, ResultT]]:
    """Give worker threads that are stopped at the end, whatever happens."""
    threads = WorkerThreads(do, workers)
    try:
        yield threads
    finally:
        threads.stop()
