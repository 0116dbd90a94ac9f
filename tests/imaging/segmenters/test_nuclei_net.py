"""nuclei_net: made-up and simulated fields with known nuclei, invariances, fields without nuclei, and real fields."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from microscopes import CONDITIONS, OBJECTIVES, grow, photograph
from scipy import ndimage
from skimage.io import imread

from cellssl.datasets.simulation.scene import Scene, render
from cellssl.imaging.detection_scores import overlaps
from cellssl.imaging.labels import label_areas
from cellssl.imaging.segmenters import nuclei_net
from cellssl.imaging.segmenters._nuclei_net_background import local_background
from cellssl.imaging.segmenters._nuclei_net_input import normalised_light
from cellssl.imaging.segmenters._nuclei_net_unet import UNet, fuse_batch_norm
from cellssl.imaging.segmenters.nuclei_net import (
    CARD,
    WEIGHTS,
    Settings,
    drop_faint,
    load_network,
    predict,
    tiles,
)
from cellssl.learning.weight_init import init_weights
from cellssl.randomness import generator


def ellipses(diameter: float, side: int = 384) -> tuple[np.ndarray, np.ndarray]:
    """Draw nuclei as ellipses with a texture, some dim, on a grid; return the image and the labels."""
    chance = generator("tests", "ellipses", int(diameter))
    rows, columns = np.mgrid[:side, :side]
    truth, light = np.zeros((side, side), np.int32), np.zeros((side, side))
    for row in np.arange(diameter, side - diameter / 2, 1.6 * diameter):
        for column in np.arange(diameter, side - diameter / 2, 1.6 * diameter):
            angle, long = chance.uniform(0, np.pi), chance.uniform(1.0, 1.25)
            down, right = rows - row - chance.normal(0, 1), columns - column - chance.normal(0, 1)
            along, across = down * np.cos(angle) + right * np.sin(angle), right * np.cos(angle) - down * np.sin(angle)
            nucleus = np.hypot(along / long, across * long) < diameter / 2
            truth[nucleus] = truth.max() + 1
            light[nucleus] = chance.uniform(800, 2000)
    texture = 1 + 0.5 * ndimage.gaussian_filter(chance.standard_normal((side, side)), diameter / 10)
    image = 500 + ndimage.gaussian_filter(light * texture, 1.2) + 30 * chance.standard_normal((side, side))
    return image.clip(0, 65_535).astype(np.uint16), truth


@pytest.fixture(scope="module")
def field() -> tuple[np.ndarray, np.ndarray]:
    """A simulated field of untreated cells."""
    scene = Scene(11, "plate", "well", "field", None, 0.0, 480, 640, 195.0, 0.2, 0.2, 0.85)
    rendered = render(scene)
    return rendered.images["dna"], rendered.labels.astype(np.int32)


@pytest.mark.parametrize("diameter", [6, 8, 12, 20, 32, 60, 130, 250])
def test_nuclei_of_6_to_250_pixels_are_found_without_their_size(diameter: int) -> None:
    image, truth = ellipses(diameter, side=max(384, 4 * diameter))
    assert overlaps(Settings().segment(image), truth).f1() > 0.95


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_slope_or_a_glow_of_the_background_changes_hardly_any_count(
    field: tuple[np.ndarray, np.ndarray], condition: str
) -> None:
    flat, uneven = Settings().segment(field[0]).max(), Settings().segment(CONDITIONS[condition](field[0])).max()
    assert abs(int(uneven) - int(flat)) <= max(0.02 * flat, 1)


def test_the_same_cells_have_the_same_number_and_area_at_4x_to_60x() -> None:
    culture, counts, areas_um2 = grow(12, 90, 110), [], []
    for objective in OBJECTIVES.values():
        photo = photograph(culture, objective)
        labels = Settings().segment(photo.image, photo.pixel_um)
        counts.append(labels.max())
        areas_um2.append(np.median(label_areas(labels)) * photo.pixel_um**2)
    assert min(counts) == max(counts) and max(areas_um2) < 1.1 * min(areas_um2)


def test_the_same_cells_are_found_where_the_size_of_a_pixel_is_not_known_or_wrong() -> None:
    photo = photograph(grow(12, 90, 110), OBJECTIVES["40x"])
    found = [Settings().segment(photo.image, pixel_um) for pixel_um in (None, photo.pixel_um, 1.0, 0.05)]
    assert all(overlaps(labels, photo.labels).f1() > 0.95 for labels in found)


def test_the_nuclei_of_a_simulated_field_are_found(field: tuple[np.ndarray, np.ndarray]) -> None:
    assert overlaps(Settings().segment(field[0]), field[1]).f1() > 0.93


def test_every_nucleus_is_one_piece_without_holes(field: tuple[np.ndarray, np.ndarray]) -> None:
    labels = Settings().segment(field[0])
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        nucleus = labels[place] == number
        assert ndimage.label(nucleus)[1] == 1 and (ndimage.binary_fill_holes(nucleus) == nucleus).all()


def test_a_label_as_dark_as_the_background_is_dropped() -> None:
    light = generator("tests", "phantom").normal(0, 0.01, (60, 90)).astype(np.float32)
    labels = np.zeros(light.shape, np.int32)
    for number, brightness in enumerate((0.5, 0.0, 0.3), start=1):
        labels[20:40, 30 * number - 25 : 30 * number - 5] = number
        light[labels == number] += brightness
    assert (drop_faint(light, labels, local_background(light, labels)) == np.array([0, 1, 0, 2])[labels]).all()


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_field_has_the_same_nuclei_turned(field: tuple[np.ndarray, np.ndarray], turns: int) -> None:
    straight, turned = Settings().segment(field[0]), Settings().segment(np.rot90(field[0], turns).copy())
    assert overlaps(np.rot90(turned, -turns), straight).f1(0.7) > 0.93


def test_gain_and_offset_of_the_camera_do_not_matter(field: tuple[np.ndarray, np.ndarray]) -> None:
    image = field[0].astype(np.float32)
    assert overlaps(Settings().segment(3 * image + 4096), Settings().segment(image)).f1(0.9) > 0.99


def test_the_number_of_threads_does_not_change_a_bit(field: tuple[np.ndarray, np.ndarray]) -> None:
    before, predicted = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            predicted.append(predict(load_network(), normalised_light(field[0]), torch.bfloat16))
    finally:
        torch.set_num_threads(before)
    assert (predicted[0] == predicted[1]).all() and (predicted[0] == predicted[2]).all()


@pytest.mark.parametrize("radius_px", [25, 45])
def test_a_speck_far_brighter_than_nuclei_hides_only_what_it_covers(
    field: tuple[np.ndarray, np.ndarray], radius_px: int
) -> None:
    rows, columns = np.mgrid[: field[0].shape[0], : field[0].shape[1]]
    away = np.hypot(rows - 240, columns - 320)
    dusty = np.clip(field[0] + 40_000.0 * (away < radius_px), 0, 65_535).astype(np.uint16)
    truth = np.where(away < 3 * radius_px, 0, field[1])
    found = np.where(away < 3 * radius_px, 0, Settings().segment(dusty))
    assert overlaps(found, truth).f1() > 0.9


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (2, 2), (5, 5), (7, 300)])
def test_a_field_narrower_than_a_nucleus_has_none(shape: tuple[int, int]) -> None:
    image = generator("tests", "narrow").integers(0, 4096, shape).astype(np.uint16)
    assert Settings().segment(image).max() == 0


@pytest.mark.parametrize("blur_px", [0.0, 1.5, 5.0])
def test_a_field_of_noise_has_no_nuclei(blur_px: float) -> None:
    noise = ndimage.gaussian_filter(generator("tests", "empty").standard_normal((512, 640)), blur_px)
    assert Settings().segment((800 + 40 * noise / noise.std()).astype(np.uint16)).max() == 0


def test_two_nuclei_in_a_field_of_blurred_noise_are_found() -> None:
    noise = ndimage.gaussian_filter(generator("tests", "empty").standard_normal((512, 640)), 5)
    rows, columns = np.mgrid[:512, :640]
    image = 800 + 40 * noise / noise.std()
    for row, column in ((115, 115), (315, 415)):
        image += 1500 / (1 + np.exp(np.hypot(rows - row, columns - column) - 15))
    assert Settings().segment(image.astype(np.uint16)).max() == 2


@pytest.mark.parametrize("shape", [(1, 1), (5, 90), (33, 517), (0, 4)])
@pytest.mark.parametrize("value", [0, 255, 65_535])
def test_a_constant_field_of_any_shape_has_no_nuclei(shape: tuple[int, int], value: int) -> None:
    labels = Settings().segment(np.full(shape, value, np.uint16))
    assert labels.shape == shape and labels.max(initial=0) == 0


@pytest.mark.parametrize("length", [1, 200, 1535, 1536, 1537, 2816, 2817, 5000])
def test_tiles_cover_every_pixel_once_with_enough_context_around_it(length: int) -> None:
    covered = np.zeros(length, int)
    for tile, inner, target in tiles((length, 100)):
        covered[target[0]] += 1
        assert np.arange(length)[tile[0]][inner[0]].tolist() == np.arange(length)[target[0]].tolist()
        assert tile[0].start == 0 or target[0].start - tile[0].start >= nuclei_net.OVERLAP_PX
        assert tile[0].stop == length or tile[0].stop - target[0].stop >= nuclei_net.OVERLAP_PX
    assert (covered == 1).all()


def test_a_field_in_tiles_is_predicted_as_in_one_piece() -> None:
    image = np.tile(ellipses(20, side=256)[0], (1, 7))[:96]
    whole = nuclei_net._predict_tile(load_network(), normalised_light(image), torch.float32)
    assert np.allclose(predict(load_network(), normalised_light(image), torch.float32), whole, atol=1e-3)
    assert image.shape[1] > nuclei_net.TILE_PX


def test_fusing_batch_norm_into_the_convolutions_changes_nothing() -> None:
    learned = UNet()
    init_weights(learned, 0, "test")
    images = torch.from_numpy(generator("tests", "folded").random((2, 2, 32, 48), dtype=np.float32))
    with torch.no_grad():
        learned.train()(images)  # running statistics other than 0 and 1
        assert torch.allclose(fuse_batch_norm(learned)(images), learned.eval()(images), atol=1e-5)


def test_the_card_belongs_to_the_weights() -> None:
    card = json.loads(CARD.read_text(encoding="utf-8"))
    assert card["sha256"] == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert card["scores"]["held_out"]["mean_f1"]["0.5"] >= 0.88
    assert card["scores"]["simulated, untreated"]["mean_f1"]["0.5"] >= 0.95
    assert sum(weight.numel() for weight in load_network().parameters()) < 1e6


def test_held_out_nuclei_of_many_microscopes_are_found(shared_data: Path) -> None:
    folder = shared_data / "segmentation" / "dsb2018_stage1_fluo"
    held_out = [path for path in sorted((folder / "images").glob("*.png")) if is_held_out(path.stem)]
    scores = [overlaps(Settings().segment(imread(p)), imread(folder / "labels" / p.name)).f1() for p in held_out[::3]]
    assert len(scores) > 30 and np.mean(scores) > 0.88


def is_held_out(name: str) -> bool:
    """Return whether the training script holds the field out."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32 < 0.2


def test_nuclei_of_a_microscope_outside_the_training_data_are_found(shared_data: Path) -> None:
    folder = shared_data / "segmentation" / "stardist_img2d"
    image, truth = tifffile.imread(folder / "img2d.tif"), tifffile.imread(folder / "mask2d.tif")
    assert overlaps(Settings().segment(image), truth).f1() > 0.85


def test_a_real_field_has_about_195_nuclei_of_37_pixels(shared_data: Path) -> None:
    field = tifffile.imread(next((shared_data / "fields").glob("Week1_150607_B02_s3_w1*.tif")))
    labels = Settings().segment(field)
    assert 185 <= labels.max() <= 205
    assert 33 < 2 * np.sqrt(np.median(np.bincount(labels.ravel())[1:]) / np.pi) < 40


def test_a_nearly_empty_real_field_has_hardly_any_nuclei(shared_data: Path) -> None:
    field = tifffile.imread(next((shared_data / "fields").glob("Week8_4sites_F02_s4_w1*.tif")))
    assert 2 <= Settings().segment(field).max() <= 12
