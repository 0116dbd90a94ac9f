"""Labels and the space for them: a shortened text fits, can be distinguished from others, and overlaps nothing."""

from itertools import pairwise

import pytest
from matplotlib.figure import Figure

from cellssl.reporting.text_fitting import (
    drawable,
    set_x_tick_labels,
    set_y_tick_labels,
    shorten,
    shorten_all,
    width_inch,
)
from cellssl.reporting.theme import TICK_POINTS, styled

LONG = "Screening_campaign_2026_replicate_07_of_the_second_batch"


@pytest.mark.parametrize("text", [LONG, LONG.upper(), "größere-Kerne-" * 4, "$x_{i}$ " * 9])
def test_a_text_that_is_too_wide_keeps_its_beginning_and_its_end(text: str) -> None:
    short = shorten(text, 1.0)
    before, _, after = short.partition("…")
    assert width_inch(short) <= 1.0
    assert width_inch(short) > 0.8
    assert text.startswith(before) and text.endswith(after) and before and after


def test_a_text_that_fits_stays_as_it_is() -> None:
    assert shorten(LONG, width_inch(LONG)) == LONG


def test_the_width_equals_that_of_the_drawn_text() -> None:
    @styled
    def draw() -> Figure:
        figure = Figure(figsize=(8, 1))
        figure.text(0, 0.5, LONG, fontsize=TICK_POINTS)
        return figure

    figure = draw()
    figure.draw_without_rendering()
    drawn = figure.texts[0].get_window_extent().width / figure.dpi
    assert width_inch(LONG) == pytest.approx(drawn, rel=0.03)


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("A01 名前 µΩ 3 µM", "A01 ?? µΩ 3 µM"),
        ("größere Å → ≤ ½", "größere Å → ≤ ½"),
        ("two\nlines\tand\u3000spaces", "two lines and spaces"),
        ("\U0001f9ea drug", "? drug"),
        ("\x07", "?"),
    ],
)
def test_letters_that_the_font_lacks_are_drawn_as_question_marks(text: str, drawn: str) -> None:
    assert drawable(text) == shorten(text, 9.0) == drawn


def test_texts_that_would_look_the_same_begin_where_they_differ() -> None:
    names = [f"N-(4-hydroxyphenyl)-propanamide salt {number} from a very careful supplier" for number in (7, 17, 18)]
    short = shorten_all([*names, "DMSO"], 1.0)
    assert [each[:4] for each in short] == ["…7 f", "…17 ", "…18 ", "DMSO"]
    assert all(width_inch(each) <= 1.0 for each in short)


@pytest.mark.parametrize("count", [3, 30, 100])
def test_tick_labels_do_not_overlap(count: int) -> None:
    @styled
    def draw() -> Figure:
        figure = Figure(figsize=(6, 6))
        axis = figure.subplots()
        labels = [f"a class of cells, number {number}" for number in range(count)]
        axis.set(xlim=(-0.5, count - 0.5), ylim=(-0.5, count - 0.5))
        set_x_tick_labels(axis, range(count), labels, 4.0 / count)
        set_y_tick_labels(axis, range(count), labels, 4.0 / count)
        return figure

    figure = draw()
    figure.draw_without_rendering()
    axis = figure.axes[0]
    below = [label.get_window_extent() for label in axis.get_xticklabels()]
    beside = [label.get_window_extent() for label in axis.get_yticklabels()]
    assert all(left.x1 <= right.x0 for left, right in pairwise(below))
    assert all(lower.y1 <= upper.y0 + 1 for lower, upper in pairwise(beside))
    assert len(below) == len(beside) >= min(count, 25)
