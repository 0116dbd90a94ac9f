"""A training says once when it will end: after one long step, or after several short ones."""

import pytest

from cellssl.durations import about, clock_after
from cellssl.stages.pretrain import end_forecast
from cellssl.stages.pretrain.end_forecast import EndForecast


def said(step_s: float, steps: int, total: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Return what is said after which step of a training with steps of this length."""
    now = [0.0]
    monkeypatch.setattr(end_forecast.time, "monotonic", lambda: now[0])
    forecast, found = EndForecast(_began_s=0.0), []
    for step in range(1, steps + 1):
        now[0] += step_s
        if words := forecast.after(step, total):
            found.append((step, words))
    return found


def test_one_long_step_is_enough_and_more_than_twelve_hours_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    ((step, words),) = said(360, 5, 500, monkeypatch)
    assert step == 1 and "in 49 h 54 min" in words and "more than 12 hours" in words and 'encoder = "small"' in words


def test_short_steps_are_measured_for_ten_seconds_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    ((step, words),) = said(2, 50, 1000, monkeypatch)
    assert step == 6 and words.endswith("in 33 min 08 s")


def test_a_training_that_ends_within_seconds_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(0.01, 90, 90, monkeypatch) == []


def test_an_end_on_another_day_names_the_day() -> None:
    noon = 1_700_000_000.0
    assert len(clock_after(60, noon)) == 5 and " on 20" in clock_after(3 * 86_400, noon)
    assert [about(s) for s in (5, 600, 7200, 300_000)] == [
        "about 5 s",
        "about 10 min",
        "about 2.0 h",
        "about 3.5 days",
    ]
