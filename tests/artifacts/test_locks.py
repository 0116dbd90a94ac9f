"""locks: one holder at a time; one process takes over from a dead holder, and none from a living one."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest

from cellssl.artifacts import locks
from cellssl.artifacts.locks import LockHolder, hold_lock, is_locked, this_process
from cellssl.errors import BusyError

HOLD = """
import pathlib, sys, time
from cellssl.artifacts.locks import hold_lock
with hold_lock(pathlib.Path(sys.argv[1]), wait=True):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""
COUNT = """
import pathlib, sys, time
from cellssl.artifacts.locks import hold_lock
folder = pathlib.Path(sys.argv[1])
for turn in range(int(sys.argv[2])):
    with hold_lock(folder / "a.lock", wait=True) as lock:
        inside = folder / "inside"
        inside.mkdir()  # fails if another process is inside
        lock.check_held()
        inside.rmdir()
"""


@contextmanager
def other_process_holding(path: Path, seconds: float = 60) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(path), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def write(path: Path, holder: LockHolder, age_s: float = 0) -> None:
    path.write_text(json.dumps(asdict(holder)))
    os.utime(path, (time.time() - age_s,) * 2)


def dead_holder() -> LockHolder:
    """Return a process of this machine that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return replace(this_process(), pid=process.pid, started="1", token="dead")


def test_a_lock_file_exists_while_the_lock_is_held(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.lock"
    with hold_lock(path, wait=False) as lock:
        assert is_locked(path)
        lock.check_held()
    assert not path.exists()
    assert not is_locked(path)


def test_a_lock_is_released_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), hold_lock(tmp_path / "a.lock", wait=False):
        raise RuntimeError
    assert not (tmp_path / "a.lock").exists()


def test_without_waiting_a_held_lock_is_busy(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with other_process_holding(path) as process, pytest.raises(BusyError) as caught, hold_lock(path, wait=False):
        pass
    assert f"process {process.pid} on" in caught.value.message
    assert caught.value.exit_code == 75


def test_a_waiting_process_learns_the_holder_and_comes_next(tmp_path: Path) -> None:
    holders: list[int] = []
    path = tmp_path / "a.lock"
    waiting_lock = partial(hold_lock, wait=True, waiting=lambda holder: holders.append(holder.pid))
    with other_process_holding(path, 0.5) as process, waiting_lock(path):
        assert process.wait(5) == 0
    assert set(holders) == {process.pid}


def test_a_killed_holder_is_replaced_at_once(tmp_path: Path) -> None:
    with other_process_holding(tmp_path / "a.lock") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / "a.lock").exists()
        assert not is_locked(tmp_path / "a.lock")
        began = time.monotonic()
        with hold_lock(tmp_path / "a.lock", wait=False):
            assert time.monotonic() - began < 2


def test_a_killed_holder_that_is_a_zombie_counts_as_dead(tmp_path: Path) -> None:
    with other_process_holding(tmp_path / "a.lock") as process:
        process.send_signal(signal.SIGKILL)  # no wait(): it stays in the process table
        for _ in range(100):
            if not is_locked(tmp_path / "a.lock"):
                break
            time.sleep(0.05)
        with hold_lock(tmp_path / "a.lock", wait=False) as lock:
            lock.check_held()


def test_another_process_with_the_number_of_a_dead_holder_does_not_keep_the_lock(tmp_path: Path) -> None:
    write(tmp_path / "a.lock", replace(this_process(), started="12345", token="dead"))
    with hold_lock(tmp_path / "a.lock", wait=False) as lock:
        lock.check_held()


ELSEWHERE = [
    replace(this_process(), host="another-machine"),
    replace(this_process(), boot_id="another-boot"),
    replace(this_process(), namespace="another-container"),
]


@pytest.mark.parametrize("holder", ELSEWHERE, ids=["host", "boot", "namespace"])
def test_a_holder_elsewhere_counts_as_alive_while_it_gives_heartbeats(tmp_path: Path, holder: LockHolder) -> None:
    unknown = replace(holder, pid=2**22 + 1, started="7")
    write(tmp_path / "a.lock", unknown, age_s=locks.STALE_S - 20)
    with pytest.raises(BusyError), hold_lock(tmp_path / "a.lock", wait=False):
        pass
    write(tmp_path / "a.lock", unknown, age_s=locks.STALE_S + 5)
    with hold_lock(tmp_path / "a.lock", wait=False) as lock:
        lock.check_held()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}'])
def test_an_unreadable_lock_counts_as_dead_only_when_it_is_old(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.lock"
    path.write_text(text)
    taken = threading.Event()

    def take() -> None:
        with hold_lock(path, wait=True):
            taken.set()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    assert not taken.wait(0.5)
    os.utime(path, (time.time() - locks.STALE_S - 5,) * 2)
    assert taken.wait(5)
    thread.join()


def test_a_held_lock_gets_heartbeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "HEARTBEAT_S", 0.05)
    with hold_lock(tmp_path / "a.lock", wait=False):
        os.utime(tmp_path / "a.lock", (1, 1))
        time.sleep(0.5)
        assert (tmp_path / "a.lock").stat().st_mtime > 1


def test_a_process_that_lost_its_lock_stops_and_leaves_the_new_lock_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    other = replace(this_process(), host="another-machine", token="theirs")
    with hold_lock(path, wait=False) as lock:
        write(path, other)
        with pytest.raises(BusyError, match="was taken over"):
            lock.check_held()
    assert json.loads(path.read_text())["token"] == "theirs"


def test_a_full_disk_leaves_no_empty_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(locks.json, "dumps", full_disk)
    with pytest.raises(OSError, match="No space"), hold_lock(tmp_path / "a.lock", wait=False):
        pass
    assert not (tmp_path / "a.lock").exists()


def test_one_of_many_waiting_threads_takes_over_from_a_dead_holder(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def work(path: Path) -> None:
        with hold_lock(path, wait=True) as lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.002)
            lock.check_held()
            inside[0] -= 1

    dead = dead_holder()
    with ThreadPoolExecutor(5) as pool:
        for turn in range(4):
            path = tmp_path / f"{turn}.lock"
            write(path, dead)
            list(pool.map(work, [path] * 5))
            assert not path.exists()
    assert most == [1]


def test_a_late_takeover_does_not_touch_the_lock_of_the_new_holder(tmp_path: Path) -> None:
    path, dead = tmp_path / "a.lock", dead_holder()
    write(path, this_process())
    inode = path.stat().st_ino
    locks._set_aside(path, dead)
    assert path.stat().st_ino == inode  # not even renamed away for a moment


def test_processes_take_turns_and_leave_nothing_behind(tmp_path: Path) -> None:
    write(tmp_path / "a.lock", dead_holder())
    command = [sys.executable, "-c", COUNT, str(tmp_path), "5"]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(process.wait(60), process.stderr.read() if process.stderr else "") for process in processes] == [
        (0, "")
    ] * 4
    assert [path.name for path in tmp_path.iterdir()] == [".takeover"]
