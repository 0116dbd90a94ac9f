"""Workers: every task once, faults raised where they are awaited, and no process that outlives its parent."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cellssl.engine.process_pool import parallel_map
from cellssl.errors import DataError, FailedError

TASKS = list(range(6))
PARENT = """
import pathlib, sys, time, os
from cellssl.engine.process_pool import parallel_map
def work(folder):
    (pathlib.Path(folder) / str(os.getpid())).touch()
    time.sleep(0.1)
if __name__ == "__main__":
    for _ in spread(work, [sys.argv[1]] * 500, 2):
        pass
"""


def fine(number: int) -> None:
    assert number in TASKS


def faulty(number: int) -> None:
    raise DataError(f"task {number} is bad", hint="mend it")


def dies(number: int) -> None:
    os._exit(9)


def slow(number: int) -> None:
    time.sleep(0.2)


def kill_a_child(after_s: float) -> None:
    """The first worker that is seen, so long after it was."""
    while not (workers := multiprocessing.active_children()):
        time.sleep(0.001)
    time.sleep(after_s)
    workers[0].kill()


def deadly(folder_and_number: tuple[Path, int]) -> None:
    """The third kills its process each time, the seventh only the first time; the others leave a line a time."""
    folder, number = folder_and_number
    with (folder / str(number)).open("a") as file:
        file.write("x")
    if number == 3 or (number == 7 and (folder / "7").read_text() == "x"):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_done_once(workers: int) -> None:
    assert sorted(parallel_map(fine, TASKS, workers)) == TASKS


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_task_raises_arrives_with_its_cure(workers: int) -> None:
    with pytest.raises(DataError, match="is bad") as caught:
        list(parallel_map(faulty, TASKS, workers))
    assert caught.value.hint == "mend it"


def test_a_worker_that_dies_again_is_said_so() -> None:
    with pytest.raises(FailedError, match="a worker process died, and died again"):
        list(parallel_map(dies, TASKS, 2))


def test_a_worker_that_dies_costs_no_other_task(tmp_path: Path) -> None:
    lost: list[tuple[Path, int]] = []
    tasks = [(tmp_path, number) for number in range(20)]
    assert sorted(parallel_map(deadly, tasks, 2, lost.append)) == tasks
    assert lost == [(tmp_path, 3)]
    others = [number for number in range(20) if number not in (3, 7)]
    assert all((tmp_path / str(number)).read_text() == "x" for number in others)


@pytest.mark.parametrize("after_s", [0, 0.05, 0.2, 0.8, 1.6])
def test_a_worker_killed_at_any_time_hangs_nothing(after_s: float) -> None:
    threading.Thread(target=kill_a_child, args=(after_s,)).start()
    assert sorted(parallel_map(slow, TASKS, 2)) == TASKS


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    pids = tmp_path / "pids"
    pids.mkdir()
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py"), str(pids)])
    while len(list(pids.iterdir())) < 2:
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not any(alive(int(path.name)) for path in pids.iterdir()):
            return
        time.sleep(0.05)
    raise AssertionError("workers live on")


def alive(pid: int) -> bool:
    """Whether a process runs; one that died and waits to be asked after does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False
