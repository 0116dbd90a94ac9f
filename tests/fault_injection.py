"""fault_injection: a command and a plan in, how it ended out, after its n-th call on a folder failed as on a bad disk.

A process with `failing_disk.c` preloaded imports everything once. It forks for each command, so a command starts in
milliseconds, runs to its last finaliser, and fails also in C libraries and in worker processes.
"""

import contextlib
import errno
import importlib
import json
import os
import pkgutil
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CALLS = (
    "write", "read", "open", "create", "rename", "fsync", "close", "mkdir", "remove", "reserve", "stat", "list",
)  # fmt: skip
HOW = ("once", "every", "from then on")
FULL = ("ENOSPC", "EDQUOT", "EIO")
ERRORS = {
    "write": FULL, "create": (*FULL, "EROFS", "EACCES"), "rename": (*FULL, "EROFS", "EACCES", "ESTALE"),
    "fsync": FULL, "close": FULL, "mkdir": (*FULL, "EROFS", "EACCES"), "remove": ("EIO", "EROFS", "EACCES"),
    "reserve": (*FULL, "EOPNOTSUPP"), "read": ("EIO", "ESTALE"), "open": ("EIO", "ESTALE"), "stat": ("EIO", "ESTALE"),
    "list": ("EIO", "ESTALE"),
}  # fmt: skip
"""What each call can fail with, on disks that are full, failing, read-only or far away."""
LAYOUT = struct.Struct("<IIiIQQ12Q1024s1024s")
LIMIT_S = 120
EVERYTHING = (
    "cellssl", "matplotlib.pyplot", "pyarrow.parquet", "sklearn.cluster", "sklearn.linear_model", "skimage.measure",
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """Which call on files below `below` fails: the n-th, every n-th, or all from the n-th on."""

    call: str
    nth: int
    error: str
    below: Path
    how: str = "once"

    def packed(self) -> bytes:
        number = getattr(errno, self.error)
        folder = os.fsencode(self.below)
        how = 1, 1 << CALLS.index(self.call), number, HOW.index(self.how), self.nth
        return LAYOUT.pack(*how, *(0 for _ in range(13)), folder, b"")

    def __str__(self) -> str:
        return f"{self.call} {self.how} {self.nth} {self.error}"


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what the disk did to it."""

    code: int
    out: str
    err: str
    counted: dict[str, int]
    failed: int
    first: str


class FailingDisk:
    """Runs commands on a disk that fails as planned."""

    def __init__(self, folder: Path, imports: Sequence[str]) -> None:
        self._folder, self._plan = folder, folder / "plan"
        library = folder / "failing_disk.so"
        source = Path(__file__).with_name("failing_disk.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self._plan.write_bytes(bytes(LAYOUT.size))
        here = {"PYTHONPATH": str(Path(__file__).parents[1]), "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
        preloaded = {"LD_PRELOAD": str(library), "FAILING_DISK": str(self._plan)}
        command = [sys.executable, __file__, str(self._plan), str(folder), *imports]
        self._server = subprocess.Popen(
            command, env={**os.environ, **here, **preloaded}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, *words: object, fault: Fault | None = None) -> Ended:
        """Run one command to its end."""
        assert self._server.stdin is not None and self._server.stdout is not None
        plan = "" if fault is None else fault.packed().hex()
        self._server.stdin.write(json.dumps({"words": [str(word) for word in words], "plan": plan}) + "\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline()
        assert answer, "the server of the failing disk ended"
        out, err = (self._folder.joinpath(name).read_text(errors="replace") for name in ("out", "err"))
        _, _, _, _, _, failed, *counted, _, first = LAYOUT.unpack(self._plan.read_bytes())
        calls = dict(zip(CALLS, counted, strict=True))
        return Ended(int(answer), out, err, calls, failed, first.rstrip(b"\0").decode(errors="replace"))

    def close(self) -> None:
        """End the server."""
        self._server.communicate()


@contextlib.contextmanager
def failing_disk(folder: Path, imports: Sequence[str] = EVERYTHING) -> Iterator[FailingDisk]:
    """Start the process that runs commands, with these packages imported, and all modules of folders in them.

    Skips the test where there is no C compiler, or no Linux.
    """
    import pytest

    if shutil.which("cc") is None or not sys.platform.startswith("linux"):
        pytest.skip("faults of disks are made by a small C library; this machine has no C compiler, or is no Linux")
    folder.mkdir(parents=True, exist_ok=True)
    disk = FailingDisk(folder, imports)
    try:
        yield disk
    finally:
        disk.close()


def _serve(plan: Path, folder: Path, imports: Sequence[str]) -> list[str]:
    """Fork for each command, and answer with its exit code; return in the child, with its words."""
    for name in imports:
        _import(name)
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if child == 0:
            os.setsid()
            for number, name in ((0, os.devnull), (1, folder / "out"), (2, folder / "err")):
                handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
                os.dup2(handle, number)
            _write_in_place(plan, bytes.fromhex(task["plan"]) or bytes(LAYOUT.size))
            return list(task["words"])
        print(_wait(child, plan), flush=True)  # noqa: T201 - the answer
    raise SystemExit


def _wait(child: int, plan: Path) -> int:
    """Return the exit code of a child, which is killed after some time; then the disk works again."""
    latest = time.monotonic() + LIMIT_S
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > latest:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.005)
    _write_in_place(plan, bytes(4))
    return os.waitstatus_to_exitcode(status)


def _write_in_place(plan: Path, content: bytes) -> None:
    """Write without truncation: processes have mapped the file."""
    with plan.open("r+b") as file:
        file.write(content)


def _import(name: str) -> None:
    """Import a module, and where it is `cellssl` all of it; optional libraries may be missing."""
    with contextlib.suppress(ImportError):
        module = importlib.import_module(name)
        for inner in pkgutil.walk_packages(module.__path__, "cellssl.") if name == "cellssl" else ():
            if not inner.name.endswith("__main__"):
                _import(inner.name)


def make_small_artifact(root: Path) -> None:
    """Find or make a result out of the files that need no large library, its pointer and its copies."""
    import numpy as np

    from cellssl.artifacts.card import Card
    from cellssl.artifacts.crops import reserve_crops, write_crops, write_rows
    from cellssl.artifacts.export import copy_card, copy_files
    from cellssl.artifacts.store import Store
    from cellssl.files import save_array, save_arrays, write_text

    store, name, crops = Store(root), "0123456789ab", np.arange(96, dtype=np.uint16).reshape(6, 1, 4, 4)
    made = store.find("split", name)
    if made is None:
        with store.drafting("split", name) as draft:
            outside = {"table": store.hashes.sha256(Path(__file__))}
            save_array(draft.scratch() / "half.npy", crops)
            save_arrays(draft.file("all.npz"), {"crops": crops})
            write_crops(draft.file("crops.npy"), [crops[:2], crops[2:]], crops.shape)
            reserve_crops(draft.file("rows.npy"), (6, 1, 4, 4))
            write_rows(draft.file("rows.npy"), 2, crops[2:])
            write_text(draft.extra("log.txt"), "log")
            draft.file("deep/counts.json").write_text("{}", encoding="utf-8")
            made = draft.commit(Card("split", 1, name, {}, {}, outside, {}))
    store.write_pointer("recipe", "main", None, "split", made)
    copy_files(made, root / "copy")
    copy_card(made, root / "card.json")


def _make_small_artifact(root: Path) -> None:
    """Do it as the command line does."""
    from cellssl.cli.console import Console
    from cellssl.disk import faults_explained
    from cellssl.errors import CellsslError

    try:
        with faults_explained(root):
            make_small_artifact(root)
    except CellsslError as error:
        Console().error(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    sys.argv[1:] = _serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    if sys.argv[1] == "small":
        _make_small_artifact(Path(sys.argv[2]))
    else:
        from cellssl.cli import main

        main()
