"""threads: work that waits for others in -> its results as they come, with a sign of life meanwhile."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from cellssl.events import Event, Waiting

T = TypeVar("T")
J = TypeVar("J")
R = TypeVar("R")

TICK_S = 0.25
"""So often whoever drives the work hears of it, and may stop it."""


class _Raised:
    """What a thread ended with."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def attended(work: Iterable[T]) -> Generator[T | None, None, None]:
    """The items of `work`, which runs in a thread; None while nothing comes.

    Whoever stops listening leaves the thread behind: it ends at its next item, and never keeps the process.
    """
    items: queue.Queue[T | _Raised] = queue.Queue(maxsize=16)
    left = threading.Event()

    def put(item: T | _Raised) -> bool:
        while not left.is_set():
            try:
                items.put(item, timeout=TICK_S)
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
        except BaseException as error:  # it is raised where the items are taken
            end = _Raised(error)
        put(end)

    threading.Thread(target=run, daemon=True).start()
    try:
        while True:
            try:
                item = items.get(timeout=TICK_S)
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
        left.set()


def attending(work: Callable[[], T], alive: Callable[[], None] = lambda: None) -> Generator[Event, None, T]:
    """The result of `work`, which runs in a thread; until it is there, whoever drives this may stop it.

    `alive` is called meanwhile, and raises where there is no more hope.
    """
    for result in attended((work(),) for _ in range(1)):  # in a tuple, so that it cannot be taken for a sign of life
        if result is not None:
            return result[0]
        alive()
        yield Waiting()
    raise AssertionError


def driven(work: Generator[object, None, T]) -> T:
    """The result of work whose events nobody wants to hear of."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


class Crew(Generic[J, R]):
    """Some threads that do jobs; what raises there is raised where the results are taken."""

    def __init__(self, do: Callable[[J], R], hands: int) -> None:
        self._do, self._hands = do, hands
        self._jobs: queue.SimpleQueue[J] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[J, R | _Raised]] = queue.SimpleQueue()
        self._open, self._left = 0, threading.Event()
        self._threads: list[threading.Thread] = []

    def give(self, job: J) -> None:
        """One more job."""
        self._open += 1
        self._jobs.put(job)
        if len(self._threads) < min(self._hands, self._open):
            self._threads.append(threading.Thread(target=self._work, daemon=True))
            self._threads[-1].start()

    def results(self) -> Iterator[tuple[J, R] | None]:
        """Every job with its result, in the order of their ends, until all are done; None while nothing comes."""
        while self._open:
            try:
                job, result = self._done.get(timeout=TICK_S)
            except queue.Empty:
                yield None
                continue
            self._open -= 1
            if isinstance(result, _Raised):
                raise result.error or AssertionError
            yield job, result

    def leave(self) -> None:
        """No job is begun any more."""
        self._left.set()

    @property
    def has_left(self) -> bool:
        """Whether what is being done now is of use to nobody."""
        return self._left.is_set()

    def _work(self) -> None:
        while not self._left.is_set():
            try:
                job = self._jobs.get(timeout=TICK_S)
            except queue.Empty:
                continue
            result: R | _Raised
            try:
                result = self._do(job)
            except BaseException as error:  # it is raised where the results are taken
                result = _Raised(error)
            self._done.put((job, result))


@contextmanager
def crew(do: Callable[[J], R], hands: int) -> Iterator[Crew[J, R]]:
    """A crew that is sent home at the end, whatever happens."""
    hired = Crew(do, hands)
    try:
        yield hired
    finally:
        hired.leave()
