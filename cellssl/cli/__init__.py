"""cli: command-line arguments in, text and an exit code out; the only place that turns errors into text."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cellssl.cli.signals import SignalWatch
    from cellssl.errors import CellsslError, InterruptedByUserError


SPIN_COUNT = "10000"
"""How often a waiting thread looks for work before it sleeps, which takes well below a millisecond. On two idle cores a
float32 step of VGG11, ResNet18 or a wide `small` takes as long as with the default of 300,000; of two processes at once
each step takes 2.2 times as long, and with the default 5.8 times. In bfloat16 oneDNN's threads wait in its own way."""

NO_HOME = "/nonexistent"
"""The home directory of users who have none, as Debian writes it."""


NOT_ON_WINDOWS = (
    "cellssl runs on Linux and macOS; on Windows, install and run it inside WSL (Windows Subsystem for Linux)"
)


def main() -> None:
    """Run the program `cellssl`."""
    if sys.platform == "win32":
        sys.stderr.write(f"error: {NOT_ON_WINDOWS}\n")
        sys.exit(2)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end_at_once)  # until the modules that know better are loaded
    code = invoke(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # everything is printed: a signal from now on needs no message
    sys.exit(code)


def invoke(arguments: list[str]) -> int:
    """Run one command and return its exit code. Faults of our own keep their traceback."""
    from cellssl.cli.signals import SignalWatch
    from cellssl.errors import InterruptedByUserError
    from cellssl.rank import Rank

    watch = SignalWatch()
    if not Rank.from_environment().is_main:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # a process that only assists has nothing to save or print
        return _run_command(arguments, watch)
    try:
        with watch.watching():
            return _run_command(arguments, watch)
    except InterruptedByUserError as error:  # while streams and handlers are set up or taken down
        return _printed(error, watch)


def _run_command(arguments: list[str], watch: SignalWatch) -> int:
    from cellssl.cli.console import enduring_streams
    from cellssl.cli.signals import interrupted
    from cellssl.errors import CellsslError, InterruptedByUserError

    with enduring_streams():
        try:
            code = _code_of(arguments)
            watch.begin_to_end()
        except (CellsslError, InterruptedByUserError) as error:
            return _printed(error, watch)
        except Exception:
            if not watch.has_raised or watch.number is None:
                raise
            return _printed(interrupted(watch.number), watch)  # a library made another one of a signal's exception
        return code


def _printed(error: CellsslError | InterruptedByUserError, watch: SignalWatch) -> int:
    """Print an error, unless the end of the command has been printed already; return its exit code."""
    from cellssl.cli.console import Console

    if watch.begin_to_end():
        (Console.in_use or Console()).error(error)
    return error.exit_code


def _code_of(arguments: list[str]) -> int:
    """Run one command; return the exit code of a command that exits by itself, such as --help."""
    from cellssl.disk import faults_explained

    _check_words(arguments)
    _have_a_home()
    _keep_caches_out_of_home()
    _let_waiting_threads_sleep()
    try:
        from cellssl.cli.app import app

        with faults_explained(Path.cwd()):
            app(arguments, prog_name="cellssl")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


def _check_words(arguments: list[str]) -> None:
    """Raise UsageError for an empty word, which a shell makes of a variable that is not set.

    As a path it would mean the current folder.
    """
    from cellssl.errors import UsageError

    for before, word in zip(["", *arguments], arguments, strict=False):
        flag, _, value = word.partition("=")
        is_flag = flag.startswith("--") and "=" in word
        if word == "" or (is_flag and value == ""):
            flag = flag if is_flag else before if before.startswith("-") else ""
            raise UsageError(
                f"{flag} was given nothing" if flag else "an argument is empty",
                hint="give it a value, or leave it out; in a shell, perhaps a variable is not set",
            )


def _have_a_home() -> None:
    """Name a home directory where the system knows none: the users of a container often have no entry in its passwd.

    Libraries fail without one (cellpose), or write to a folder `~` of the current one (numba).
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = NO_HOME


def _keep_caches_out_of_home() -> None:
    """Let matplotlib write its font list below the temporary folder, and numba its code where home cannot be written.

    What the user has set stays.
    """
    names = {"MPLCONFIGDIR": "matplotlib"}
    if not os.access(Path.home(), os.W_OK):
        names["NUMBA_CACHE_DIR"] = "numba"
    for variable, name in names.items():
        if variable not in os.environ and (folder := _own_temporary_folder(f"cellssl-{name}-{os.getuid()}")):
            os.environ[variable] = str(folder)


def _own_temporary_folder(name: str) -> Path | None:
    """Return a folder below the temporary one that only this user can write, or None.

    A folder that another user has put there is not used: matplotlib reads settings from it, and numba code.
    """
    folder = Path(os.environ.get("TMPDIR") or "/tmp") / name
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        if not folder.is_symlink() and folder.stat().st_uid == os.getuid():
            return folder
    return None


def _let_waiting_threads_sleep() -> None:
    """Let threads of OpenMP that wait for each other sleep soon, unless the user has said how they wait.

    By default they look for work for milliseconds first, on a core that another process could use meanwhile; and where
    the thread that they wait for has lost its core, they keep it from coming back. GNU's OpenMP reads this when torch
    is loaded.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT


def _end_at_once(number: int, frame: FrameType | None) -> None:
    """End on a signal that comes before anything has begun."""
    os.write(2, f"error: stopped by {signal.Signals(number).name}; nothing had begun\n".encode())
    os._exit(128 + number)
