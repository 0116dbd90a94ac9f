"""_workers: a function and a list of tasks in, each task as soon as some process is done with it, out."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import TypeVar

from cellssl.errors import FailedError

Task = TypeVar("Task")
FEW = 3
"""So few tasks are done sooner than a process is started."""


def spread(
    work: Callable[[Task], None], tasks: list[Task], workers: int | None, lost: Callable[[Task], None] | None = None
) -> Iterator[Task]:
    """Do every task once, on `workers` processes (as many as cores where None); yields in order of finishing.

    What a task raises is raised here; tasks not yet begun are dropped then. When a process dies, the tasks that it may
    have had in hand are done again, each in a process of its own, and the rest go on; a task whose process dies then
    too is handed to `lost`, or where there is none raises FailedError.
    """
    workers = min(workers or cores(), len(tasks))
    if workers <= 1 or len(tasks) <= FEW:
        for task in tasks:
            work(task)
            yield task
        return
    left = tasks
    while left:
        done: set[int] = set()
        for place in _until_one_dies(work, left, workers):
            done.add(place)
            yield left[place]
        left = [task for place, task in enumerate(left) if place not in done]
        in_hand = IN_HAND * workers + 1
        for task in left[:in_hand]:
            if not list(_until_one_dies(work, [task], 1)):
                (lost or _raise_lost)(task)
            yield task
        left = left[in_hand:]


IN_HAND = 2
"""A pool gives its tasks out in their order, and each process has one at work and one waiting; the pool one more."""


def _until_one_dies(work: Callable[[Task], None], tasks: list[Task], workers: int) -> Iterator[int]:
    """Places of the tasks that were done, in order of finishing; not all of them where a process dies."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=context, initializer=_be_a_worker) as pool:
        try:
            futures = {pool.submit(work, task): place for place, task in enumerate(tasks)}
            for future in as_completed(futures):
                with suppress(BrokenProcessPool):
                    future.result()
                    yield futures[future]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _raise_lost(task: object) -> None:
    raise FailedError(
        "a worker process died, and died again with the same task alone, most likely for want of memory",
        hint="free some memory, and run the same command again; what is done is kept",
    )


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _be_a_worker() -> None:
    """Ctrl-C is the parent's business; one thread a process, since every core has a process; no life without parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for libraries that are yet to be loaded, such as torch


def _end_with(sentinel: int) -> None:
    """A parent that is killed cannot say so to those who wait for its next task."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
