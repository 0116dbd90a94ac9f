"""process_pool: a function and a list of tasks in, each task out as soon as a process has done it.

A process that dies does not end the work. Its task is done again at the end, in a process with no other beside it. If
that one dies, too, the signal decides: a crash (CRASHES) is the fault of the task, such as a damaged image in which a C
library reads beyond its memory, and the other tasks count; anything else, such as the SIGKILL of a full memory or the
SIGBUS of a disk that fails, is no fault of the task, and the work fails.
"""

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

from cellssl.device import allowed_cores
from cellssl.errors import DataError, FailedError

Task = TypeVar("Task")
Result = TypeVar("Result")
FEW = 3
"""So few tasks are done faster than a process starts."""
CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
"""Signals by which a process ends through an error of its own code."""
MEMORY_FULL = ("memory was full", "free some memory")
DISK_FAILED = ("a file that it maps could not be read or written", "check the disks and network file systems")
"""What most likely ends a process by SIGKILL and by SIGBUS, and the cures."""
JOIN_S = 10.0
"""How long the exit code of a process is waited for after its pipe has ended."""


def parallel_map(
    work: Callable[[Task], None],
    tasks: list[Task],
    workers: int | None,
    crashed: Callable[[Task, str], None] | None = None,
) -> Iterator[Task]:
    """Do every task once, on `workers` processes (as many as cores where None); yield each when it is finished.

    An exception that a task raises is raised here, and tasks that have not started are dropped. When a process dies,
    the other processes go on, a new one takes its place, and its task is done again at the end, alone. If that process
    dies again, by a signal of CRASHES, `crashed` is called with the task and "signal 11, SIGSEGV"; without `crashed` it
    is a DataError. By any other signal or exit code it is a FailedError. Up to FEW tasks, and those of a single worker,
    are done in this process.
    """
    for task, _ in parallel_results(work, tasks, workers, crashed):
        yield task


def parallel_results(
    work: Callable[[Task], Result],
    tasks: list[Task],
    workers: int | None,
    crashed: Callable[[Task, str], Result] | None = None,
) -> Iterator[tuple[Task, Result]]:
    """As `parallel_map`, and yield with each task what `work` returned for it, or `crashed` in its place."""
    workers = min(workers or allowed_cores(), len(tasks))
    if workers <= 1 or len(tasks) <= FEW:
        for task in tasks:
            yield task, work(task)
        return
    first_deaths: list[tuple[Task, int | None]] = []
    yield from _share_out(work, tasks, workers, first_deaths)
    for suspect, _ in first_deaths:
        deaths: list[tuple[Task, int | None]] = []
        yield from _share_out(work, [suspect], 1, deaths)
        for task, exit_code in deaths:
            yield task, _report_death(task, exit_code, crashed)


def _share_out(
    work: Callable[[Task], Result],
    tasks: list[Task],
    workers: int,
    deaths: list[tuple[Task, int | None]],
) -> Iterator[tuple[Task, Result]]:
    """Yield tasks and their results as they finish; append each task whose process died to `deaths`, with exit code.

    Every process has a pipe of its own and one task at a time. So the end of the pipe shows a death and which task it
    was, and no lock is left behind. The pool of the standard library shows neither, and can wait for ever.
    """
    todo = deque(tasks)
    processes: dict[Connection, BaseProcess] = {}
    idle: list[Connection] = []
    running: dict[Connection, Task] = {}
    try:
        while todo or running:
            while todo and len(running) < workers:
                pipe = idle.pop() if idle else _start_process(work, processes)
                running[pipe] = todo.popleft()
                with suppress(OSError):  # the process has died meanwhile: its end is seen below
                    pipe.send(running[pipe])
            for pipe in (one for one in multiprocessing.connection.wait(list(running)) if isinstance(one, Connection)):
                task = running.pop(pipe)
                try:
                    fault, result = pipe.recv()
                except (EOFError, OSError):
                    processes[pipe].join(JOIN_S)
                    deaths.append((task, processes[pipe].exitcode))
                    continue
                if fault is not None:
                    raise fault
                idle.append(pipe)
                yield task, result
    finally:
        for pipe in processes:
            pipe.close()  # each process ends when it has finished its task
        for process in processes.values():
            process.join()


def _start_process(work: Callable[[Task], Result], processes: dict[Connection, BaseProcess]) -> Connection:
    """Start a further process, add it to `processes`, and return the pipe to it.

    The work goes through this pipe, not with the start of the process: that is written into a pipe whose read end we
    hold, too, so that the death of a process before it has read all of it would never show.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    processes[ours] = process
    with suppress(OSError):
        ours.send(work)
    return ours


def _serve(pipe: Connection) -> None:
    """Receive the work, then do task after task until the pipe is closed; this runs in the process."""
    _set_up_process()
    with suppress(EOFError, OSError):
        work = pipe.recv()
        while True:
            task = pipe.recv()
            pipe.send(_done(work, task))


def _done(work: Callable[[Task], Result], task: Task) -> tuple[Exception | None, Result | None]:
    """Do the task; return the exception it raised, with its traceback, or its result.

    An exception that cannot be pickled becomes text.
    """
    try:
        return None, work(task)
    except Exception as error:
        return picklable(error), None


def picklable(error: Exception) -> Exception:
    """Return the exception, with its traceback as a note, for another process; one that cannot be pickled as text."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


def _report_death(task: Task, exit_code: int | None, crashed: Callable[[Task, str], Result] | None) -> Result:
    """Hand a task that crashed its process twice to `crashed`, and return its result; DataError where there is none.

    Raises FailedError where the process did not crash: the task is as good as any other, and with more memory it works.
    """
    how = how_ended(exit_code)
    if exit_code is None or -exit_code not in CRASHES:
        cause, cure = DISK_FAILED if exit_code == -signal.SIGBUS else MEMORY_FULL
        raise FailedError(
            f"a worker process died ({how}), and died again with the same task and no other process beside it, most "
            f"likely because {cause}",
            hint=f"{cure}, and run the same command again; what is done is kept",
        )
    if crashed is None:
        raise DataError(
            f"a worker process crashed twice with the same task ({how}); most likely a file that it reads is damaged",
            hint="run the same command again; if it crashes again, check the images of the plate",
        )
    return crashed(task, how)


def how_ended(exit_code: int | None) -> str:
    """Return "signal 11, SIGSEGV" or "exit code 1" for the exit code that multiprocessing gives."""
    if exit_code is None or exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"signal {-exit_code}, {signal.Signals(-exit_code).name}"
    except ValueError:  # real-time signals have no name
        return f"signal {-exit_code}"


def _set_up_process() -> None:
    """Leave Ctrl-C to the parent, use one thread (every core has a process), and end when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for libraries that are loaded later, such as torch


def _end_with(sentinel: int) -> None:
    """End this process when the parent ends: a parent that was killed cannot close the pipes."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
