"""The contract of every file in cell_segmenters/: what a recipe can name, and one cell around every nucleus."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from cellssl.config import plugins
from cellssl.errors import UsageError
from cellssl.imaging.cell_segmenter import CellSegmenter, CellSegmenterSettings, whole_cells
from cellssl.imaging.cell_segmenters.cellpose import cells_of_nuclei
from cellssl.randomness import generator

FOLDER = "cellssl.imaging.cell_segmenters"
NAMES = plugins.names(FOLDER)
WITHOUT_WEIGHTS = tuple(name for name in NAMES if name != "cellpose")
"""Methods that need no further file."""
SHAPE = (180, 240)


def noise(name: str) -> np.ndarray:
    return generator("tests", "cells", name).normal(0, 20, SHAPE)


def distance_to_centres(spacing: int = 60) -> np.ndarray:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(rows % spacing - spacing / 2, columns % spacing - spacing / 2)


def discs(radius: float, spacing: int = 60) -> np.ndarray:
    """Numbered discs in a grid: twelve with a spacing of 60 px."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    number = 1 + rows // spacing * (SHAPE[1] // spacing) + columns // spacing
    return np.where(distance_to_centres(spacing) < radius, number, 0).astype(np.int32)


def image_of(radius: float) -> np.ndarray:
    """Bright discs with a soft rim on a noisy background."""
    return (500 + 2000 / (1 + np.exp(distance_to_centres() - radius)) + noise("image")).astype(np.uint16)


def grown(name: str, stain: np.ndarray, nuclei: np.ndarray, **settings: object) -> np.ndarray:
    method = plugins.load(FOLDER, name).Settings(**settings)
    labels: np.ndarray = method.prepare((), "cpu").grow(stain, nuclei, image_of(10), 0.5)
    return labels


def test_the_methods_are_there() -> None:
    assert {"cellpose", "propagate", "watershed"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_documented(name: str) -> None:
    settings = plugins.load(FOLDER, name).Settings
    assert issubclass(settings, CellSegmenterSettings) and settings.__doc__
    assert all(settings.descriptions().values()) and settings.plugin_name() == name


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_cell_has_the_number_of_its_nucleus_and_contains_it(name: str, dtype: type) -> None:
    stain = (image_of(20) // 16 if dtype == np.uint8 else image_of(20)).astype(dtype)
    given, nuclei = stain.copy(), discs(10)
    cells = grown(name, given, nuclei)
    assert cells.dtype == np.int32 and (given == stain).all()
    assert (cells[nuclei > 0] == nuclei[nuclei > 0]).all()
    truth = discs(21.5)  # where the light has fallen to the level of the outline
    for number in range(1, 13):
        shared = ((cells == number) & (truth == number)).sum() / ((cells == number) | (truth == number)).sum()
        assert shared > 0.85


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_another_process_gives_the_same_cells(name: str) -> None:
    method = plugins.load(FOLDER, name).Settings()
    assert method.downloads() == () and method.external_files() == {} and method.check() is None
    sent = pickle.loads(pickle.dumps(method.prepare((), "cpu")))
    arguments = (image_of(20), discs(10), image_of(10))
    assert (sent.grow(*arguments) == method.grow(*arguments)).all()


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_without_nuclei_there_are_no_cells(name: str) -> None:
    assert grown(name, image_of(20), np.zeros(SHAPE, np.int32)).max() == 0


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
@pytest.mark.parametrize("empty", ["constant", "noise"])
def test_in_an_empty_channel_a_nucleus_is_its_own_cell(name: str, empty: str) -> None:
    stain = np.full(SHAPE, 500, np.uint16) if empty == "constant" else (500 + noise("empty")).astype(np.uint16)
    assert (grown(name, stain, discs(10)) == discs(10)).all()


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_nuclei_without_a_gap_between_them_keep_their_pixels(name: str) -> None:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    packed = (1 + rows // 20 * 12 + columns // 20).astype(np.int32)
    assert (grown(name, image_of(20), packed) == packed).all()


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_cells_reach_the_edge_of_the_field(name: str) -> None:
    stain = np.roll(image_of(20), (15, 25), axis=(0, 1))
    cells = grown(name, stain, np.roll(discs(10), (15, 25), axis=(0, 1)))
    assert cells[-1].any() and cells[:, -1].any()


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_a_slope_of_the_background_changes_few_pixels(name: str) -> None:
    slope = np.linspace(0, 1000, SHAPE[1])[None, :]
    flat, tilted = (grown(name, stain, discs(10)) for stain in (image_of(20), image_of(20) + slope))
    assert (flat != tilted).mean() < 0.02


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_a_distance_in_micrometres_needs_the_size_of_a_pixel(name: str) -> None:
    method = plugins.load(FOLDER, name).Settings(max_distance_um=2.0)
    cells = method.grow(image_of(20), discs(10), image_of(10), 0.5)
    assert (discs(15.1) > 0)[cells > 0].all()  # 10 px and 2 um, which are 4 px
    with pytest.raises(UsageError, match="size of a pixel"):
        method.grow(image_of(20), discs(10), image_of(10))


def test_loose_pieces_are_given_up_and_holes_filled() -> None:
    nuclei, proposed = np.zeros((20, 20), np.int32), np.zeros((20, 20), np.int32)
    nuclei[3:5, 3:5] = 1
    proposed[2:10, 2:10] = 1
    proposed[6:8, 6:8] = 0
    proposed[15:18, 15:18] = 1
    expected = np.zeros((20, 20), int)
    expected[2:10, 2:10] = 1
    assert (whole_cells(proposed, nuclei) == expected).all()


@pytest.fixture
def network(shared_data: Path) -> CellSegmenter:
    """A network of cellpose 3 for cells with two channels."""
    weights = shared_data / "weights/cellpose3_cyto_from_scellseg.pth"
    prepared: CellSegmenter = plugins.load(FOLDER, "cellpose").Settings(weights=weights).prepare((), "cpu")
    return prepared


def test_a_network_of_cellpose_finds_the_cell_of_every_nucleus(network: CellSegmenter) -> None:
    corner = np.s_[:120, :120]  # four cells: the network is slow
    nuclei, truth = discs(10)[corner], discs(20)[corner]
    cells = network.grow(image_of(20)[corner], nuclei, image_of(10)[corner])
    assert (cells[nuclei > 0] == nuclei[nuclei > 0]).all()
    assert ((cells == truth) & (truth > 0)).sum() > 0.65 * ((cells > 0) | (truth > 0)).sum()
    assert set(network.ran()) == {"cellpose", "model", "weights_sha256", "device"}


def test_found_cells_are_matched_to_their_nuclei() -> None:
    found, nuclei = np.zeros((20, 60), np.int32), np.zeros((20, 60), np.int32)
    found[2:18, 2:18], found[2:18, 20:40], found[2:18, 42:50] = 3, 1, 2  # the last one has no nucleus
    nuclei[8:12, 8:12], nuclei[8:12, 22:25], nuclei[8:12, 35:38], nuclei[8:12, 54:58] = 4, 1, 2, 3
    cells = cells_of_nuclei(found, nuclei)
    assert (cells[2:18, 2:18] == 4).all() and (cells[2:18, 42:50] == 0).all()
    assert (cells[2:18, 20:29] == 1).all() and (cells[2:18, 31:40] == 2).all()  # two nuclei share a cell
    assert (cells == 3).sum() == (nuclei == 3).sum()  # a nucleus outside all cells
