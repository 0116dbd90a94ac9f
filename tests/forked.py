"""forked: the words of a command in, a process of its own that runs it out, without the seconds that imports take.

A server imports everything once and runs no command itself. It forks for each command, so the command starts in
milliseconds, with the environment, the folder and the streams of whoever asks, and ends as any process does: by itself
or by a signal. What libraries read from the environment while they are imported is that of the server, so a test of
imports, of another package or of such a variable starts Python itself.

As a program, `python -IS forked.py SOCKET WORDS...` is `cellssl WORDS...`, for shell scripts and workflow engines.
"""

import json
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import IO

IMPORTED = (
    "cellssl", "matplotlib.pyplot", "pyarrow.parquet", "sklearn.cluster", "sklearn.linear_model", "skimage.measure",
    "torch", "torchvision",
)  # fmt: skip
POSSIBLE = hasattr(os, "pidfd_open") and hasattr(socket, "send_fds")
"""Whether this system has what the server needs; elsewhere every command starts Python."""


@dataclass(frozen=True)
class Task:
    """A command, and what it runs in."""

    words: list[str]
    environment: dict[str, str]
    folder: str
    in_new_session: bool = False


class Forked:
    """A running command, with the part of `subprocess.Popen` that tests use."""

    def __init__(
        self,
        words: Sequence[str],
        environment: dict[str, str],
        *,
        cwd: Path | None = None,
        start_new_session: bool = False,
    ) -> None:
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        task = Task(list(words), environment, str(cwd or Path.cwd()), start_new_session)
        with Path(os.devnull).open() as nothing:
            self._server = asked(server(), task, [nothing.fileno(), out_end, err_end])
        os.close(out_end)
        os.close(err_end)
        self.stdout: IO[str] = os.fdopen(out, encoding="utf-8")
        self.stderr: IO[str] = os.fdopen(err, encoding="utf-8")
        self._readers: list[Reader] = []
        self.pid = answer_on(self._server)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None while the command runs."""
        return self.wait() if self.returncode is None and self._ends_within(0) else self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit code, negative after a signal."""
        if self.returncode is None:
            if not self._ends_within(timeout):
                raise subprocess.TimeoutExpired("cellssl", timeout or 0)
            self.returncode = answer_on(self._server)
            self._server.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read both streams to their ends, and wait for the end of the command; may be called again after a timeout."""
        if not self._readers:
            self._readers = [Reader(self.stdout), Reader(self.stderr)]
        self.wait(timeout)
        out, err = (reader.result() for reader in self._readers)
        return out, err

    def _ends_within(self, timeout: float | None) -> bool:
        return bool(select.select([self._server], [], [], timeout)[0])

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the command has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Reader(threading.Thread):
    """Reads a stream to its end."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(daemon=True)
        self._stream, self._text = stream, ""
        self.start()

    def run(self) -> None:
        """Read; a stream that is closed already gives nothing."""
        self._text = "" if self._stream.closed else self._stream.read()

    def result(self) -> str:
        """Wait for the end of the stream; return its text."""
        self.join()
        return self._text


RUN = "CELLSSL_TEST_RUN"
"""The variable that holds the pid of the test run, whose workers share one server."""
SERVERS: list[subprocess.Popen[bytes]] = []
"""The server, where this process has started it."""


@cache
def server() -> Path:
    """Return the socket of the server of this test run; start the server if there is none yet."""
    import fcntl

    of = os.environ.get(RUN, str(os.getpid()))
    folder = Path(tempfile.gettempdir()) / f"cellssl-tests-{os.getuid()}-{of}"
    folder.mkdir(mode=0o700, exist_ok=True)
    assert folder.stat().st_uid == os.getuid()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = folder / "socket"
        if not is_served(path):
            path.unlink(missing_ok=True)
            places = (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))
            here = {"PYTHONPATH": os.pathsep.join(filter(None, places)), "NO_COLOR": "1"}
            started = subprocess.Popen(
                [sys.executable, __file__, "--serve", str(path), of],
                env={**os.environ, **here},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C ends the test run, and its end the server
            )
            assert started.stdout is not None
            assert started.stdout.readline() == b"ready\n", "the server of commands ended"
            SERVERS.append(started)
    return path


def is_served(path: Path) -> bool:
    """Return whether a server listens; the socket of one that was killed is still there."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def program() -> str:
    """Return the words by which a shell runs `cellssl`."""
    words = [sys.executable, "-IS", __file__, str(server())] if POSSIBLE else [sys.executable, "-m", "cellssl"]
    return " ".join(map(shlex.quote, words))


def asked(path: Path | str, task: Task, streams: Sequence[int]) -> socket.socket:
    """Ask the server to run a command with these three streams; return the line on which pid and exit code come."""
    line = socket.socket(socket.AF_UNIX)
    line.connect(str(path))
    socket.send_fds(line, [b"\n"], streams)
    line.sendall(json.dumps(asdict(task)).encode())
    line.shutdown(socket.SHUT_WR)
    return line


def answer_on(line: socket.socket) -> int:
    """Read one number, and nothing beyond it, so that what follows shows on the socket."""
    digits = b""
    while not digits.endswith(b"\n"):
        piece = line.recv(1)
        assert piece, "the server of commands ended"
        digits += piece
    return int(digits)


def serve(path: Path, until: int) -> list[str]:
    """Fork for each command, and answer with its pid and its exit code; return in the child, with its words.

    Ends with the process `until`.
    """
    import gc
    import selectors

    import_all()
    gc.freeze()  # a child that collects garbage, as at its end, need not look at what was imported
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(64)
    print("ready", flush=True)  # noqa: T201 - whoever started the server waits for it
    chosen = selectors.DefaultSelector()
    chosen.register(listening, selectors.EVENT_READ)
    test_run = os.pidfd_open(until)
    chosen.register(test_run, selectors.EVENT_READ)
    running: dict[int, tuple[int, socket.socket]] = {}
    while True:
        for key, _ in chosen.select():
            if key.fd == test_run:
                shutil.rmtree(path.parent, ignore_errors=True)
                raise SystemExit
            if key.fileobj is listening:
                line, _ = listening.accept()
                task, streams = _received(line)
                if task is None:
                    continue
                pid = os.fork()
                if pid == 0:
                    others = [listening, line, *(other for _, other in running.values())]
                    for each in (*others, chosen):
                        each.close()
                    for handle in (test_run, *running):
                        os.close(handle)
                    return _prepared(task, streams)
                for stream in streams:
                    os.close(stream)
                _answer(line, pid)
                handle = os.pidfd_open(pid)
                chosen.register(handle, selectors.EVENT_READ)
                running[handle] = pid, line
            else:
                chosen.unregister(key.fd)
                pid, line = running.pop(key.fd)
                os.close(key.fd)
                _answer(line, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                line.close()


def _received(line: socket.socket) -> tuple[Task | None, list[int]]:
    """Return a task and its streams; no task from one who only asks whether somebody listens."""
    _, streams, _, _ = socket.recv_fds(line, 1, 3)
    with line.makefile("rb") as file:
        text = file.read()
    return Task(**json.loads(text)) if text else None, list(streams)


def _answer(line: socket.socket, number: int) -> None:
    """Send a number to whoever asked, who may have gone."""
    import contextlib

    with contextlib.suppress(OSError):
        line.sendall(f"{number}\n".encode())


def _prepared(task: Task, streams: list[int]) -> list[str]:
    """Give this process the streams, the environment and the folder of whoever asked; return the words."""
    if task.in_new_session:
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(task.environment)
    os.chdir(task.folder)
    return task.words


def import_all() -> None:
    """Import what commands need, and all of `cellssl`; optional libraries may be missing."""
    import contextlib
    import importlib
    import pkgutil

    for name in IMPORTED:
        importlib.import_module(name)
    for inner in pkgutil.walk_packages(sys.modules["cellssl"].__path__, "cellssl."):
        if not inner.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(inner.name)


def run_as_client(path: str, words: list[str]) -> int:
    """Run one command with the streams of this process; return its exit code. Signals are passed on."""
    server = asked(path, Task(words, dict(os.environ), str(Path.cwd())), [0, 1, 2])
    pid = answer_on(server)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.kill(pid, number))
    code = answer_on(server)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    if sys.argv[1] != "--serve":
        sys.exit(run_as_client(sys.argv[1], sys.argv[2:]))
    sys.argv[1:] = serve(Path(sys.argv[2]), int(sys.argv[3]))
    from cellssl.cli import main

    main()
