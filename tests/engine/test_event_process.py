"""event_process: events come out as they happen, and the work ends by itself, when asked, or with its process."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path

import pytest

from cellssl.engine.event_process import EventProcess, Outside
from cellssl.errors import DataError, FailedError
from cellssl.events import Event, Note, Progress

PARENT = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from functools import partial
from pathlib import Path
from engine.test_event_process import steps
from cellssl.engine.event_process import EventProcess
if __name__ == "__main__":
    process = EventProcess(partial(steps, Path(sys.argv[2])), "steps")
    print(process.receive(), flush=True)
    time.sleep(100)
"""


def steps(folder: Path, outside: Outside) -> Generator[Event, None, int]:
    """Work of many steps that writes what it must when it is closed."""
    (folder / "pid").write_text(str(os.getpid()))
    try:
        for step in range(1, 10_000):
            yield Progress(step, 10_000, "steps")
            time.sleep(0.01)
    except GeneratorExit:
        (folder / "saved").touch()
        raise
    return 7


def say_and_return(outside: Outside) -> Generator[Event, None, str]:
    outside.send(Note("waiting"))
    yield Progress(1, 1, "steps")
    return os.environ["OMP_NUM_THREADS"]


def fail(outside: Outside) -> Generator[Event, None, None]:
    yield Note("begins")
    raise DataError("no cells", hint="add some")


def wait_for_ever(outside: Outside) -> Generator[Event, None, None]:
    yield Note("waits")
    while True:
        outside.raise_if_stopped()
        time.sleep(0.01)


def end_of(process: EventProcess) -> list[Event]:
    """All events up to the end of the work."""
    events = []
    while (event := process.receive()) is not None:
        events.append(event)
    return events


def test_events_and_the_result_come_out_and_the_environment_goes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    process = EventProcess(say_and_return, "say")
    assert end_of(process) == [Note("waiting"), Progress(1, 1, "steps")]
    assert process.outcome is not None and process.outcome.result == "3"
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_a_fault_comes_out_with_its_cure() -> None:
    process = EventProcess(fail, "fail")
    assert end_of(process) == [Note("begins")]
    assert process.outcome is not None and isinstance(process.outcome.fault, DataError)
    assert (process.outcome.fault.message, process.outcome.fault.hint) == ("no cells", "add some")


def test_work_that_is_asked_to_stop_saves_first_also_when_signals_come_to_all_processes(tmp_path: Path) -> None:
    process = EventProcess(partial(steps, tmp_path), "steps")
    assert isinstance(process.receive(), Progress)
    for number in (signal.SIGINT, signal.SIGTERM):  # as from a terminal, or a queue that ends a job
        os.kill(int((tmp_path / "pid").read_text()), number)
    process.ask_to_stop()
    end_of(process)
    assert process.outcome is not None and process.outcome.is_stopped and (tmp_path / "saved").exists()


def test_work_that_waits_is_stopped() -> None:
    process = EventProcess(wait_for_ever, "waits")
    assert process.receive() == Note("waits")
    process.ask_to_stop()
    assert end_of(process) == [] and process.outcome is not None and process.outcome.is_stopped


def test_the_death_of_the_process_is_an_error_with_its_signal(tmp_path: Path) -> None:
    process = EventProcess(partial(steps, tmp_path), "pretrain main")
    process.receive()
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    end_of(process)
    assert process.outcome is not None and isinstance(process.outcome.fault, FailedError)
    assert process.outcome.fault.message.startswith("its process died (signal 9, SIGKILL)")
    process.kill()


def test_a_folder_with_a_file_named_like_a_library_does_no_harm_and_no_process_outlives_its_parent(
    tmp_path: Path,
) -> None:
    for name in ("random.py", "torch.py", "pandas.py"):
        (tmp_path / name).write_text("raise SystemExit('not the library')")
    tests = str(Path(__file__).resolve().parents[1])
    parent = subprocess.Popen(
        [sys.executable, "-P", "-c", PARENT, tests, str(tmp_path)], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None and "Progress" in parent.stdout.readline()
    parent.kill()
    parent.wait()
    pid = int((tmp_path / "pid").read_text())
    for _ in range(1000):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.01)
    pytest.fail("the process goes on without its parent")


def test_the_fork_server_runs_no_threads_and_takes_no_signals(tmp_path: Path) -> None:
    process = EventProcess(partial(steps, tmp_path), "steps")
    process.receive()
    server = int(Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat").read_text().rpartition(")")[2].split()[1])
    assert len(list(Path(f"/proc/{server}/task").iterdir())) == 1
    blocked = int(re.search(r"SigBlk:\s*(\w+)", Path(f"/proc/{server}/status").read_text())[1], 16)  # type: ignore[index]
    assert all(blocked >> (number - 1) & 1 for number in (signal.SIGINT, signal.SIGTERM))
    process.kill()
