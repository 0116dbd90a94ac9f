"""watershed: made-up fields with known nuclei, invariances, fields without nuclei, and real fields."""

import hashlib
from pathlib import Path

import microscopes
import numpy as np
import pytest
import tifffile
from microscopes import CONDITIONS, OBJECTIVES, Objective, blank, grow, photograph, tilted
from scipy import ndimage
from skimage.io import imread

from cellssl.errors import UsageError
from cellssl.imaging.segmenters.watershed import Settings, typical_diameter_px
from cellssl.randomness import generator


def made_up(radius: float, amplitudes: tuple[float, ...], side: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Draw blurred discs with noise on a jittered grid, none touching; return the image and its true labels."""
    chance = generator("tests", "discs", int(radius), len(amplitudes))
    rows, columns = np.mgrid[:side, :side]
    truth, image = np.zeros((side, side), np.int32), np.full((side, side), 500.0)
    step = 3.2 * radius + 4
    for row in np.arange(step, side - step / 2, step):
        for column in np.arange(step, side - step / 2, step):
            top, left = row + chance.uniform(-1, 1) * radius / 5, column + chance.uniform(-1, 1) * radius / 5
            disc = np.hypot(rows - top, columns - left) < radius * chance.uniform(0.8, 1.2)
            truth[disc] = truth.max() + 1
            image[disc] += amplitudes[truth.max() % len(amplitudes)]
    return with_noise(ndimage.gaussian_filter(image, 1), 20), truth


def with_noise(image: np.ndarray, sd: float) -> np.ndarray:
    noisy = image + sd * generator("tests", "noise").standard_normal(image.shape)
    return noisy.clip(0, 65_535).astype(np.uint16)


def f1(found: np.ndarray, truth: np.ndarray, overlap: float = 0.5) -> float:
    """Compute F1 at an intersection over union above `overlap` by loops."""
    matches = 0
    for number in range(1, found.max() + 1):
        nucleus = found == number
        for other in np.unique(truth[nucleus]):
            both, either = (nucleus & (truth == other)).sum(), (nucleus | (truth == other)).sum()
            matches += bool(other > 0 and both / either > overlap)
    return 2 * matches / max(found.max() + len(np.unique(truth)) - 1, 1)


@pytest.mark.parametrize("radius", [4.0, 7.0, 12.0, 20.0, 35.0])
def test_every_nucleus_of_a_made_up_field_is_found_without_its_size(radius: float) -> None:
    image, truth = made_up(radius, (1000.0, 2000.0, 3000.0), side=256 if radius < 20 else 512)
    labels = Settings().segment(image)
    assert f1(labels, truth, overlap=0.7) == 1.0
    assert sorted(np.unique(labels)) == list(range(truth.max() + 1))


def test_bright_mitotic_cells_do_not_hide_dim_nuclei() -> None:
    image, truth = made_up(12.0, (400.0, 5000.0))
    assert f1(Settings().segment(image), truth) == 1.0


def test_uneven_illumination_does_not_matter() -> None:
    image, truth = made_up(12.0, (1500.0,), side=512)
    rows, columns = np.mgrid[:512, :512]
    vignette = 1 - 0.6 * ((rows - 256) ** 2 + (columns - 256) ** 2) / 256**2 / 2
    assert f1(Settings().segment((image * vignette).astype(np.uint16)), truth) == 1.0


@pytest.mark.parametrize("gap_px", [-4, -2, 0, 1])
def test_touching_and_overlapping_nuclei_are_separated(gap_px: int) -> None:
    rows, columns = np.mgrid[:300, :300]
    image = np.full((300, 300), 500.0)
    for top in range(40, 300, 70):
        for left in range(40, 260, 90):
            for centre in (left, left + 30 + gap_px):
                image[np.hypot(rows - top, columns - centre) < 15] = 2000
    assert Settings().segment(with_noise(ndimage.gaussian_filter(image, 1), 20)).max() == 4 * 3 * 2


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_field_has_the_same_nuclei_turned(turns: int) -> None:
    image, _ = made_up(9.0, (1000.0, 3000.0))
    straight, turned = Settings().segment(image), Settings().segment(np.rot90(image, turns).copy())
    assert turned.max() == straight.max() > 40
    assert f1(np.rot90(turned, -turns), straight, overlap=0.97) == 1.0


def test_a_mirrored_field_has_the_same_nuclei_mirrored() -> None:
    # large enough that the search runs on a smaller image, whose squares fit into the field
    image, _ = made_up(20.0, (1000.0, 3000.0), side=510)
    straight, mirrored = Settings().segment(image), Settings().segment(image[:, ::-1].copy())
    assert mirrored.max() == straight.max() > 20
    assert f1(mirrored[:, ::-1], straight, overlap=0.97) == 1.0


def test_gain_and_offset_of_the_camera_do_not_matter() -> None:
    image, _ = made_up(9.0, (1000.0, 3000.0))
    plain, brighter = Settings().segment(image), Settings().segment(8 * image.astype(np.float32) + 4096)
    assert plain.max() == brighter.max()
    assert ((plain > 0) == (brighter > 0)).mean() > 0.999


@pytest.mark.parametrize("blur_px", [0.0, 1.5, 5.0])
def test_a_field_of_noise_has_no_nuclei(blur_px: float) -> None:
    noise = ndimage.gaussian_filter(generator("tests", "empty").standard_normal((512, 640)), blur_px)
    image = (800 + 40 * noise / noise.std()).astype(np.uint16)
    assert Settings().segment(image).max() == 0


def test_two_nuclei_in_a_field_of_blurred_noise_are_found() -> None:
    noise = ndimage.gaussian_filter(generator("tests", "empty").standard_normal((512, 640)), 5)
    image = 800 + 40 * noise / noise.std()
    image[100:130, 100:130] += 1500
    image[300:330, 400:430] += 6000
    assert Settings().segment(image.astype(np.uint16)).max() == 2


@pytest.mark.parametrize("shape", [(1, 1), (5, 900), (40, 40), (33, 517)])
@pytest.mark.parametrize("value", [0, 255, 65_535])
def test_a_constant_field_of_any_shape_has_no_nuclei(shape: tuple[int, int], value: int) -> None:
    labels = Settings().segment(np.full(shape, value, np.uint16))
    assert labels.shape == shape and labels.max() == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_nuclei_of_a_single_grey_level_are_found(dtype: type) -> None:
    _, truth = made_up(9.0, (1000.0,))
    assert f1(Settings().segment((truth > 0).astype(dtype)), truth) == 1.0


@pytest.mark.parametrize("radius", [5.0, 10.0, 25.0])
def test_the_typical_diameter_is_measured(radius: float) -> None:
    image, _ = made_up(radius, (1500.0,), side=512)
    assert typical_diameter_px(image.astype(np.float32)) == pytest.approx(2 * radius, rel=0.25)


def test_a_diameter_in_micrometres_needs_the_size_of_a_pixel() -> None:
    image, truth = made_up(12.0, (1500.0,))
    assert f1(Settings(diameter_um=12.0).segment(image, pixel_um=0.5), truth) == 1.0
    with pytest.raises(UsageError, match="size of a pixel is not known"):
        Settings(diameter_um=12.0).segment(image)


def count(image: np.ndarray) -> int:
    return int(Settings().segment(image).max())


def median_area(labels: np.ndarray) -> float:
    return float(np.median(np.bincount(labels.ravel())[1:]))


@pytest.mark.parametrize("name", CONDITIONS)
def test_the_background_does_not_change_the_count(name: str) -> None:
    image = photograph(grow(70, height_um=256, width_um=320), OBJECTIVES["20x"]).image
    assert count(CONDITIONS[name](image)) == pytest.approx(count(image), rel=0.02)


@pytest.mark.parametrize("name", CONDITIONS)
def test_nothing_is_found_in_a_blank_well_on_any_background(name: str) -> None:
    assert count(CONDITIONS[name](blank((384, 480)))) == 0


def test_three_nuclei_on_a_slope_are_found() -> None:
    photo = photograph(grow(3, height_um=256, width_um=320, on_edge=False), OBJECTIVES["20x"])
    assert photo.labels.max() == 3
    assert [count(tilted(photo.image, 3000, degrees)) for degrees in (0, 45, 250)] == [3, 3, 3]


def test_the_same_cells_have_the_same_count_and_area_at_every_magnification() -> None:
    culture = grow(40, height_um=200, width_um=250, on_edge=False)
    photos = [photograph(culture, objective) for objective in OBJECTIVES.values()]
    found = [Settings().segment(tilted(photo.image, 2000, 30)) for photo in photos]
    areas_um2 = [median_area(labels) * photo.pixel_um**2 for labels, photo in zip(found, photos, strict=True)]
    assert [labels.max() for labels in found] == pytest.approx([40] * 5, rel=0.05)
    assert areas_um2 == pytest.approx([areas_um2[2]] * 5, rel=0.06)


@pytest.mark.parametrize("contrast_of_chromatin", [0.0, 0.4])
def test_nuclei_of_250_pixels_are_found_whatever_their_texture(contrast_of_chromatin: float) -> None:
    culture = grow(8, height_um=45, width_um=60, on_edge=False)
    photo = photograph(culture, Objective(0.06, 1.4), contrast_of_chromatin=contrast_of_chromatin)
    assert f1(Settings().segment(tilted(photo.image, 3000)), photo.labels, overlap=0.7) == 1.0


def test_dense_nuclei_are_counted() -> None:
    photo = photograph(grow(550, height_um=450, width_um=560, diameter_um=14), OBJECTIVES["10x"])
    assert photo.labels.max() > 500
    assert count(tilted(photo.image, 3000, 60)) == pytest.approx(photo.labels.max(), rel=0.02)


def test_a_real_field_has_the_same_nuclei_on_a_slope_and_in_a_glow(shared_data: Path) -> None:
    field = microscopes.real_dapi(shared_data)
    if field is None:
        pytest.skip("the real field is not there")
    counts = [count(image) for image in (field, tilted(field, 3000, 215), microscopes.glowing(field, 3000))]
    assert counts == pytest.approx([counts[0]] * 3, rel=0.02)


def test_a_real_field_has_the_same_nuclei_enlarged_and_shrunk(shared_data: Path) -> None:
    field = microscopes.real_dapi(shared_data)
    if field is None:
        pytest.skip("the real field is not there")
    part = field[:400, :500]
    found = {factor: Settings().segment(microscopes.resized(part, factor)) for factor in (0.5, 1, 3)}
    assert [labels.max() for labels in found.values()] == pytest.approx([found[1].max()] * 3, rel=0.05)
    assert [median_area(found[factor]) / factor**2 for factor in found] == pytest.approx(
        [median_area(found[1])] * 3, rel=0.1
    )


def test_a_real_field_has_about_195_nuclei_of_37_pixels(shared_data: Path) -> None:
    field = tifffile.imread(next((shared_data / "fields").glob("Week1_150607_B02_s3_w1*.tif")))
    labels = Settings().segment(field)
    areas = np.bincount(labels.ravel())[1:]
    assert 185 <= labels.max() <= 205
    assert 33 < 2 * np.sqrt(np.median(areas) / np.pi) < 40


def test_a_nearly_empty_real_field_has_hardly_any_nuclei(shared_data: Path) -> None:
    field = tifffile.imread(next((shared_data / "fields").glob("Week8_4sites_F02_s4_w1*.tif")))
    assert 2 <= Settings().segment(field).max() <= 10


def test_nuclei_of_many_microscopes_are_found(shared_data: Path) -> None:
    folder = shared_data / "segmentation" / "dsb2018_stage1_fluo"
    files = sorted((folder / "images").glob("*.png"), key=lambda path: hashlib.sha256(path.stem.encode()).hexdigest())
    scores = []
    for path in files[:40]:
        image, truth = imread(path), imread(folder / "labels" / path.name)
        scores.append(f1(Settings().segment(image), truth))
    assert np.mean(scores) > 0.80
