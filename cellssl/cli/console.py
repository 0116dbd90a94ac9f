"""console: events in, lines and bars on stderr, one result line on stdout; the only place that prints."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

from cellssl.errors import CellsslError, InterruptedByUserError
from cellssl.events import Event, Note, Progress, Saved, StepDone

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

LINE_EVERY_S = 30.0
"""Without a terminal, so often one plain line says how far the work is."""


@dataclass
class Console:
    """Where words go; `quiet` leaves only the result and errors."""

    in_use: ClassVar[Console | None] = None
    """The one that was made last: errors go where everything else went, the log among it."""
    quiet: bool = False
    as_json: bool = False
    log: IO[str] | None = None
    log_as_json: bool = False
    _stage: str = ""
    _started_s: float = 0.0
    _first: tuple[float, int] | None = None
    _line_s: float = 0.0
    _bars: Bars | None = field(default=None, repr=False)
    _bar: Any = None

    def __post_init__(self) -> None:
        Console.in_use = self

    @contextmanager
    def working_on(self, stage: str) -> Iterator[None]:
        """Everything shown inside belongs to `stage`."""
        self._stage, self._started_s, self._first, self._bar = stage, time.monotonic(), None, None
        self._line_s = self._started_s - LINE_EVERY_S + 5  # the first line after 5 s
        with self._terminal_bars():
            yield

    def show(self, event: Event) -> None:
        """One event of long work."""
        match event:
            case Progress():
                self._advance(event.done, event.total, event.unit, event.note)
            case StepDone():
                self._advance(event.step, event.total, "steps", f"loss {event.metrics['loss']:.4f}")
            case Note():
                self.say(f"{self._stage}: {event.text}")
            case Saved():
                self._log_line("saved", {"step": event.step})

    def say(self, text: str) -> None:
        """One line for a person, on stderr and in the log."""
        self._log_line("note", {"text": text})
        if self.quiet:
            return
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            _print(text, sys.stderr)

    def result(self, line: str, details: dict[str, Any]) -> None:
        """The one line on stdout: a path, or with --json one object."""
        self._log_line("result", details)
        _print(json.dumps(details, sort_keys=True) if self.as_json else line, sys.stdout)

    def content(self, text: str) -> None:
        """A file's content on stdout, in place of the one line."""
        _print(text.removesuffix("\n"), sys.stdout)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], *, to_stdout: bool = False) -> None:
        """Columns, aligned."""
        widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
        for row in (header, ["-" * width for width in widths], *rows):
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            if to_stdout:
                _print(line, sys.stdout)
            else:
                self.say(line)

    def error(self, error: CellsslError | InterruptedByUserError) -> None:
        """What is wrong, and the cure."""
        self._log_line("error", {"message": error.message, "hint": error.hint, "exit_code": error.exit_code})
        _print(f"error: {error.message}", sys.stderr)
        if error.hint:
            _print(f"  cure: {error.hint}", sys.stderr)

    def _advance(self, done: int, total: int, unit: str, note: str) -> None:
        self._log_line("progress", {"done": done, "total": total, "unit": unit, "note": note})
        if self.quiet:
            return
        if self._bars is not None:
            if self._bar is None or self._bars.tasks[self._bar].fields["unit"] != unit:
                self._bar = self._bars.add_task(self._stage, total=total, unit=unit, note="")
            self._bars.update(self._bar, completed=done, total=total, note=note)
            return
        now = time.monotonic()
        if self._first is None or done < self._first[1]:
            self._first = (now, done)
        if now - self._line_s >= LINE_EVERY_S or (done == total and now - self._started_s > LINE_EVERY_S):
            self._line_s = now
            _print(f"{self._stage}: {_progress_line(done, total, unit, now, self._first)} {note}".rstrip(), sys.stderr)

    @contextmanager
    def _terminal_bars(self) -> Iterator[None]:
        if self.quiet or sys.stderr is None or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Bars(*columns, console=Terminal(stderr=True)) as self._bars:
            yield
        self._bars = None

    def _log_line(self, event: str, details: dict[str, Any]) -> None:
        if self.log is None:
            return
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.log_as_json:
            line = json.dumps({"time": stamp, "stage": self._stage, "event": event, **details}, default=str)
        else:
            line = f"{stamp} {self._stage} {event} " + " ".join(f"{key}={value}" for key, value in details.items())
        self.log.write(line + "\n")
        self.log.flush()


def open_log(path: Path | None) -> IO[str] | None:
    """The log file, to be added to; UsageError where it cannot be opened."""
    from cellssl.errors import UsageError

    if path is None:
        return None
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the log {path} cannot be written: {error.strerror}", hint="choose another --log-file"
        ) from error


def _progress_line(done: int, total: int, unit: str, now: float, first: tuple[float, int]) -> str:
    line = f"{done:,} of {total:,} {unit}"
    seconds, since = now - first[0], done - first[1]
    if since <= 0 or seconds <= 0:
        return line
    rate = since / seconds
    return f"{line}, {rate:,.1f} a second, {_time((total - done) / rate)} left;"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _print(text: str, stream: IO[str] | None) -> None:
    if stream is None:  # closed by whoever started us; print would take stdout for it
        return
    try:
        print(text, file=stream, flush=True)
    except UnicodeEncodeError:
        print(text.encode("ascii", "replace").decode(), file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # whoever read has gone; the work goes on
