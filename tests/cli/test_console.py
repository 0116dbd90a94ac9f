"""The console: every line of progress says stage, done, total, rate and time left, in words or as JSON."""

import io
import json
import re
import time

import pytest

from cellssl.cli import console
from cellssl.cli.console import Console, _pace
from cellssl.durations import in_words
from cellssl.events import Note, PlateStarted, Progress, Started


def log_of(*, as_json: bool, events: int, monkeypatch: pytest.MonkeyPatch, seconds_apart: float) -> list[str]:
    """What stands in the log of some steady work, by a clock that ticks once an event."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(ticks) * seconds_apart)
    log = io.StringIO()
    console_ = Console(quiet=True, log=log, log_as_json=as_json)
    with console_.working_on("segment"):
        for done in range(1, events + 1):
            console_.show(Progress(done, events, "fields", f"P1-B{done:02d}-1"))
        console_.show(Note("plate P1: 2 fields are quarantined"))
    return log.getvalue().splitlines()


def test_a_log_in_words_has_a_line_every_thirty_seconds_and_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = log_of(as_json=False, events=61, monkeypatch=monkeypatch, seconds_apart=1.0)
    assert len(lines) == 3 + 1
    assert re.fullmatch(r"\S+Z segment: 31 of 61 fields, 1\.0 a second, 0 min 30 s left; P1-B31-1", lines[1])
    assert lines[2].split("Z ")[1].startswith("segment: 61 of 61 fields, 1.0 a second, 0 min 00 s left;")
    assert lines[3].endswith("segment: plate P1: 2 fields are quarantined")


def test_a_log_for_machines_has_an_event_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = log_of(as_json=True, events=100, monkeypatch=monkeypatch, seconds_apart=0.1)
    events = [json.loads(line) for line in lines]
    progress = [event for event in events if event["event"] == "progress"]
    assert 10 <= len(progress) <= 12
    assert all(event["stage"] == "segment" and event["total"] == 100 for event in progress)
    assert all(event["per_second"] == pytest.approx(10, rel=0.05) for event in progress[1:])
    assert progress[-1]["left_s"] == 0


@pytest.mark.parametrize(
    ("done", "now", "first", "pace"),
    [
        (60, 20.0, (10.0, 10), {"per_second": 5.0, "left_s": 8.0}),
        (10, 10.0, (10.0, 10), {}),
        (10, 99.0, (10.0, 10), {}),
    ],
)
def test_the_pace_counts_from_what_was_first_seen(
    done: int, now: float, first: tuple[float, int], pace: dict[str, float]
) -> None:
    assert _pace(done, 100, now, first) == pace


@pytest.mark.parametrize(("seconds", "words"), [(0, "0 min 00 s"), (61, "1 min 01 s"), (3600 * 5 + 120, "5 h 02 min")])
def test_times_are_said_in_two_units(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_work_that_begins_is_shown_at_once_and_again_while_its_first_step_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.1)
    monkeypatch.setattr(console, "LOOK_EVERY_S", 0.05)
    shown = Console()
    with shown.working_on("pretrain"):
        shown.show(Started(0, 400, "steps", "first step ..."))
        assert capsys.readouterr().err == "pretrain: 0 of 400 steps first step ...\n"
        time.sleep(0.5)
    repeated = capsys.readouterr().err.splitlines()
    assert repeated and all(re.fullmatch(r"pretrain: 0 of 400 steps .* \(for 0 min 0\d s\)", one) for one in repeated)


def test_a_warning_of_two_plates_is_shown_once_and_logged_twice(capsys: pytest.CaptureFixture[str]) -> None:
    log = io.StringIO()
    shown = Console(log=log)
    with shown.working_on("segment"):
        for plate in ("P1", "P2"):
            shown.show(Note(f"warning: plate {plate}: {len(plate)}9 control cells set the intensity scale", "warning"))
    first, second = capsys.readouterr().err.splitlines()
    assert first == "segment: warning: plate P1: 29 control cells set the intensity scale"
    assert second == "segment: the same for plate P2: 29 control cells set the intensity scale"
    assert [line.count("warning: plate P") for line in log.getvalue().splitlines()] == [1, 1]


def test_every_line_of_progress_names_its_plate_where_there_are_several(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Console()
    for total, words in ((1, "fetch: 3 of 8 fields"), (2, "fetch P1 (1 of 2): 3 of 8 fields")):
        with shown.working_on("fetch"):
            shown.show(PlateStarted("P1", 1, total))
            shown.show(Started(3, 8, "fields"))
        assert capsys.readouterr().err == f"{words}\n"
