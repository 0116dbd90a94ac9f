"""Figures of sweeps: curves and squares show the given numbers, gaps stay gaps, and labels do not overlap."""

import io
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from cellssl.reporting.figures.sweep import LINES_SHOWN, Line, Panel, curves, heat_maps, shares
from cellssl.reporting.theme import png
from tests.reporting.test_figures import visible_texts

NAN = float("nan")


def line(*mean: float) -> Line:
    return Line(np.array(mean), np.full(len(mean), 0.01))


def test_a_curve_goes_through_the_means_at_the_values() -> None:
    figure = curves("hue", [0.0, 0.1, 0.5], [Panel("AMI", {"a": line(0.2, 0.4, 0.1)}, {"random": 0.15})])
    drawn = figure.axes[0].lines[0]
    assert drawn.get_xdata().tolist() == [0.0, 0.1, 0.5]
    assert drawn.get_ydata().tolist() == [0.2, 0.4, 0.1]
    assert figure.axes[0].lines[1].get_ydata()[0] == 0.15


def test_text_values_stand_side_by_side_and_a_gap_stays_a_gap() -> None:
    figure = curves("encoder", ["small", "vgg11"], [Panel("AMI", {"a": line(0.2, NAN)}, {})])
    assert png(figure).startswith(b"\x89PNG")
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["small", "vgg11"]
    assert np.isnan(figure.axes[0].lines[0].get_ydata()[1])


def test_no_more_lines_are_drawn_than_can_be_distinguished() -> None:
    many = {f"class {number}": line(0.1, 0.2) for number in range(100)}
    assert len(curves("k", [1, 2], [Panel("kNN", many, {})]).axes[0].lines) == LINES_SHOWN


@pytest.mark.parametrize("rows", [1, 13])
def test_squares_show_their_numbers(rows: int) -> None:
    score = np.linspace(0, 1, rows * 4).reshape(rows, 4)
    score[0, 0] = NAN
    arms = [f"method {number}" for number in range(rows)]
    figure = shares(arms, ["hue", "jitter", "crop", "flip"], {"with an opposite": score, "after correction": score / 2})
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[0] == "" and texts[-1] == "1.00"
    assert Image.open(io.BytesIO(png(figure))).width > 1000


def test_a_heat_map_has_the_first_setting_downwards() -> None:
    figure = heat_maps(("w", "t"), ([0.1, 0.2], [1, 2, 3]), {"AMI": np.arange(6.0).reshape(2, 3)})
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.00", "1.00", "2.00", "3.00", "4.00", "5.00"]
    assert (figure.axes[0].get_ylabel(), figure.axes[0].get_xlabel()) == ("w", "t")


LONG = [f"vgg13_with_batch_norm_and_a_long_name_{number}" for number in range(9)]


def draw_long_labels() -> Figure:
    lines = {name: line(*np.linspace(0, 1, 9)) for name in LONG}
    return curves(LONG[0], LONG, [Panel(title, lines, {"random": 0.2}) for title in ("linear", "kNN", "AMI")])


def draw_large_heat() -> Figure:
    score = np.linspace(0, 1, 180).reshape(15, 12)
    return heat_maps(("first", LONG[0]), (list(range(15)), [*LONG, "a", "b", "c"]), {"AMI": score, "kNN": score})


def draw_large_shares() -> Figure:
    return shares(LONG, LONG, {"with an opposite": np.full((9, 9), 0.5), "after correction": np.full((9, 9), 1.0)})


@pytest.mark.parametrize("draw", [draw_long_labels, draw_large_heat, draw_large_shares])
def test_long_labels_neither_overlap_nor_leave_the_figure(draw: Callable[[], Figure]) -> None:
    figure = draw()
    figure.draw_without_rendering()
    whole = figure.get_tightbbox()
    assert whole.x0 >= -0.02 and whole.x1 <= figure.get_figwidth() + 0.02
    assert whole.y0 >= -0.02 and whole.y1 <= figure.get_figheight() + 0.02
    boxes = [text.get_window_extent() for text in visible_texts(figure)]
    overlaps = [Bbox.intersection(one, other) for one, other in combinations(boxes, 2)]
    assert not any(each is not None and each.width > 1.5 and each.height > 1.5 for each in overlaps)


def test_squares_too_narrow_for_numbers_have_a_colour_scale() -> None:
    figure = draw_large_heat()
    assert not any(text.get_text() for text in figure.axes[0].texts)
    assert len(figure.axes) == 4, "two maps, two colour scales"


def test_values_that_grow_by_factors_have_a_logarithmic_axis() -> None:
    values = [1e-5, 1e-4, 1e-3, 1e-2]
    axis = curves("rate", values, [Panel("AMI", {"a": line(1, 2, 3, 4)}, {})]).axes[0]
    places = axis.transData.transform([(value, 0) for value in values])[:, 0]
    assert np.diff(places) == pytest.approx(np.diff(places)[0])
    assert curves("rate", [0.0, 1.0, 99.0], [Panel("AMI", {"a": line(1, 2, 3)}, {})]).axes[0].get_xscale() == "linear"
