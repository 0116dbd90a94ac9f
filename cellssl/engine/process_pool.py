"""process_pool: a function and a list of tasks in, each task as soon as some process is done with it, out."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TypeVar

from cellssl.errors import FailedError

Task = TypeVar("Task")
FEW = 3
"""So few tasks are done sooner than a process is started."""


def parallel_map(
    work: Callable[[Task], None], tasks: list[Task], workers: int | None, lost: Callable[[Task], None] | None = None
) -> Iterator[Task]:
    """Do every task once, on `workers` processes (as many as cores where None); yields in order of finishing.

    What a task raises is raised here; tasks not yet begun are dropped then. When a process dies, the others go on, and
    the task that it had in hand is done again at the end, with none beside it; a task whose process dies then too is
    handed to `lost`, or where there is none raises FailedError.
    """
    workers = min(workers or cores(), len(tasks))
    if workers <= 1 or len(tasks) <= FEW:
        for task in tasks:
            work(task)
            yield task
        return
    suspects: list[Task] = []
    yield from _share_out(work, tasks, workers, suspects.append)
    for task in suspects:
        died: list[Task] = []
        yield from _share_out(work, [task], 1, died.append)
        for _ in died:
            (lost or _raise_lost)(task)
            yield task


def _share_out(
    work: Callable[[Task], None], tasks: list[Task], workers: int, died: Callable[[Task], None]
) -> Iterator[Task]:
    """Tasks in order of finishing, save those that a process had in hand when it died.

    Every process has a pipe of its own and one task at a time, so that a death is known by the pipe's end, leaves no
    lock behind, and tells which task it was; the standard library's pool knows neither, and can wait for ever.
    """
    todo = deque(tasks)
    crew: dict[Connection, BaseProcess] = {}
    idle: list[Connection] = []
    in_hand: dict[Connection, Task] = {}
    try:
        while todo or in_hand:
            while todo and len(in_hand) < workers:
                pipe = idle.pop() if idle else _hire(work, crew)
                in_hand[pipe] = todo.popleft()
                with suppress(OSError):  # of one that has died meanwhile the end is seen below
                    pipe.send(in_hand[pipe])
            for pipe in (one for one in multiprocessing.connection.wait(list(in_hand)) if isinstance(one, Connection)):
                task = in_hand.pop(pipe)
                try:
                    fault = pipe.recv()
                except (EOFError, OSError):
                    died(task)
                    continue
                if fault is not None:
                    raise fault
                idle.append(pipe)
                yield task
    finally:
        for pipe in crew:
            pipe.close()  # each ends when it is done with what it has in hand
        for process in crew.values():
            process.join()


def _hire(work: Callable[[Task], None], crew: dict[Connection, BaseProcess]) -> Connection:
    """A further process for the crew, and the pipe to it.

    The work goes through the pipe: what a process is started with is written into one whose end we hold, too, so that
    a death before it is read would never be told.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    crew[ours] = process
    with suppress(OSError):
        ours.send(work)
    return ours


def _serve(pipe: Connection) -> None:
    """The life of a process: what to do, then task after task, until the pipe is closed."""
    _be_a_worker()
    with suppress(EOFError, OSError):
        work = pipe.recv()
        while True:
            task = pipe.recv()
            pipe.send(_fault_of(work, task))


def _fault_of(work: Callable[[Task], None], task: Task) -> Exception | None:
    """What the work raised, with where it did so, if it can be sent at all."""
    try:
        work(task)
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return RuntimeError("".join(traceback.format_exception(error)))
        return error
    return None


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
