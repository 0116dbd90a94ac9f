"""Compartments: the same numbers as scikit-image's regionprops, and what is defined where there is no cytoplasm."""

import numpy as np
import pytest
from microscopes import OBJECTIVES, grow, photograph, tilted
from scipy.ndimage import gaussian_filter
from scipy.ndimage import sum as ndimage_sum
from skimage.measure import regionprops
from skimage.segmentation import expand_labels

from cellssl.imaging.cell_background import cell_background
from cellssl.imaging.cell_segmenters import propagate
from cellssl.imaging.compartments import compartment_columns, measure_compartments
from cellssl.randomness import generator

CHANNELS = ("dna", "actin")


def field() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of two channels, seven nuclei, and their cells."""
    draw = generator("tests", "compartments")
    points = np.zeros((90, 110), np.int32)
    points.ravel()[draw.permutation(points.size)[:7]] = np.arange(1, 8)
    pixels = draw.integers(200, 60_000, (2, 90, 110)).astype(np.uint16)
    return pixels, np.asarray(expand_labels(points, 6), np.int32), np.asarray(expand_labels(points, 14), np.int32)


def test_every_compartment_agrees_with_regionprops() -> None:
    pixels, nuclei, cells = field()
    measured = measure_compartments(pixels, CHANNELS, nuclei, cells)
    masks = {"nucleus": nuclei, "cytoplasm": np.where(nuclei > 0, 0, cells), "cell": cells}
    for compartment, labels in masks.items():
        regions = regionprops(labels, np.moveaxis(pixels, 0, -1))
        for place, channel in enumerate(CHANNELS):
            column = f"{compartment}_{channel}"
            assert measured[f"{column}_mean"] == pytest.approx([one.intensity_mean[place] for one in regions])
            assert measured[f"{column}_sd"] == pytest.approx([one.intensity_std[place] for one in regions])
        if compartment != "nucleus":
            assert measured[f"{compartment}_area_px"].tolist() == [one.area for one in regions]
    assert measured["cell_eccentricity"] == pytest.approx([one.eccentricity for one in regionprops(cells)], abs=1e-6)


def test_integrated_intensities_are_sums_above_the_background() -> None:
    pixels, nuclei, cells = field()
    measured = measure_compartments(pixels, CHANNELS, nuclei, cells)
    area = np.median(np.bincount(nuclei.ravel())[1:])
    above = pixels[1] - cell_background(pixels[1], float(np.sqrt(4 / np.pi * area))).astype(float)
    assert measured["cell_actin_integrated"] == pytest.approx([above[cells == n].sum() for n in range(1, 8)], rel=1e-5)
    parts = measured["nucleus_actin_integrated"] + measured["cytoplasm_actin_integrated"]
    assert parts == pytest.approx(measured["cell_actin_integrated"])


def test_a_cell_without_cytoplasm_has_nan_for_its_mean() -> None:
    pixels, nuclei, _ = field()
    measured = measure_compartments(pixels, CHANNELS, nuclei, nuclei)
    assert np.isnan(measured["cytoplasm_dna_mean"]).all() and np.isnan(measured["cytoplasm_dna_sd"]).all()
    assert (measured["cytoplasm_area_px"] == 0).all() and (measured["cytoplasm_dna_integrated"] == 0).all()


def test_a_cell_at_the_edge_is_flagged() -> None:
    cells = np.zeros((40, 40), np.int32)
    cells[0:12, 10:22], cells[20:32, 20:32] = 1, 2
    measured = measure_compartments(np.ones((2, 40, 40), np.uint16), CHANNELS, cells, cells)
    assert measured["cell_touches_edge"].tolist() == [True, False]


def test_a_field_without_nuclei_has_all_columns_and_no_rows() -> None:
    empty = np.zeros((40, 40), np.int32)
    measured = measure_compartments(np.ones((2, 40, 40), np.uint16), CHANNELS, empty, empty)
    assert tuple(measured) == compartment_columns(CHANNELS)
    assert {len(values) for values in measured.values()} == {0}


def test_the_background_follows_a_slope_below_cells() -> None:
    rows, columns = np.mgrid[:400, :500]
    slope = 300 + 2.0 * columns
    cells = 3000 * (np.hypot(rows % 130 - 65, columns % 130 - 65) < 45)
    found = cell_background((slope + cells).astype(np.uint16), 30.0)
    inner = (slice(60, -60), slice(60, -60))
    assert np.abs(found - slope)[inner].max() < 150


@pytest.mark.parametrize("objective", ["10x", "20x", "60x"])
def test_a_slope_changes_neither_whole_cells_nor_their_light(objective: str) -> None:
    photo = photograph(grow(16, 150, 190, seed=2, on_edge=False), OBJECTIVES[objective])
    cells = np.asarray(expand_labels(photo.labels, 9 / photo.pixel_um), np.int32)
    light = gaussian_filter(1200.0 * (cells > 0), 0.75 / photo.pixel_um)
    stain = tilted(light + generator("tests", "slope").normal(300, 20, light.shape), rise=3000)
    found = propagate.Settings().grow(stain, photo.labels, photo.image)
    measured = measure_compartments(stain[None], ["actin"], photo.labels, cells)
    n = np.arange(1, len(np.unique(cells)))
    areas = np.bincount(found.ravel())[1:] / np.bincount(cells.ravel())[1:]
    assert areas.max() < 1.25
    assert np.abs(measured["cell_actin_integrated"] / ndimage_sum(light, cells, n) - 1).max() < 0.05


def test_the_background_does_not_rise_into_a_colony_as_wide_as_half_the_field() -> None:
    rows, columns = np.mgrid[:340, :426]
    colony = np.hypot(rows - 170, columns - 213) < 115
    stain = 300 + 1200 * colony + generator("tests", "colony").normal(0, 20, colony.shape)
    assert np.median(cell_background(stain.astype(np.uint16), 30.0)[colony]) < 300 + 0.05 * 1200


@pytest.mark.parametrize("diameter", [6, 10, 20, 40])
def test_the_light_of_an_empty_channel_is_about_zero_for_nuclei_of_any_size(diameter: int) -> None:
    side = 20 * diameter
    rows, columns = np.mgrid[:side, :side] % (side // 2) - side // 4
    number = 1 + 2 * (np.arange(side)[:, None] >= side // 2) + (np.arange(side) >= side // 2)
    nuclei, cells = (np.where(np.hypot(rows, columns) < reach, number, 0) for reach in (diameter / 2, diameter))
    empty = np.rint(generator("tests", "empty", diameter).normal(300, 20, (1, side, side))).astype(np.uint16)
    measured = measure_compartments(empty, ["empty"], nuclei, cells)
    assert abs(measured["cell_empty_integrated"].sum() / measured["cell_area_px"].sum()) < 0.15 * 20


@pytest.mark.parametrize("diameter", [10, 20, 40])
def test_the_noise_does_not_lift_the_background_between_dense_cells(diameter: int) -> None:
    rows, columns = np.mgrid[: 20 * diameter, : 20 * diameter] % int(2.5 * diameter) - 1.25 * diameter
    image = 300 + 600 * (np.hypot(rows, columns) < diameter)
    noise = generator("tests", "dense", diameter).normal(0, 20, image.shape)
    assert abs(cell_background((image + noise).astype(np.uint16), float(diameter)).mean() - 300) < 0.15 * 20
