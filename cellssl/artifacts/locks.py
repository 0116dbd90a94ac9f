"""locks: a path in, an exclusive lock on the artifact it names out, until the holder has finished or died."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cellssl.bounded import parse_json, read_bytes
from cellssl.disk import fault_number
from cellssl.errors import BusyError

HEARTBEAT_S = 10.0
LARGEST_BYTES = 10_000
STALE_S = 120.0
"""A holder on another machine that has given no heartbeat for so long counts as dead."""


@dataclass(frozen=True)
class LockHolder:
    """The process that holds a lock; boot id, number and start time distinguish it from later ones of that number."""

    host: str
    boot_id: str
    namespace: str
    pid: int
    started: str
    token: str


def this_process() -> LockHolder:
    """Return this process as a holder, with a new token."""
    return LockHolder(*_here(), os.getpid(), _start_of(os.getpid()), secrets.token_hex(8))


class Lock:
    """A lock file that this process holds."""

    def __init__(self, path: Path, holder: LockHolder) -> None:
        self.path = path
        self.holder = holder

    def check_held(self) -> None:
        """Raise BusyError where another process has taken over the lock."""
        if _read(self.path) != self.holder:
            raise BusyError(
                f"the lock {self.path} was taken over by another process",
                hint="this process gave no heartbeat for too long; run the same command again",
            )


@contextmanager
def hold_lock(
    path: Path,
    *,
    wait: bool,
    waiting: Callable[[LockHolder], None] = lambda _: None,
    cure: str = "wait until it is done, or run without --no-wait",
) -> Iterator[Lock]:
    """Hold the lock at `path`; wait for a living holder, and take over from a dead one.

    `waiting` is called with the holder while this process waits. Raises BusyError with the `cure` at once where `wait`
    is False and a living process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(path, this_process())
    while not _create(path, lock.holder):
        other = _read(path)
        if other is None and path.exists() and _age_s(path) < STALE_S:
            time.sleep(0.05)  # another process is writing or releasing it
        elif other is None or not _alive(other, path):
            _set_aside(path, other)
        elif not wait:
            raise BusyError(
                f"process {other.pid} on {other.host} is making {path.name.removesuffix('.lock').strip('.')}",
                hint=cure,
            )
        else:
            waiting(other)
            time.sleep(0.2)
    stop = threading.Event()
    heartbeat = threading.Thread(target=_heartbeat, args=(lock, stop), daemon=True)
    heartbeat.start()
    try:
        yield lock
    finally:
        stop.set()
        heartbeat.join()
        if _read(path) == lock.holder:
            path.unlink(missing_ok=True)


def is_locked(path: Path) -> bool:
    """Return whether a living process holds the lock at `path`, or is just writing it."""
    other = _read(path)
    if other is None:
        return path.exists() and _age_s(path) < STALE_S
    return _alive(other, path)


def _create(path: Path, holder: LockHolder) -> bool:
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    try:
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(asdict(holder)))
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)  # a full disk; an empty lock would make all processes wait
        error.filename = error.filename or str(path)
        raise
    return True


def _read(path: Path) -> LockHolder | None:
    try:
        return LockHolder(**parse_json(read_bytes(path, LARGEST_BYTES).decode("utf-8")))
    except OSError as error:
        if fault_number(error) not in (None, errno.ESTALE):  # a failing disk says nothing about who holds the lock
            raise
        return None
    except (ValueError, TypeError):
        return None


def _set_aside(path: Path, dead: LockHolder | None) -> None:
    """Rename the lock of a dead holder away; of many waiting processes one does, and a new lock is not touched."""
    with _one_at_a_time(path.parent):
        if _read(path) != dead or (dead is None and _age_s(path) < STALE_S):
            return
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            path.rename(aside)
        except FileNotFoundError:
            return
        moved = _read(aside)
        if (
            moved is not None and moved != dead
        ):  # without a working flock, the rename may have hit the lock of a new holder
            with contextlib.suppress(FileExistsError):
                _create(path, moved)
        aside.unlink(missing_ok=True)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process at a time read and rename the lock of a dead holder; the kernel frees it if it dies here."""
    with (folder / ".takeover").open("a") as guard:
        with contextlib.suppress(OSError):  # some file systems have no flock
            fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def _alive(other: LockHolder, path: Path) -> bool:
    if (other.host, other.boot_id, other.namespace) == _here():
        return _start_of(other.pid) == other.started
    # another machine (perhaps of the same name), a container on this one, or this one before a restart
    return _age_s(path) < STALE_S


def _age_s(path: Path) -> float:
    """Return the seconds since the lock was last touched, by the clock of the file system."""
    probe = path.with_name(f".clock.{secrets.token_hex(4)}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def _heartbeat(lock: Lock, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        with contextlib.suppress(OSError):
            if _read(lock.path) == lock.holder:
                os.utime(lock.path)


def _here() -> tuple[str, str, str]:
    """Return host, boot id and PID namespace, within which process numbers are unique."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return socket.gethostname(), boot_id, str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return socket.gethostname(), "", ""


def _start_of(pid: int) -> str:
    """Return the start time of a process as the kernel gives it; "" where it does not run (zombies included)."""
    try:
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return "" if state in ("Z", "X") else numbers[18]
    except OSError:
        return "" if Path("/proc/self").exists() else _start_without_proc(pid)


def _start_without_proc(pid: int) -> str:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "alive"
