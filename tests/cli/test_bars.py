"""bars: one line per work that fits the terminal, moves on every plate, and is gone at the end."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

import pytest
from chain import ENVIRONMENT, RECIPE

from cellssl.cli import console
from cellssl.cli.bars import Bar, lines
from cellssl.cli.columns import fitted, shortened
from cellssl.cli.console import Work
from cellssl.cli.notes import Notes
from cellssl.events import Note, PlateStarted

CROPS = 'crop_px = 48\nmethod = "watershed"'  # the default would load torch
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
WORKS = [
    Bar("pretrain sum seed 0", 1234, 10_000, "steps", "loss 4.1234", 720.0, 9_000.0),
    Bar("segment Week1_22123 (2 of 12)", 5, 60, "fields", "Week1_22123_B02_s1", 3.0, 130.0),
    Bar("cluster a-long-name-of-an-arm seed 2", 0, 1, "montage", "", 65.0),
]


@pytest.mark.parametrize("width", [40, 60, 79, 200])
@pytest.mark.parametrize("works", [WORKS[:1], WORKS[1:], WORKS])
def test_no_line_is_wider_than_the_terminal_and_all_begin_with_what_is_done(width: int, works: list[Bar]) -> None:
    drawn = [one.text() for one in lines(works, width, now_s=1.0)]
    assert len(drawn) == len(works) and max(map(len, drawn)) <= width
    assert all(line.startswith(one.title[:6]) for line, one in zip(drawn, works, strict=True))


def test_times_bear_their_names_and_a_count_of_one_is_not_shown() -> None:
    counted, single = (one.text() for one in lines(WORKS[1:], 110, now_s=1.0))
    assert "5/60 fields  3 s so far, about 2 min left" in counted
    assert "0/1" not in single and "montage  65 s so far" in single


def test_the_time_left_is_that_of_all_plates(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    work = Work("segment", title="segment")
    for number in (1, 2):
        work.begin_plate(PlateStarted(f"P{number}", number, 4))
        work.count(0, 10, "fields", "")
        now[0] += 5
        work.count(5, 10, "fields", "")
        assert work.heading() == f"segment P{number} ({number} of 4)"
        assert work.left_s(now[0]) == pytest.approx(5 + (4 - number) * 10)
        now[0] += 5


def test_no_time_is_promised_once_it_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    work = Work("report", title="report")
    work.count(0, 12, "sections", "")
    now[0] = 11.0
    work.count(11, 12, "sections", "page")
    assert work.left_s(11.5) == pytest.approx(0.5) and "0 min 01 s left; page" in work.line_at(11.1)
    assert work.left_s(60.0) is None and work.line_at(60.0) == "report: 11 of 12 sections page"


def test_a_warning_about_twelve_plates_takes_two_lines() -> None:
    notes = Notes()
    text = "warning: plate P{0}: {0}90 control cells set the intensity scale, fewer than 2,000; segment more wells"
    shown = [notes.is_new(Note(text.format(number), "warning"), 0, "segment sum") for number in range(12)]
    assert shown == [True] + 11 * [False]
    (line,) = notes.at_end(0, "segment")
    assert line.startswith("segment: the same for 11 more plates: 190 control cells") and len(line) <= 80


def test_a_remark_that_other_arms_repeat_is_counted_and_their_results_are_not() -> None:
    notes = Notes()
    remarks = [Note("most treatments lie in the same wells on all plates, so that position may be what they share")]
    result = Note("2 of 2 tested treatments are active (q < 0.05); by the number of cells alone, 0 would be", "result")
    assert all(notes.is_new(one, 0, "hits sum") for one in (*remarks, result))
    assert [notes.is_new(one, 1, "hits centre") for one in (*remarks, result)] == [False, True]
    assert notes.at_end(1, "hits") == ["hits: 1 remark as for hits sum"] and notes.at_end(0, "hits") == []


def test_a_table_that_is_too_wide_loses_the_middle_of_names_then_whole_columns() -> None:
    rows = [["an-arm-with-a-long-name-and-an-end", "0.36±0.01", "0.84±0.01"]]
    short, none = fitted(["arm", "AMI", "kNN"], rows, 44, shrink=["arm"], drop=["kNN"])
    assert none == [] and short[-1].split()[0] == "an-arm-with…and-an-end"
    shorter, left_out = fitted(["arm", "AMI", "kNN"], rows, 30, shrink=["arm"], drop=["kNN"])
    assert left_out == ["kNN"] and max(map(len, (*short, *shorter))) <= 44 and len(shorter[-1]) <= 30
    assert shortened("demo-quick", 10) == "demo-quick"


def on_a_terminal(words: list[str], columns: int) -> str:
    """What a command writes to a terminal of so many columns, whose end it does not outlive."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, [sys.executable, "-m", "cellssl", *words], {**ENVIRONMENT, "TERM": "xterm"})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    written = b""
    while True:
        try:
            new = os.read(terminal, 65536)
        except OSError:  # Linux: its other end is closed
            break
        if not new:
            break
        written += new
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, written.decode()
    os.close(terminal)
    return written.decode()


def test_on_a_terminal_the_bar_moves_on_the_second_plate_and_leaves_nothing_behind(tmp_path: Path) -> None:
    recipe = tmp_path / "two.toml"
    recipe.write_text(RECIPE.replace("plates = 1", "plates = 2").replace("crop_px = 48", CROPS), encoding="utf-8")
    words = ["run", str(recipe), "--to", "segment", "--store", str(tmp_path / "store"), "--jobs", "1"]
    written = ANSI.sub("", on_a_terminal(words, 80))
    bars = [line for line in re.split(r"[\r\n]+", written) if "so far" in line or re.search(r"\d left$", line)]
    assert bars and max(map(len, bars)) <= 80 and not re.search(r"\b0/1\b", written)
    for stage, fewest in (("fetch", 2), ("segment", 1)):  # a bar is drawn 8 times a second, a field takes less
        counts = [re.search(rf"^{stage} \S+2 \(2 of 2\) .* (\d+)/\d+ fields", line) for line in bars]
        assert len({count[1] for count in counts if count}) >= fewest, f"{stage}: {bars}"
    last = written.rstrip().splitlines()[-3:]
    assert "so far" not in "".join(last) and last[-1].startswith(str(tmp_path))
