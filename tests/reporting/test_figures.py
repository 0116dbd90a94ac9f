"""Figures of a report show the given numbers, and all text in them is readable."""

import io
from collections.abc import Callable
from functools import cache
from itertools import combinations, pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from cellssl.randomness import generator
from cellssl.reporting.figures import cells, confusion, dose_response, hits, scatter, score_bars, sweep, training
from cellssl.reporting.theme import OTHER_COLOURS, WIDTH_INCH, cluster_style, decoded, drawing, photo, png

TILES = generator("tiles").integers(0, 256, (5, 20, 20, 3), dtype=np.uint8)
DOSES = np.array([0.0, 0.0, 1.0, 1.0, 10.0, 10.0])
SHARES = np.array([[0.1, 0.9], [0.3, 0.7], [0.4, 0.6], [0.6, 0.4], [0.9, 0.1], [0.7, 0.3]])
CURVE = dose_response.FittedCurve(ec50=3.0, low=0.5, high=4000.0, slope=2.0, bottom=0.2, top=1.0)
COMPOUNDS = ["DMSO", "DMSO", "taxol", "taxol", "taxol", "taxol"]


def draw_curves() -> Figure:
    steps = np.arange(300.0)
    return training.curves(steps, {"loss": {"context": 7 - steps / 100, "centre": 7 - steps / 200}}, {"loss": 6.9})


def draw_montage() -> Figure:
    return cells.montage({"cluster 0": TILES, "cluster 1": TILES[:0]}, pixel_um=0.5, columns=4)


def draw_bars() -> Figure:
    scores = [score_bars.Bar("sum", [0.5, 0.6]), score_bars.Bar("random", [0.2], is_baseline=True)]
    return score_bars.bars(scores, "AMI", shuffled=0.001)


def draw_scatter() -> Figure:
    points = generator("points").normal(size=(60, 2))
    classes = {"cluster": [0, 1, 2] * 20, "dose": [0.1, None] * 30, "plate": ["$a", "b_{"] * 30}
    return scatter.scatter(points, classes, amounts={"dose (µM)": np.array([0, 0.03, 3, np.nan, 30, 100] * 10)})


def draw_views() -> Figure:
    return cells.views(TILES[:2], {"context": TILES[:4].reshape(2, 2, 20, 20, 3)}, pixel_um=0.5)


def draw_doses() -> Figure:
    return dose_response.dose_curves(DOSES, SHARES, COMPOUNDS, DOSES == 0)


def draw_confusions() -> Figure:
    few, many = np.array([[9, 1], [4, 6]]), np.eye(9, dtype=int)
    return confusion.confusions(
        {"few": (["control", "treated"], few), "many": ([f"class {i}" for i in range(9)], many)}
    )


def draw_hits() -> Figure:
    states: list[hits.State] = ["active", "active", "not active", "not tested"]
    effect, ratio = np.array([6.0, 3.0, 1.0, 0.5]), np.array([0.4, 0.9, 1.0, 1.1])
    return hits.effect_against_count(effect, ratio, states, ["taxol 3 µM", "$a_{", "b", "c"])


def draw_effects() -> Figure:
    return dose_response.effect_curves(DOSES, SHARES[:, 0], COMPOUNDS, DOSES == 0, {"taxol": CURVE})


DRAWN = [draw_confusions, draw_curves, draw_montage, draw_bars, draw_scatter, draw_views, draw_doses]
DRAWN += [draw_hits, draw_effects]
NAMES = [f"N-(4-hydroxyphenyl)-2-methylpropanamide salt number {number:02d} (racemic)" for number in range(12)]
BRANCHES = ["context", "centre", "a_branch_of_the_texture_of_the_whole_cell_without_its_neighbours"]
DIAGNOSTICS = [
    "loss",
    "accuracy (finding the other view, class or turn)",
    "spread of projections (1: even, 0: collapsed)",
]
"""The longest titles of panels that occur."""


def draw_many_curves() -> Figure:
    steps = np.arange(300.0)
    lines = {name: 7 - steps / 100 / (place + 1) for place, name in enumerate(BRANCHES)}
    return training.curves(steps, dict.fromkeys(DIAGNOSTICS, lines) | {"rank": {BRANCHES[1]: steps}}, {"loss": 6.9})


def draw_many_cells() -> Figure:
    return cells.montage({f"cluster {number}: 12,345 cells": TILES for number in range(30)}, pixel_um=0.5)


def draw_many_bars() -> Figure:
    return score_bars.bars(
        [score_bars.Bar(name, [0.1, 0.9], is_baseline=True) for name in [*NAMES, "größere-Kerne"]], "AMI"
    )


def draw_many_points() -> Figure:
    centres = 5 * generator("centres").normal(size=(30, 2))
    group = np.arange(600) % 30
    points = centres[group] + generator("points").normal(size=(600, 2))
    colourings = {"cluster": group.tolist(), "compound": [NAMES[number % 12] for number in group], "moa": NAMES * 50}
    return scatter.scatter(points, colourings, ("UMAP 1", "UMAP 2"), {"dose (µM)": 10.0 ** (group % 12 / 2 - 3)})


def draw_many_views() -> Figure:
    draws = TILES[:4].reshape(2, 2, 20, 20, 3).repeat(2, axis=1)
    return cells.views(TILES[:2], {f"{name} (weight 0.33)": draws for name in [*BRANCHES, *NAMES[:3]]}, pixel_um=0.5)


def draw_many_doses(clusters: int = 30) -> Figure:
    """Draw curves in which every compound raises one cluster of its own, from cluster 20 on."""
    doses = np.tile(10.0 ** np.linspace(-3, 2.5, 12), 12)
    shares = np.full((144 + 3, clusters), 1 / clusters)
    for row in range(144):
        shares[row, 20 % clusters + row // 12 % 10] += row % 12 / 24
        shares[row, :6] += 0.001 * np.arange(1, 7) * (row % 2)
    control = np.arange(147) >= 144
    compounds = [*np.repeat(NAMES, 12), *["DMSO"] * 3]
    return dose_response.dose_curves(np.append(doses, [0, 0, 0]), shares, compounds, control)


def draw_many_confusions(classes: int = 100) -> Figure:
    counts = 1000 * (np.eye(classes, dtype=int) + 3 * np.eye(classes, k=1, dtype=int))
    names = [f"a class of cells, number {number}" for number in range(classes)]
    return confusion.confusions({"größere-Kerne-und-noch-mehr": (names, counts), "random": (names, counts)})


def draw_many_hits() -> Figure:
    """Draw 600 treatments, half of them active, with a few far from all others."""
    draw = generator("hits")
    effect, ratio = np.exp(draw.normal(0.5, 0.7, 600)), np.exp(draw.normal(-0.2, 0.4, 600))
    effect[:3], ratio[:3] = (0.0, 400.0, np.nan), (0.0, 8.0, 1.0)
    states: list[hits.State] = ["active", "not active"] * 300
    return hits.effect_against_count(effect, ratio, states, NAMES * 50)


def draw_many_effects() -> Figure:
    doses, compounds = np.tile(10.0 ** np.linspace(-3, 2.5, 12), 6), np.repeat(NAMES[:6], 12)
    curves = dict.fromkeys(NAMES[:6], dose_response.FittedCurve(123.456, 0.0001, 9999.0, 1.0, 0.0, 12.0))
    return dose_response.effect_curves(doses, 12 * doses / (1 + doses), compounds, np.zeros(72, dtype=bool), curves)


def draw_some_confusions() -> Figure:
    return draw_many_confusions(classes=10)


def draw_few_confusions() -> Figure:
    """Draw confusion matrices of four classes with a million cells each."""
    counts = np.full((4, 4), 999_999)
    return confusion.confusions(dict.fromkeys(["main", "random", NAMES[0]], (["a", "b", "treated", "control"], counts)))


MANY = [
    *[draw_many_curves, draw_many_cells, draw_many_bars, draw_many_points, draw_many_views, draw_many_doses],
    *[draw_many_confusions, draw_some_confusions, draw_few_confusions, draw_many_hits, draw_many_effects],
]
"""Long names, many arms, compounds, doses, clusters and classes."""


@cache
def laid_out(draw: Callable[[], Figure]) -> Figure:
    """Return the figure with its layout computed, once per figure."""
    figure = draw()
    figure.draw_without_rendering()
    return figure


def visible_texts(figure: Figure) -> list[Text]:
    """Return all visible texts, without ticks beyond the ends of an axis and without axes that are switched off."""
    hidden = {id(text) for axis in figure.axes if not axis.get_visible() for text in axis.findobj(Text)}
    for each in (side for axis in figure.axes for side in (axis.xaxis, axis.yaxis)):
        low, high = sorted(each.get_view_interval())
        unseen = [tick for tick in each.get_major_ticks() if not (each.axes.axison and low <= tick.get_loc() <= high)]
        hidden |= {id(text) for tick in unseen for text in tick.findobj(Text)}
    return [
        text
        for text in figure.findobj(lambda artist: isinstance(artist, Text))
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden
    ]


@pytest.mark.parametrize("draw", [*DRAWN, *MANY])
def test_no_text_overlaps_another(draw: Callable[[], Figure]) -> None:
    texts = visible_texts(laid_out(draw))
    boxes = np.array([text.get_window_extent().extents for text in texts])
    lower, upper = boxes[:, :2], boxes[:, 2:]
    common = np.minimum(upper[:, None], upper[None]) - np.maximum(lower[:, None], lower[None])
    overlaps = np.argwhere(np.triu((common > 1.5).all(axis=2), k=1))
    assert [(texts[one].get_text(), texts[other].get_text()) for one, other in overlaps] == []


@pytest.mark.parametrize("draw", MANY)
def test_no_legend_covers_the_data(draw: Callable[[], Figure]) -> None:
    figure = laid_out(draw)
    legends = [*figure.legends, *(axis.get_legend() for axis in figure.axes if axis.get_legend())]
    axes = [axis.get_window_extent() for axis in figure.axes if axis.get_visible()]
    assert not any(legend.get_window_extent().overlaps(axis) for legend in legends for axis in axes)


@pytest.mark.parametrize("draw", DRAWN)
def test_a_figure_drawn_twice_has_the_same_bytes_with_any_matplotlib_settings(draw: Callable[[], Figure]) -> None:
    once = png(draw())
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "savefig.dpi": 20, "axes.facecolor": "red"}):
        again = png(draw())
    assert once == again
    assert b"Software" not in once
    assert b"matplotlib" not in once


@pytest.mark.parametrize("draw", [*DRAWN, *MANY])
def test_a_figure_is_no_wider_than_the_page(draw: Callable[[], Figure]) -> None:
    assert laid_out(draw).get_figwidth() <= WIDTH_INCH


@pytest.mark.parametrize("draw", [*DRAWN, *MANY])
def test_all_text_lies_within_the_figure(draw: Callable[[], Figure]) -> None:
    figure = laid_out(draw)
    whole = figure.get_tightbbox()
    assert whole.x0 >= -0.02
    assert whole.y0 >= -0.02
    assert whole.x1 <= figure.get_figwidth() + 0.02
    assert whole.y1 <= figure.get_figheight() + 0.02


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "draw",
    [
        lambda name: cells.montage({name: TILES}, pixel_um=0.5),
        lambda name: score_bars.bars([score_bars.Bar(name, [0.5])], "AMI"),
        lambda name: scatter.scatter(np.eye(2), {name: [name, 2], "cluster": [name, "b"]}),
        lambda name: dose_response.dose_curves(DOSES, SHARES, ["DMSO", "DMSO", *[name] * 4], DOSES == 0),
        lambda name: hits.effect_against_count(np.ones(1), np.ones(1), ["active"], [name]),
        lambda name: confusion.confusions({name: ([name, "b"], np.eye(2, dtype=int))}),
        lambda name: training.curves(np.arange(9.0), {name: {name: np.arange(9.0)}}),
        lambda name: sweep.curves(
            name, [name, "b"], [sweep.Panel(name, {name: sweep.Line(np.ones(2), np.ones(2))}, {name: 1})]
        ),
        lambda name: sweep.heat_maps((name, name), ([name], [name, "b"]), {name: np.eye(2)[:1]}),
        lambda name: sweep.shares([name], [name], {name: np.ones((1, 1))}),
    ],
)
def test_names_with_letters_that_the_font_lacks_give_no_warning(draw: Callable[[str], Figure]) -> None:
    png(draw("名前 \U0001f9ea"))


def test_drawing_does_not_change_the_settings_of_matplotlib() -> None:
    before = dict(matplotlib.rcParams)
    png(draw_bars())
    assert dict(matplotlib.rcParams) == before


def test_many_steps_are_drawn_with_their_running_mean() -> None:
    lines = {line.get_label(): line for line in draw_curves().axes[0].get_lines()}
    smooth = lines["context"]
    np.testing.assert_allclose(smooth.get_ydata(), 7 - (smooth.get_xdata() - 0.5) / 100)
    assert set(lines["chance"].get_ydata()) == {6.9}


def test_a_branch_has_the_same_style_in_every_panel_and_in_the_legend() -> None:
    figure = draw_many_curves()
    lines = [line for axis in figure.axes for line in axis.get_lines() if line.get_label() == BRANCHES[1]]
    assert len(lines) == len(DIAGNOSTICS) + 1, "although it is the only one in the last panel"
    assert {line.get_color() for line in lines} == {OTHER_COLOURS[1]}
    assert figure.legends[0].get_lines()[1].get_color() == OTHER_COLOURS[1]


def test_step_ticks_are_whole_numbers() -> None:
    axis = training.curves(np.arange(1.0, 21), {"loss": {"context": np.ones(20)}}).axes[0]
    assert all(float(place).is_integer() for place in axis.get_xticks())


def test_a_montage_shows_the_original_pixels_row_by_row() -> None:
    sheet = draw_montage().axes[0].get_images()[0].get_array()
    gap = 1
    assert sheet.shape == (2 * 20 + gap, 4 * 20 + 3 * gap, 3)
    assert np.array_equal(sheet[:20, 21:41], TILES[1])
    assert np.array_equal(sheet[21:41, :20], TILES[4])
    assert (sheet[21:, 21:] == 255).all()


@pytest.mark.parametrize(
    ("pixel_um", "length_um"), [(0.5, 2), (0.4963, 2), (2.5, 20), (10.0, 50), (0.05, 0.2), (0.01, 0.05), (200.0, 1000)]
)
def test_the_scale_bar_has_the_length_that_it_states(pixel_um: float, length_um: float) -> None:
    axis = cells.montage({"cells": TILES}, pixel_um).axes[0]
    left, right = axis.get_lines()[0].get_xdata()
    assert axis.texts[0].get_text() == f"{length_um:g} µm"
    assert (right - left) * pixel_um == pytest.approx(length_um)
    assert right - left <= 0.45 * 20


def test_without_a_pixel_size_there_is_no_scale_bar() -> None:
    assert not cells.montage({"cells": TILES}, None).axes[0].get_lines()


def test_cells_of_many_groups_are_half_as_large() -> None:
    few, many = (cells.montage(dict.fromkeys(map(str, range(groups)), TILES), None) for groups in (8, 9))
    assert few.axes[0].get_images()[0].get_array().shape[1] < many.axes[0].get_images()[0].get_array().shape[1]


def test_only_groups_with_cells_are_shown() -> None:
    assert [axis.get_title(loc="left") for axis in draw_montage().axes] == ["cluster 0"]


def test_bars_state_mean_and_standard_deviation() -> None:
    axis = draw_bars().axes[0]
    assert [text.get_text() for text in axis.texts] == ["0.55 ± 0.07", "0.20"]
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([0.55, 0.2])
    assert axis.patches[0].get_facecolor() != axis.patches[1].get_facecolor()


def test_scores_at_chance_level_do_not_fill_the_page() -> None:
    axis = score_bars.bars([score_bars.Bar("main", [-0.001, 0.001])], "AMI", shuffled=0.0005).axes[0]
    assert axis.get_xlim()[1] > 0.1


def test_an_arm_without_a_score_has_a_dash() -> None:
    axis = score_bars.bars([score_bars.Bar("collapsed", [float("nan")] * 3), score_bars.Bar("sum", [0.5])], "AMI").axes[
        0
    ]
    assert [text.get_text() for text in axis.texts] == ["–", "0.50"]


def test_every_point_has_the_colour_of_its_class() -> None:
    points = generator("points").normal(size=(90, 2))
    axis = scatter.scatter(points, {"class": [10, 2, 1] * 30}).axes[0]
    drawn = axis.collections[0]
    pairs = zip(drawn.get_offsets(), drawn.get_facecolors(), strict=True)
    colour_of = {tuple(place): to_hex(colour) for place, colour in pairs}
    assert [colour_of[tuple(point)].upper() for point in points[:3]] == [
        OTHER_COLOURS[2],
        OTHER_COLOURS[1],
        OTHER_COLOURS[0],
    ]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["1", "2", "10"]


def test_classes_beyond_the_available_styles_are_named_others() -> None:
    names = [f"compound {number}" for number in range(40)]
    axis = scatter.scatter(np.zeros((40, 2)), {"compound": names}).axes[0]
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert len(labels) == scatter.CLASSES_SHOWN + 1
    assert labels[-1] == "others"


def test_every_cluster_has_its_number_even_without_a_colour_of_its_own() -> None:
    points = np.stack([np.arange(60.0) % 30, np.arange(60.0) // 30], axis=1)
    axis = scatter.scatter(points, {"cluster": (np.arange(60) % 30).tolist()}, clusters=("cluster",)).axes[0]
    placed = {text.get_text(): text.xy[0] for text in axis.texts}
    assert placed == {str(number): number for number in range(30)}


def test_a_cluster_has_the_same_style_on_the_map_and_against_dose() -> None:
    clusters = np.arange(160) % 16
    on_map = (
        scatter.scatter(np.zeros((160, 2)), {"cluster": clusters.tolist()}, clusters=["cluster"]).axes[0].get_legend()
    )
    handles = dict(zip([text.get_text() for text in on_map.get_texts()], on_map.legend_handles, strict=True))
    against_dose = {line.get_label(): line.get_color() for line in draw_many_doses(clusters=16).axes[0].get_lines()}
    shared = [number for number in range(16) if f"cluster {number}" in against_dose]
    assert len(shared) == dose_response.CURVES_SHOWN
    for number in shared:
        assert against_dose[f"cluster {number}"] == cluster_style(number).colour
        assert to_hex(handles[str(number)].get_facecolor()[0]).upper() == cluster_style(number).colour


def test_compounds_are_ordered_by_how_much_a_cluster_changes_from_the_controls() -> None:
    dose, share = np.array([0.0, 0, 1, 3, 1, 3]), np.array([0.5, 0.5, 0.5, 0.6, 0.9, 0.9])
    names, control = ["DMSO", "DMSO", "weak", "weak", "steady", "steady"], np.array([True, True, *[False] * 4])
    found = dose_response.most_changed_compounds(dose, np.stack([share, 1 - share], axis=1), names, control)
    assert found == ["steady", "weak"]


def test_doses_are_shaded_by_their_logarithm_and_points_without_dose_are_pale() -> None:
    points = generator("points").normal(size=(6, 2))
    axis = scatter.scatter(points, {"cluster": [0] * 6}, amounts={"dose": np.array([0, 1, 10, 100, np.nan, 10])}).axes[
        1
    ]
    pale, shaded = axis.collections[:2]
    assert {tuple(point) for point in pale.get_offsets()} == {tuple(points[0]), tuple(points[4])}
    of_point = dict(zip(map(tuple, shaded.get_offsets()), shaded.norm(shaded.get_array()), strict=True))
    assert [of_point[tuple(points[row])] for row in (1, 2, 3)] == pytest.approx([0, 0.5, 1])


@pytest.mark.parametrize("classes", [3, 12, 40])
def test_no_legend_overlaps_the_next_one(classes: int) -> None:
    names = [f"a compound with a long name {number % classes}" for number in range(120)]
    points = generator("points").normal(size=(120, 2))
    figure = scatter.scatter(points, {"compound": names, "plate": names, "moa": names})
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


def test_only_the_clusters_that_change_most_with_the_dose_are_drawn_if_there_are_many() -> None:
    figure = draw_many_doses()
    for compound, axis in enumerate(figure.axes[:10]):
        drawn = {line.get_label() for line in axis.get_lines() if str(line.get_label()).startswith("cluster")}
        assert f"cluster {20 + compound}" in drawn
        assert drawn == {f"cluster {number}" for number in (2, 3, 4, 5, 20 + compound)}
    in_legend = {line.get_label() for line in figure.legends[0].get_lines()}
    assert {f"cluster {20 + compound}" for compound in range(10)} <= in_legend
    styles = [(line.get_color(), line.get_linestyle()) for line in figure.legends[0].get_lines()]
    assert all(one != other for one, other in combinations(styles, 2))


def test_a_cluster_that_never_changes_is_not_drawn_if_there_are_many() -> None:
    shares = np.hstack([SHARES / 2, np.full((6, 10), 0.05)])
    figure = dose_response.dose_curves(DOSES, shares, COMPOUNDS, DOSES == 0)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cluster 0", "cluster 1"]


def test_every_compound_has_a_panel_and_controls_have_none() -> None:
    two = ["DMSO", "DMSO", "taxol", "taxol", "nocodazole", "nocodazole"]
    axes = dose_response.dose_curves(DOSES, SHARES, two, DOSES == 0).axes
    assert [axis.get_title(loc="left") for axis in axes if axis.get_visible()] == ["nocodazole", "taxol"]


def test_a_plate_of_controls_only_has_no_curve() -> None:
    figure = dose_response.dose_curves(np.zeros(2), SHARES[:2], ["DMSO", "DMSO"], np.ones(2, dtype=bool))
    assert not any(axis.get_visible() for axis in figure.axes)


def test_a_confusion_matrix_shows_counts_and_percentages_of_the_true_class() -> None:
    axis = draw_confusions().axes[0]
    assert [text.get_text() for text in axis.texts] == ["9\n90%", "1\n10%", "4\n40%", "6\n60%"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["control", "treated"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("prediction", "true class")


def test_a_confusion_matrix_of_ten_classes_shows_percentages_of_the_true_class() -> None:
    axis = draw_some_confusions().axes[0]
    assert [text.get_text() for text in axis.texts[:3]] == ["25", "75", "0"]
    assert len(axis.texts) == 100


def test_a_confusion_matrix_of_a_hundred_classes_names_every_second_and_has_a_colour_scale() -> None:
    figure = draw_many_confusions()
    axis, scale = figure.axes[0], figure.axes[-1]
    assert [label.get_text()[-2:] for label in axis.get_yticklabels()][:3] == [" 0", " 2", " 4"]
    assert not axis.texts
    assert scale.get_xlabel() == "share of the cells of the true class"
    assert axis.get_images()[0].norm.vmax == pytest.approx(1), "all cells of the last class are predicted correctly"


def test_smaller_copies_for_the_page_look_the_same() -> None:
    whole = png(draw_scatter())
    for make, most in ((drawing, 12), (photo, 40)):
        small = make(decoded(whole))
        before, after = (np.array(Image.open(io.BytesIO(each)).convert("RGB"), dtype=int) for each in (whole, small))
        assert before.shape == after.shape
        assert np.abs(before - after).mean() < most / 4
        assert make(decoded(whole)) == small
    assert len(drawing(decoded(whole))) < 0.6 * len(whole)
    corner = np.array(Image.open(io.BytesIO(drawing(decoded(whole)))).convert("RGB"))[0, 0]
    assert corner.tolist() == [255, 255, 255], "white stays white"


def test_active_treatments_are_named_and_differ_from_others_in_shape_and_colour() -> None:
    axis = draw_hits().axes[0]
    assert [text.get_text() for text in axis.texts] == ["taxol 3 µM", "$a_{"]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == [
        "active (2)",
        "not active (1)",
        "not tested (1)",
    ]
    drawn = {
        to_hex(each.get_facecolor()[0]): each.get_paths()[0] for each in axis.collections if len(each.get_offsets())
    }
    assert len(drawn) == len({path.vertices.tobytes() for path in drawn.values()}) == 3


def test_every_treatment_with_an_effect_and_a_count_has_its_point() -> None:
    axis = draw_many_hits().axes[0]
    points = np.concatenate([each.get_offsets() for each in axis.collections])
    assert len(points) == 599, "one has no effect"
    (low_x, high_x), (low_y, high_y) = axis.get_xlim(), axis.get_ylim()
    assert ((points > (low_x, low_y)) & (points < (high_x, high_y))).all()
    assert len(axis.texts) >= 3


def test_where_nothing_is_active_the_largest_effects_are_named() -> None:
    effect, states = np.array([0.0, 9.0, 2.0]), ["not tested", "not active", "not active"]
    axis = hits.effect_against_count(effect, np.array([0.5, 0.7, 1.0]), states, ["a", "b", "c"]).axes[0]
    assert [text.get_text() for text in axis.texts] == ["b", "c", "a"]


def test_the_ec50_and_its_interval_stand_at_their_doses() -> None:
    axis = draw_effects().axes[0]
    (line,) = [line for line in axis.get_lines() if line.get_linestyle() == "--"]
    assert list(line.get_xdata()) == [3.0, 3.0] and axis.get_title(loc="left") == "taxol: EC50 3 µM"
    along, effect = next(line.get_data() for line in axis.get_lines() if len(line.get_xdata()) == 100)
    np.testing.assert_allclose(effect, 0.2 + 0.8 / (1 + (3 / along) ** 2))
    assert axis.patches[0].get_x() == 0.5 and axis.get_xlim()[1] < 100
