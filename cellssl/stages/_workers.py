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
from typing import TypeVar

from cellssl.errors import FailedError

Task = TypeVar("Task")
FEW = 3
"""So few tasks are done sooner than a process is started."""


def spread(work: Callable[[Task], None], tasks: list[Task], workers: int | None) -> Iterator[Task]:
    """Do every task once, on `workers` processes (as many as cores where None); yields in order of finishing.

    What a task raises is raised here; tasks not yet begun are dropped then.
    """
    workers = min(workers or cores(), len(tasks))
    if workers <= 1 or len(tasks) <= FEW:
        for task in tasks:
            work(task)
            yield task
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_be_a_worker) as pool:
        futures = {pool.submit(work, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        except BrokenProcessPool as error:
            raise FailedError(
                f"one of {workers} worker processes died, most likely for want of memory",
                hint="set fewer workers, and run the same command again; what is done is kept",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


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
