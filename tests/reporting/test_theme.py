"""The style: colours that everyone can distinguish, and figures in strips that fit on a printed page."""

import io
from collections.abc import Callable, Sequence
from itertools import combinations

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from cellssl.randomness import generator
from cellssl.reporting.figures import cells, confusion
from cellssl.reporting.theme import (
    COLOUR_MAP,
    COLOURS,
    CONTROL,
    DPI,
    GROUP_STYLES,
    HIGHEST_INCH,
    OTHER_COLOURS,
    STRIP_INCH,
    TRAINED,
    TREATED,
    GroupStyle,
    cluster_style,
    decoded,
    label_colour,
    other_style,
    page_share,
    png,
    strips,
)

VISION = {
    "all cones": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113: linear RGB as seen without one type of cone."""
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colours: np.ndarray, vision: str) -> np.ndarray:
    """Return CIELAB (D65) of sRGB colours in 0..1, as seen with this colour vision."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(VISION[vision]).T, 0, 1) @ TO_XYZ.T / TO_XYZ.sum(axis=1)
    bent = np.where(seen > (6 / 29) ** 3, np.cbrt(seen), seen / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = bent.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize(("vision", "distance"), [("all cones", 25), *((vision, 15) for vision in list(VISION)[1:])])
def test_all_colours_of_clusters_can_be_distinguished(vision: str, distance: float) -> None:
    assert nearest((*COLOURS, "white"), vision) > distance


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("colours", [(*OTHER_COLOURS, TREATED, "white"), (CONTROL, TREATED, TRAINED, "white")])
def test_colours_of_other_groups_can_be_distinguished(vision: str, colours: tuple[str, ...]) -> None:
    assert nearest(colours, vision) > 15


def nearest(colours: Sequence[str], vision: str) -> float:
    """Return the distance between those two colours that are most alike."""
    seen = lab(np.array([to_rgb(colour) for colour in colours]), vision)
    return float(min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)))


def test_no_colour_of_a_cluster_means_something_else() -> None:
    assert not set(COLOURS) & {*OTHER_COLOURS, CONTROL, TREATED, TRAINED}


def test_controls_and_treated_cells_have_their_own_colours() -> None:
    found = [label_colour(word) for word in ("control", "Untreated", "treated", "DMSO", None, 3)]
    assert found == [CONTROL, CONTROL, TREATED, None, None, None]


def test_red_and_green_could_not_be_distinguished() -> None:
    one, other = lab(np.array([to_rgb("#D62728"), to_rgb("#7C7C00")]), "deuteranopia")
    assert np.linalg.norm(one - other) < 15


@pytest.mark.parametrize("vision", VISION)
def test_shades_become_lighter_for_all_colour_vision(vision: str) -> None:
    lightness = lab(matplotlib.colormaps[COLOUR_MAP](np.linspace(0, 1, 40))[:, :3], vision)[:, 0]
    assert (np.diff(lightness) > 0).all()


@pytest.mark.parametrize("style", [cluster_style, other_style])
def test_no_two_groups_have_the_same_style(style: Callable[[int], GroupStyle]) -> None:
    styles = [style(place) for place in range(GROUP_STYLES)]
    assert len({(each.colour, each.marker) for each in styles}) == GROUP_STYLES
    assert len({(each.colour, each.dash) for each in styles}) == GROUP_STYLES


def montage(groups: int) -> bytes:
    tiles = generator("tiles").integers(0, 255, (32, 20, 20, 3), dtype=np.uint8)
    return png(cells.montage({f"cluster {group}: 1,234 cells": tiles for group in range(groups)}, 0.5))


def pixels(image: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(image)).convert("RGB"))


def test_strips_of_a_high_figure_add_up_to_the_figure() -> None:
    whole = montage(groups=30)
    pieces = [np.array(piece) for piece in strips(decoded(whole))]
    assert np.array_equal(np.concatenate(pieces), pixels(whole))
    assert all(STRIP_INCH / 2 * DPI <= len(piece) <= HIGHEST_INCH * DPI for piece in pieces)
    assert max(map(len, pieces[:-1])) <= STRIP_INCH * DPI


def test_a_figure_with_few_white_bands_is_cut_there() -> None:
    panels = np.zeros((3600, 80, 3), np.uint8)
    panels[1180:1220] = panels[2380:2420] = 255
    assert [piece.height for piece in strips(Image.fromarray(panels))] == [1200, 1200, 1200]


def test_a_title_stays_with_its_cells() -> None:
    for piece in map(np.array, strips(decoded(montage(groups=30)))):
        inked = (piece < 255).any(axis=(1, 2))
        first = inked[inked.argmax() :].argmin()
        assert 5 < first < 0.2 * DPI, "a strip begins with a line of text"


def test_a_low_figure_and_one_without_white_are_not_cut() -> None:
    low, dark = decoded(montage(groups=2)), Image.new("RGB", (50, int(3 * HIGHEST_INCH * DPI)), "grey")
    assert strips(low) == [low]
    assert [np.array_equal(one, dark) for one in strips(dark)] == [True]


def test_a_figure_takes_the_share_of_the_page_that_keeps_its_text_size() -> None:
    one = confusion.confusions({"main": (["a", "b"], np.eye(2, dtype=int))})
    assert page_share(montage(groups=2)) == 1
    assert page_share(png(one)) == pytest.approx(85 / 180, abs=0.001)
