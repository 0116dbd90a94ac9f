"""console: events in, lines and bars on stderr, one result line on stdout; the only place that prints."""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, TextIO, cast

from cellssl.cli.bars import Bar
from cellssl.cli.columns import WIDTH, aligned, columns_of
from cellssl.cli.notes import Notes
from cellssl.durations import in_words
from cellssl.errors import CellsslError, FailedError, InterruptedByUserError
from cellssl.events import Event, Note, PlatesDone, PlateStarted, Progress, Saved, Started, StepDone, Transfer

if TYPE_CHECKING:
    from cellssl.cli.bars import Bars

LINE_EVERY_S = 30.0
"""Seconds between two plain lines of progress, where there is no terminal, and in a text log."""
LOOK_EVERY_S = 5.0
"""Seconds between two looks whether such a line is due although nothing has happened."""
EVENT_EVERY_S = 1.0
"""Seconds between two progress events in a JSON log; a training has more steps than a log needs."""
MOST_TRANSFERS = 4
"""Files that are being transferred and have a bar of their own, below that of their work."""
WITHOUT_LOG = "the work goes on without it"


@dataclass
class Count:
    """How far some counted work is, and since when it has been counted."""

    done: int
    total: int
    unit: str
    note: str = ""
    first: tuple[float, int] = (0.0, 0)
    """When the count began, and how far it was."""
    seen_s: float = 0.0

    def pace(self) -> dict[str, float]:
        """Return units per second and seconds left; empty until known."""
        return _pace(self.done, self.total, self.seen_s, self.first)


@dataclass(eq=False)
class Work:
    """One piece of work that is shown, and how far it is."""

    stage: str
    arm: str = ""
    seed: int | None = None
    title: str = ""
    """What its lines begin with."""
    started_s: float = field(default_factory=time.monotonic)
    number: int = field(default_factory=itertools.count().__next__)
    """Which work it is, of all of this process."""
    counts: dict[str, Count] = field(default_factory=dict)
    """How far it is, by unit."""
    now: Count | None = None
    """The count that came last."""
    plate: PlateStarted | None = None
    """The plate that it is at, of several."""
    first_plate_s: float | None = None
    plate_s: float = 0.0
    """When the first plate and this one began."""
    line_s: float = 0.0
    last_line: str = ""
    """The last line of progress, printed or not, and when it came."""
    advanced_s: float = 0.0
    logged_s: float = -math.inf
    """When progress was last written to the log: the first one is written at once."""
    transfers: dict[str, Count] = field(default_factory=dict)
    """Files that are being transferred, by name."""

    def __post_init__(self) -> None:
        self.line_s = self.started_s - LINE_EVERY_S + 5  # the first line after 5 s

    def names(self) -> dict[str, str | int]:
        """Return what a line of a log for machines says of it."""
        more = {"arm": self.arm, "seed": self.seed, "plate": None if self.plate is None else self.plate.plate}
        return {"stage": self.stage, **{name: value for name, value in more.items() if value not in ("", None)}}

    def name(self) -> str:
        """Return its name among all works of a recipe."""
        return stage_title(self.stage, self.arm, self.seed)

    def heading(self) -> str:
        """Return its title, with the plate that it is at where there are several."""
        at = self.plate
        return self.title if at is None or at.total < 2 else f"{self.title} {at.plate} ({at.number} of {at.total})"

    def begin_plate(self, plate: PlateStarted | PlatesDone) -> None:
        """Begin to count anew, for another plate, or for all of them together."""
        self.plate_s = time.monotonic()
        self.first_plate_s = self.plate_s if self.first_plate_s is None else self.first_plate_s
        self.plate, self.now = plate if isinstance(plate, PlateStarted) else None, None
        self.counts.clear()

    def count(self, done: int, total: int, unit: str, note: str) -> Count:
        """Take a new count; one that falls, or has another total, is that of something else, such as another plate."""
        now, known = time.monotonic(), self.counts.get(unit)
        if known is None or done < known.done or total != known.total:
            known = self.counts[unit] = Count(done, total, unit, first=(now, done))
        known.done, known.note, known.seen_s = done, note, now
        self.now = known
        return known

    def line_at(self, now: float) -> str:
        """Return the last line of progress, without a promise of a time that has passed."""
        at = self.now
        if at is None:
            return self.last_line
        pace = at.pace()
        if pace and pace["left_s"] < now - at.seen_s:
            pace = {}
        return self.line_of(at, pace)

    def line_of(self, count: Count, pace: dict[str, float]) -> str:
        """Return a line of progress."""
        return f"{self.heading()}: {_progress_line(count.done, count.total, count.unit, pace)} {count.note}".rstrip()

    def left_s(self, now: float) -> float | None:
        """Return how long it will take to its end, all plates included; None where that is not known."""
        if self.now is None or self.now.total < 2 or self.now.done >= self.now.total:
            return None
        left = self.now.pace().get("left_s")
        if left is None:
            return None
        left -= now - self.now.seen_s
        if self.plate is None:
            return left if left >= 0 else None  # it takes longer than what was counted before: how long is not known
        left = max(0.0, left)
        passed, more = self.plate.number - 1, self.plate.total - self.plate.number
        first_s = self.plate_s if self.first_plate_s is None else self.first_plate_s
        each = (self.plate_s - first_s) / passed if passed else now - self.plate_s + left
        return left + more * each

    def bars(self, now: float) -> list[Bar]:
        """Return its bar, and those of files that are being transferred."""
        at = self.now or Count(0, 0, "")
        bar = Bar(self.heading(), at.done, at.total, at.unit, at.note, now - self.started_s, self.left_s(now))
        files = [
            Bar(f"  {name}", one.done, one.total, one.unit, "", now - one.first[0], pace.get("left_s"), speed)
            for name, one in list(self.transfers.items())[:MOST_TRANSFERS]
            for pace in [one.pace()]
            for speed in [pace.get("per_second")]
        ]
        return [bar, *files]


def stage_title(stage: str, arm: str, seed: int | None) -> str:
    """Return what people call the making of one stage."""
    return f"{stage} {arm}" + ("" if seed is None else f" seed {seed}")


@dataclass
class Console:
    """Prints messages, progress, the result line and errors; `quiet` prints only the result and errors."""

    in_use: ClassVar[Console | None] = None
    """The console made last: errors go where everything else went, into its log too."""
    quiet: bool = False
    as_json: bool = False
    log: IO[str] | None = None
    log_as_json: bool = False
    _works: list[Work] = field(default_factory=list)
    """What is being worked on."""
    _last: Work = field(default_factory=lambda: Work(""))
    """The work that began last: what is said between two works belongs to it in the log."""
    _beforehand: set[str] = field(default_factory=set)
    """Sentences that were said before any work: on stderr, a stage does not say them again."""
    _notes: Notes = field(default_factory=Notes)
    """What stages have said: on stderr, those of other plates, arms and seeds do not repeat it."""
    _ended: threading.Event = field(default_factory=threading.Event, repr=False)
    _bars: Bars | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        Console.in_use = self

    @contextmanager
    def working_on(self, stage: str, arm: str = "", seed: int | None = None, *, beside: bool = False) -> Iterator[Work]:
        """Show events as part of `stage`; with `beside` lines name the arm, because other work is shown as well."""
        work = Work(stage, arm, seed, stage_title(stage, arm, seed) if beside else stage)
        if not self._works:
            self._ended = threading.Event()
            arguments = (self._ended,)
            threading.Thread(target=self._repeat_until, args=arguments, name="still working", daemon=True).start()
            self._show_bars()
        self._works.append(work)
        self._last = work
        try:
            yield work
        finally:
            self._works.remove(work)
            if not self._works:
                self._end_bars()
            for line in self._notes.at_end(work.number, work.title):
                self._print_line(line)

    def _end_bars(self) -> None:
        """Take the bars away: nothing is being worked on."""
        self._ended.set()
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _repeat_until(self, ended: threading.Event) -> None:
        """Print a line every 30 s also while a single step takes minutes; bars of a terminal move by themselves."""
        while not ended.wait(LOOK_EVERY_S):
            now = time.monotonic()
            for work in list(self._works):
                if not work.last_line or now - max(work.line_s, work.advanced_s) < LINE_EVERY_S:
                    continue
                work.line_s = now
                if self._bars is None and not self.quiet:
                    _print(f"{work.line_at(now)} (for {in_words(now - work.advanced_s)})", sys.stderr)

    def show_reading(self, events: Iterable[Event]) -> None:
        """Show how far files have been read: as part of the work that is shown, or as work of its own."""
        with nullcontext() if self._works else self.working_on("reading"):
            for event in events:
                self.show(event)

    def show(self, event: Event, work: Work | None = None) -> None:
        """Show one event of some work, by default of that which began last."""
        work = work or self._last
        match event:
            case Started():
                work.line_s = -math.inf  # shown at once: the next event may be minutes away
                work.logged_s = -math.inf
                self._advance(work, event.done, event.total, event.unit, event.note)
            case Progress():
                self._advance(work, event.done, event.total, event.unit, event.note)
            case StepDone():
                self._advance(work, event.step, event.total, "steps", f"loss {event.metrics['loss']:.4f}")
            case PlateStarted() | PlatesDone():
                work.begin_plate(event)
            case Transfer():
                self._transfer(work, event)
            case Note():
                self._note(event, work)
            case Saved():
                self._log_line("saved", {"step": event.step}, work)

    def say_beforehand(self, sentence: str, text: str) -> None:
        """Print a line before any work; the stages that find this sentence again do not repeat it."""
        self._beforehand.add(sentence)
        self.say(text)

    def _note(self, note: Note, work: Work) -> None:
        self._log_line("note", {"text": f"{work.title}: {note.text}"}, work)
        if note.text not in self._beforehand and self._notes.is_new(note, work.number, work.name()):
            self._print_line(f"{work.title}: {note.text}")

    def say(self, text: str, work: Work | None = None) -> None:
        """Print one line for people on stderr and in the log."""
        self._log_line("note", {"text": text}, work)
        self._print_line(text)

    def _print_line(self, text: str, *, wrap: bool = True) -> None:
        if self.quiet:
            return
        if wrap:
            text = _in_lines(text, columns_of(sys.stderr))
        if self._bars is not None:
            self._bars.print(text)
        else:
            _print(text, sys.stderr)

    def result(self, line: str, details: dict[str, Any]) -> None:
        """Print the one line of stdout: a path, or one object with --json."""
        self._log_line("result", details)
        _print(json.dumps(details, sort_keys=True) if self.as_json else line, sys.stdout)

    def content(self, text: str) -> None:
        """Print the content of a file on stdout, in place of the one line."""
        _print(text.removesuffix("\n"), sys.stdout)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], *, to_stdout: bool = False) -> None:
        """Print aligned columns."""
        self.lines(aligned(header, rows), to_stdout=to_stdout)

    def width(self, *, of_stdout: bool = False) -> int:
        """Return the characters of a line: 80, or fewer where the terminal is narrower."""
        return min(WIDTH, columns_of(sys.stdout if of_stdout else sys.stderr) or WIDTH)

    def lines(self, lines: Sequence[str], *, to_stdout: bool = False) -> None:
        """Print lines for people, on stderr or as what a command was asked for."""
        for line in lines:
            if to_stdout:
                _print(line, sys.stdout)
            else:
                self._log_line("note", {"text": line})
                self._print_line(line, wrap=False)

    def error(self, error: CellsslError | InterruptedByUserError) -> None:
        """Print what is wrong, and the cure."""
        self._log_line("error", {"message": error.message, "hint": error.hint, "exit_code": error.exit_code})
        _print(f"error: {error.message}", sys.stderr)
        if error.hint:
            _print(f"  cure: {error.hint}", sys.stderr)

    def _advance(self, work: Work, done: int, total: int, unit: str, note: str) -> None:
        count = work.count(done, total, unit, note)
        now, pace = count.seen_s, count.pace()
        self._log_progress(work, {"done": done, "total": total, "unit": unit, "note": note, **pace}, now)
        if self.quiet or self._bars is not None:
            return
        work.last_line = work.line_of(count, pace)
        work.advanced_s = now
        if now - work.line_s >= LINE_EVERY_S or (done == total and now - work.started_s > LINE_EVERY_S):
            work.line_s = now
            _print(work.last_line, sys.stderr)

    def _log_progress(self, work: Work, details: dict[str, Any], now: float) -> None:
        every = EVENT_EVERY_S if self.log_as_json else LINE_EVERY_S
        if details["done"] == details["total"] or now - work.logged_s >= every:
            work.logged_s = now
            self._log_line("progress", details, work)

    def _transfer(self, work: Work, event: Transfer) -> None:
        """Note how far a file is; in a terminal it has a bar of its own until it is complete."""
        name, now = event.file.rsplit("/", 1)[-1], time.monotonic()
        if event.done >= event.total:
            work.transfers.pop(name, None)
            return
        one = work.transfers.setdefault(name, Count(event.done, event.total, "bytes", first=(now, event.done)))
        one.done, one.seen_s = event.done, now

    def _show_bars(self) -> None:
        """Begin to show bars, where there is a terminal in which they can be drawn."""
        if self.quiet or sys.stderr is None or not sys.stderr.isatty():
            return
        from rich.console import Console as Terminal

        from cellssl.cli.bars import Bars

        terminal = Terminal(stderr=True)
        if terminal.is_dumb_terminal:
            return
        self._bars = Bars(terminal, self._all_bars)
        self._bars.start()

    def _all_bars(self) -> list[Bar]:
        now = time.monotonic()
        return [bar for work in list(self._works) for bar in work.bars(now)]

    def _log_line(self, event: str, details: dict[str, Any], work: Work | None = None) -> None:
        """Write to the log; stop logging where it cannot be written, and go on."""
        if self.log is None:
            return
        work = work or self._last
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.log_as_json:
            line = json.dumps({"time": stamp, **work.names(), "event": event, **details}, default=str)
        else:
            line = f"{stamp} {_in_plain_words(work.title, event, details)}"
        try:
            self.log.write(line + "\n")
            self.log.flush()
        except OSError as error:
            given_up, self.log = self.log, None
            with suppress(OSError):  # an unwritten rest would be tried, and fail, again at the end
                given_up.close()
            self.say(f"the log {given_up.name} cannot be written any more: {error.strerror}; {WITHOUT_LOG}")


def open_log(path: Path | None) -> IO[str] | None:
    """Open the log file for appending; UsageError where that is not possible.

    A log is no result: where its disk is full or fails, the work goes on without it, as it does later.
    """
    from cellssl.disk import fault_number
    from cellssl.errors import UsageError

    if path is None:
        return None
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        if fault_number(error) is not None:
            _print(f"the log {path} cannot be written: {error.strerror}; {WITHOUT_LOG}", sys.stderr)
            return None
        raise UsageError(
            f"the log {path} cannot be written: {error.strerror}", hint="choose another --log-file"
        ) from error


def _in_plain_words(stage: str, event: str, details: dict[str, Any]) -> str:
    match event:
        case "note":
            return str(details["text"])
        case "progress":
            words = _progress_line(details["done"], details["total"], details["unit"], details)
            return f"{stage}: {words} {details['note']}".rstrip()
        case "result" if "path" in details:  # its numbers are in the card
            return f"{stage}: result {details['path']}"
        case _:
            pairs = " ".join(f"{key}={value}" for key, value in details.items())
            return f"{stage}: {event} {pairs}" if stage else f"{event} {pairs}"


def _pace(done: int, total: int, now: float, first: tuple[float, int]) -> dict[str, float]:
    """Return units per second since the first event, and the seconds left at that rate, as text; empty until known."""
    seconds, since = now - first[0], done - first[1]
    if since <= 0 or seconds <= 0:
        return {}
    return {"per_second": round(since / seconds, 3), "left_s": round((total - done) * seconds / since, 1)}


def _progress_line(done: int, total: int, unit: str, pace: dict[str, float]) -> str:
    if unit == "bytes":
        line = f"{done / 1e6:,.1f} of {total / 1e6:,.1f} MB"
    else:
        line = f"{done:,} of {total:,} {unit}"
    if "left_s" not in pace:
        return line
    speed = pace["per_second"]
    rate = f"{speed / 1e6:,.2f} MB" if unit == "bytes" else f"{speed:,.1f}"
    return f"{line}, {rate} a second, {in_words(pace['left_s'])} left;"


@contextmanager
def enduring_streams() -> Iterator[None]:
    """Replace stdout and stderr by streams whose faults do not end the work, also when a library writes to them."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and cast("TextIO", Enduring(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class Enduring:
    """A stream whose reader may close it and whose disk may be full; after that, what is written to it is dropped.

    Raises FailedError, once, where stdout takes nothing: a result that cannot be printed is a failure.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._is_stdout = stream, stream is sys.stdout

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As a stream does."""
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """As a stream does."""
        self._try(self._stream.flush)

    def _try(self, do: Callable[..., object], *given: str) -> None:
        try:
            do(*given)
        except BrokenPipeError:
            self._give_up()
        except OSError as error:
            self._give_up()
            if self._is_stdout:
                raise FailedError(
                    f"stdout cannot be written: {error.strerror}",
                    hint="free some space on the disk that it is written to; finished results are kept",
                ) from error

    def _give_up(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def _in_lines(text: str, width: int) -> str:
    """Return a sentence in lines that a terminal need not break within a word; paths stay whole."""
    if len(text) <= width or not width:
        return text
    return textwrap.fill(
        text, width - 1, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )


def _print(text: str, stream: IO[str] | None) -> None:
    """Print a text and flush the stream; characters that its encoding lacks are replaced."""
    if stream is None:  # closed by whoever started us; print would take stdout for it
        return
    try:
        print(text, file=stream, flush=True)
    except UnicodeEncodeError:
        print(text.encode("ascii", "replace").decode(), file=stream, flush=True)
