import io
from collections.abc import Callable
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from cellssl.randomness import generator
from cellssl.reporting import figures
from cellssl.reporting.style import COLOURS, DPI, WIDTH_INCH, drawing, photo, png

TILES = generator("tiles").integers(0, 256, (5, 20, 20, 3), dtype=np.uint8)
DOSES = np.array([0.0, 0.0, 1.0, 1.0, 10.0, 10.0])
SHARES = np.array([[0.1, 0.9], [0.3, 0.7], [0.4, 0.6], [0.6, 0.4], [0.9, 0.1], [0.7, 0.3]])
COMPOUNDS = ["DMSO", "DMSO", "taxol", "taxol", "taxol", "taxol"]


def draw_curves() -> Figure:
    steps = np.arange(300.0)
    return figures.curves(steps, {"loss": {"context": 7 - steps / 100, "centre": 7 - steps / 200}}, {"loss": 6.9})


def draw_montage() -> Figure:
    return figures.montage({"cluster 0": TILES, "cluster 1": TILES[:0]}, pixel_um=0.5, columns=4)


def draw_bars() -> Figure:
    scores = [figures.Bar("sum", [0.5, 0.6]), figures.Bar("random", [0.2], is_baseline=True)]
    return figures.bars(scores, "AMI", shuffled=0.001)


def draw_scatter() -> Figure:
    points = generator("points").normal(size=(60, 2))
    classes = {"cluster": [0, 1, 2] * 20, "dose": [0.1, None] * 30, "plate": ["$a", "b_{"] * 30}
    return figures.scatter(points, classes, amounts={"dose (µM)": np.array([0, 0.03, 3, np.nan, 30, 100] * 10)})


def draw_views() -> Figure:
    return figures.views(TILES[:2], {"context": TILES[:4].reshape(2, 2, 20, 20, 3)}, pixel_um=0.5)


def draw_doses() -> Figure:
    return figures.dose_curves(DOSES, SHARES, COMPOUNDS, DOSES == 0)


def draw_confusions() -> Figure:
    few, many = np.array([[9, 1], [4, 6]]), np.eye(9, dtype=int)
    return figures.confusions({"few": (["control", "treated"], few), "many": ([f"class {i}" for i in range(9)], many)})


DRAWN = [draw_confusions, draw_curves, draw_montage, draw_bars, draw_scatter, draw_views, draw_doses]


@pytest.mark.parametrize("draw", DRAWN)
def test_a_figure_made_twice_is_the_same_bytes_whatever_the_machines_settings(draw: Callable[[], Figure]) -> None:
    once = png(draw())
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "savefig.dpi": 20, "axes.facecolor": "red"}):
        again = png(draw())
    assert once == again
    assert b"Software" not in once
    assert b"matplotlib" not in once


@pytest.mark.parametrize("draw", DRAWN)
def test_a_figure_is_no_wider_than_the_page(draw: Callable[[], Figure]) -> None:
    assert Image.open(io.BytesIO(png(draw()))).width <= WIDTH_INCH * DPI


@pytest.mark.parametrize("draw", DRAWN)
def test_all_words_lie_within_the_figure(draw: Callable[[], Figure]) -> None:
    figure = draw()
    png(figure)
    whole = figure.get_tightbbox()
    assert whole.x0 >= -0.02
    assert whole.y0 >= -0.02
    assert whole.x1 <= figure.get_figwidth() + 0.02
    assert whole.y1 <= figure.get_figheight() + 0.02


def test_drawing_leaves_the_settings_of_matplotlib_alone() -> None:
    before = dict(matplotlib.rcParams)
    png(draw_bars())
    assert dict(matplotlib.rcParams) == before


def test_many_steps_are_drawn_with_their_running_mean() -> None:
    lines = {line.get_label(): line for line in draw_curves().axes[0].get_lines()}
    smooth = lines["context"]
    np.testing.assert_allclose(smooth.get_ydata(), 7 - (smooth.get_xdata() - 0.5) / 100)
    assert set(lines["chance"].get_ydata()) == {6.9}


def test_a_montage_holds_the_very_pixels_row_by_row() -> None:
    sheet = draw_montage().axes[0].get_images()[0].get_array()
    gap = 1
    assert sheet.shape == (2 * 20 + gap, 4 * 20 + 3 * gap, 3)
    assert np.array_equal(sheet[:20, 21:41], TILES[1])
    assert np.array_equal(sheet[21:41, :20], TILES[4])
    assert (sheet[21:, 21:] == 255).all()


@pytest.mark.parametrize(("pixel_um", "length_um"), [(0.5, 2), (0.4963, 2), (2.5, 20), (10.0, 50)])
def test_the_scale_bar_is_as_long_as_it_says(pixel_um: float, length_um: int) -> None:
    axis = figures.montage({"cells": TILES}, pixel_um).axes[0]
    left, right = axis.get_lines()[0].get_xdata()
    assert axis.texts[0].get_text() == f"{length_um} µm"
    assert (right - left) * pixel_um == pytest.approx(length_um)
    assert right - left <= 0.45 * 20


def test_without_a_pixel_size_there_is_no_scale_bar() -> None:
    assert not figures.montage({"cells": TILES}, None).axes[0].get_lines()


def test_only_groups_with_cells_are_shown() -> None:
    assert [axis.get_title(loc="left") for axis in draw_montage().axes] == ["cluster 0"]


def test_bars_say_mean_and_standard_deviation() -> None:
    axis = draw_bars().axes[0]
    assert [text.get_text() for text in axis.texts] == ["0.55 ± 0.07", "0.20"]
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([0.55, 0.2])
    assert axis.patches[0].get_facecolor() != axis.patches[1].get_facecolor()


def test_an_arm_without_a_score_has_a_dash() -> None:
    axis = figures.bars([figures.Bar("collapsed", [float("nan")] * 3), figures.Bar("sum", [0.5])], "AMI").axes[0]
    assert [text.get_text() for text in axis.texts] == ["–", "0.50"]


def test_every_point_bears_the_colour_of_its_class() -> None:
    points = generator("points").normal(size=(90, 2))
    axis = figures.scatter(points, {"cluster": [10, 2, 1] * 30}).axes[0]
    drawn = axis.collections[0]
    pairs = zip(drawn.get_offsets(), drawn.get_facecolors(), strict=True)
    colour_of = {tuple(place): to_hex(colour) for place, colour in pairs}
    assert [colour_of[tuple(point)].upper() for point in points[:3]] == [COLOURS[2], COLOURS[1], COLOURS[0]]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["1", "2", "10"]


def test_more_classes_than_looks_are_named_others() -> None:
    names = [f"compound {number}" for number in range(40)]
    axis = figures.scatter(np.zeros((40, 2)), {"compound": names}).axes[0]
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert len(labels) == figures.CLASSES_SHOWN + 1
    assert labels[-1] == "others"


def test_doses_are_shaded_by_their_logarithm_and_what_has_none_is_pale() -> None:
    points = generator("points").normal(size=(6, 2))
    axis = figures.scatter(points, {"cluster": [0] * 6}, amounts={"dose": np.array([0, 1, 10, 100, np.nan, 10])}).axes[
        1
    ]
    pale, shaded = axis.collections[:2]
    assert {tuple(point) for point in pale.get_offsets()} == {tuple(points[0]), tuple(points[4])}
    of_point = dict(zip(map(tuple, shaded.get_offsets()), shaded.norm(shaded.get_array()), strict=True))
    assert [of_point[tuple(points[row])] for row in (1, 2, 3)] == pytest.approx([0, 0.5, 1])


@pytest.mark.parametrize("classes", [3, 12, 40])
def test_no_legend_reaches_into_its_neighbour(classes: int) -> None:
    names = [f"a compound with a long name {number % classes}" for number in range(120)]
    points = generator("points").normal(size=(120, 2))
    figure = figures.scatter(points, {"compound": names, "plate": names, "moa": names})
    png(figure)
    boxes = [axis.get_legend().get_window_extent() for axis in figure.axes]
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))
    assert all(axis.get_window_extent().width > 1.8 * figure.dpi for axis in figure.axes)


def test_views_keep_a_cell_in_its_row() -> None:
    originals, branch = (axis.get_images()[0].get_array() for axis in draw_views().axes)
    assert np.array_equal(originals[21:41, :20], TILES[1])
    assert np.array_equal(branch[21:41, :20], TILES[2])
    assert np.array_equal(branch[21:41, 21:41], TILES[3])


def test_a_dose_curve_goes_through_the_means_of_its_wells() -> None:
    axis = draw_doses().axes[0]
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert lines["cluster 0"].get_xdata().tolist() == [1, 10]
    np.testing.assert_allclose(lines["cluster 0"].get_ydata(), [0.5, 0.8])
    np.testing.assert_allclose(lines["cluster 1"].get_ydata(), [0.5, 0.2])
    assert axis.get_xticklabels()[0].get_text() == "controls"


def test_every_compound_has_a_panel_and_controls_have_none() -> None:
    two = ["DMSO", "DMSO", "taxol", "taxol", "nocodazole", "nocodazole"]
    axes = figures.dose_curves(DOSES, SHARES, two, DOSES == 0).axes
    assert [axis.get_title(loc="left") for axis in axes if axis.get_visible()] == ["nocodazole", "taxol"]


def test_a_plate_of_controls_only_has_no_curve() -> None:
    figure = figures.dose_curves(np.zeros(2), SHARES[:2], ["DMSO", "DMSO"], np.ones(2, dtype=bool))
    assert not any(axis.get_visible() for axis in figure.axes)


def test_a_confusion_writes_counts_and_shares_of_the_true_class() -> None:
    axis = draw_confusions().axes[0]
    assert [text.get_text() for text in axis.texts] == ["9\n90%", "1\n10%", "4\n40%", "6\n60%"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["control", "treated"]
    assert len(draw_confusions().axes[1].texts) == 0, "nine classes leave no room for words"


def test_a_page_gets_smaller_copies_that_look_the_same() -> None:
    whole = png(draw_scatter())
    for make, most in ((drawing, 12), (photo, 40)):
        small = make(whole)
        before, after = (np.array(Image.open(io.BytesIO(each)).convert("RGB"), dtype=int) for each in (whole, small))
        assert before.shape == after.shape
        assert np.abs(before - after).mean() < most / 4
        assert make(whole) == small
    assert len(drawing(whole)) < 0.6 * len(whole)
    corner = np.array(Image.open(io.BytesIO(drawing(whole))).convert("RGB"))[0, 0]
    assert corner.tolist() == [255, 255, 255], "white stays white"
