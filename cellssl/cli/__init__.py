"""cli: command-line arguments in, text and an exit code out; the only place that turns errors into text."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from types import FrameType


def main() -> None:
    """Run the program `cellssl`."""
    code = invoke(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # everything is printed: a signal from now on needs no message
    sys.exit(code)


def invoke(arguments: list[str]) -> int:
    """Run one command and return its exit code. Faults of our own keep their traceback."""
    from cellssl.cli.console import Console, enduring_streams
    from cellssl.disk import faults_explained
    from cellssl.errors import CellsslError, InterruptedByUserError
    from cellssl.rank import Rank

    _keep_matplotlib_out_of_home()
    for number in (signal.SIGINT, signal.SIGTERM):
        # a process that only assists has nothing to save or print; libraries swallow errors while they are imported
        signal.signal(number, _stop if Rank.from_environment().is_main else signal.SIG_DFL)
    with enduring_streams():
        try:
            from cellssl.cli.app import app

            with faults_explained(Path.cwd()):
                app(arguments, prog_name="cellssl")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except (CellsslError, InterruptedByUserError) as error:
            (Console.in_use or Console()).error(error)
            return error.exit_code
        return 0


def _keep_matplotlib_out_of_home() -> None:
    """Let matplotlib write its font list to a folder of ours below the temporary one, unless the user has set one.

    A folder that another user has put there is not used: matplotlib reads settings from it.
    """
    if "MPLCONFIGDIR" in os.environ:
        return
    folder = Path(os.environ.get("TMPDIR") or "/tmp") / f"cellssl-matplotlib-{os.getuid()}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        if not folder.is_symlink() and folder.stat().st_uid == os.getuid():
            os.environ["MPLCONFIGDIR"] = str(folder)


def _stop(number: int, frame: FrameType | None) -> None:
    """Stop at once on a signal; while long work runs, `signals.py` stops it gently instead."""
    from cellssl.errors import InterruptedByUserError

    name = signal.Signals(number).name
    raise InterruptedByUserError(f"stopped by {name}", "run the same command again to go on", exit_code=128 + number)
