"""Figures of sweeps: what is drawn stands where the numbers say, gaps stay gaps, and words are no numbers."""

import io

import numpy as np
import pytest
from PIL import Image

from cellssl.reporting.response import LINES_SHOWN, Line, Panel, curves, heat_maps, shares
from cellssl.reporting.style import png

NAN = float("nan")


def line(*mean: float) -> Line:
    return Line(np.array(mean), np.full(len(mean), 0.01))


def test_a_curve_goes_through_the_means_at_the_values() -> None:
    figure = curves("hue", [0.0, 0.1, 0.5], [Panel("AMI", {"a": line(0.2, 0.4, 0.1)}, {"random": 0.15})])
    drawn = figure.axes[0].lines[0]
    assert drawn.get_xdata().tolist() == [0.0, 0.1, 0.5]
    assert drawn.get_ydata().tolist() == [0.2, 0.4, 0.1]
    assert figure.axes[0].lines[1].get_ydata()[0] == 0.15


def test_words_stand_side_by_side_and_a_gap_stays_a_gap() -> None:
    figure = curves("encoder", ["small", "vgg11"], [Panel("AMI", {"a": line(0.2, NAN)}, {})])
    assert png(figure).startswith(b"\x89PNG")
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["small", "vgg11"]
    assert np.isnan(figure.axes[0].lines[0].get_ydata()[1])


def test_no_more_lines_are_drawn_than_eyes_tell_apart() -> None:
    many = {f"class {number}": line(0.1, 0.2) for number in range(100)}
    assert len(curves("k", [1, 2], [Panel("kNN", many, {})]).axes[0].lines) == LINES_SHOWN


@pytest.mark.parametrize("rows", [1, 13])
def test_squares_bear_their_numbers(rows: int) -> None:
    score = np.linspace(0, 1, rows * 4).reshape(rows, 4)
    score[0, 0] = NAN
    arms = [f"method {number}" for number in range(rows)]
    figure = shares(arms, ["hue", "jitter", "crop", "flip"], {"with an opposite": score, "after correction": score / 2})
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[0] == "" and texts[-1] == "1.00"
    assert Image.open(io.BytesIO(png(figure))).width > 1000


def test_a_grid_of_two_knobs_has_the_first_downwards() -> None:
    figure = heat_maps(("w", "t"), ([0.1, 0.2], [1, 2, 3]), {"AMI": np.arange(6.0).reshape(2, 3)})
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.00", "1.00", "2.00", "3.00", "4.00", "5.00"]
    assert (figure.axes[0].get_ylabel(), figure.axes[0].get_xlabel()) == ("w", "t")
