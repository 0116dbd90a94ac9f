"""cropping: which pixels are in a window, and what fills it beyond the field."""

import numpy as np
import pytest

from cellssl.imaging.cropping import crop, nearest, resampled, window_starts, windows_inside
from cellssl.randomness import generator


def field(rows: int = 30, columns: int = 40, channels: int = 2) -> np.ndarray:
    return generator("tests", "field").integers(0, 65_536, (channels, rows, columns)).astype(np.uint16)


@pytest.mark.parametrize(("crop_px", "first"), [(5, 8), (6, 7), (1, 10)])
def test_the_pixel_of_the_centre_lies_at_half_the_window(crop_px: int, first: int) -> None:
    image = field()
    window = crop(image, np.array([[10.0, 20.0]]), crop_px)[0]
    assert (window[:, crop_px // 2, crop_px // 2] == image[:, 10, 20]).all()
    assert (window == image[:, first : first + crop_px, first + 10 : first + 10 + crop_px]).all()


@pytest.mark.parametrize("crop_px", [4, 5, 196])
def test_the_middle_of_a_window_is_at_most_half_a_pixel_from_the_centre(crop_px: int) -> None:
    ramp = np.arange(2000, dtype=np.uint16)[None, :, None].repeat(crop_px + 1, axis=2)
    centres = np.stack([generator("tests", "ramp").uniform(300, 1700, 50), np.full(50, crop_px / 2)], axis=1)
    middles = crop(ramp, centres, crop_px)[:, 0].mean(axis=(1, 2))
    assert np.abs(middles - centres[:, 0]).max() <= 0.5


@pytest.mark.parametrize(("border", "mode"), [("reflect", "reflect"), ("pad", "constant")])
@pytest.mark.parametrize("crop_px", [7, 8, 150])  # the last is larger than the field
def test_windows_that_leave_the_field_agree_with_a_padded_field(border: str, mode: str, crop_px: int) -> None:
    image = field()
    centres = np.array([[0, 0], [29, 39], [0, 39], [15, 20], [3, 38], [29, 1]])
    padded = np.pad(image, ((0, 0), (200, 200), (200, 200)), mode=mode)
    assert (crop(image, centres, crop_px, border) == crop(padded, centres + 200, crop_px, "drop")).all()


def test_a_centre_far_outside_is_mirrored_or_zero() -> None:
    image = field(channels=1)
    assert crop(image, np.array([[-500.0, 900.0]]), 6, "pad").max() == 0
    assert np.isin(crop(image, np.array([[-500.0, 900.0]]), 6, "reflect"), image).all()


def test_windows_inside_need_no_mirrored_pixels() -> None:
    centres = np.array([[4.0, 4.0], [3.0, 4.0], [26.0, 36.0], [26.5, 36.0]])  # windows of 8 start 4 before the centre
    assert windows_inside(centres, 8, (30, 40)).tolist() == [True, False, True, False]
    with pytest.raises(ValueError, match="2 windows leave the field"):
        crop(field(), centres, 8, "drop")


def test_eight_bit_pixels_keep_their_values() -> None:
    image = (field() >> 8).astype(np.uint8)
    window = crop(image, np.array([[10, 10]]), 4)
    assert window.dtype == np.uint16 and (window[0] == image[:, 8:12, 8:12]).all()


def test_floats_are_an_error_since_they_would_be_rounded() -> None:
    with pytest.raises(ValueError, match="uint8 or uint16"):
        crop(field().astype(np.float32), np.array([[10, 10]]), 4)


def test_no_cells_give_an_empty_stack() -> None:
    assert crop(field(), np.empty((0, 2)), 6).shape == (0, 2, 6, 6)


def test_a_window_as_large_as_its_crop_is_cut_as_ever() -> None:
    centres = np.array([[3.2, 38.0], [15.0, 20.7]])
    assert (resampled(field(), centres, 12.0, 12, "pad") == crop(field(), centres, 12, "pad")).all()


def test_a_window_of_twice_the_side_is_the_mean_of_blocks() -> None:
    centres = np.array([[15.3, 20.0], [1.0, 39.0]])
    blocks = crop(field(), centres, 16).astype(float).reshape(2, 2, 8, 2, 8, 2)
    assert (resampled(field(), centres, 16.0, 8) == np.floor(blocks.mean(axis=(3, 5)) + 0.5)).all()


@pytest.mark.parametrize("window_px", [12.5, 23.7])
def test_a_window_that_shrinks_holds_the_means_over_its_areas(window_px: float) -> None:
    centre, crop_px = np.array([[15.0, 20.0]]), 9
    (found,) = resampled(field(), centre, window_px, crop_px).astype(float)
    fine = field().repeat(100, axis=1).repeat(100, axis=2)  # pixels of a hundredth, whose means are exact enough
    top, left = window_starts(centre, window_px)[0] * 100
    edges = np.rint(np.arange(crop_px + 1) * window_px * 100 / crop_px).astype(int)
    for row, column in ((0, 0), (4, 7), (8, 8)):
        rows, columns = (slice(start + edges[i], start + edges[i + 1]) for start, i in ((top, row), (left, column)))
        assert found[:, row, column] == pytest.approx(fine[:, rows, columns].mean(axis=(1, 2)), rel=0.02)


def test_a_window_that_is_enlarged_follows_a_ramp_and_has_no_new_extremes() -> None:
    ramp = (np.arange(40, dtype=np.uint16) * 100)[None, None].repeat(30, axis=1)
    (found,) = resampled(ramp, np.array([[15.0, 20.0]]), 10.0, 40)[:, 0].astype(int)
    assert (np.diff(found, axis=1) == 25).all() and (found == found[0]).all()
    noise = resampled(field(), np.array([[15.0, 20.0]]), 5.3, 31)[0]
    assert noise.max() <= field().max() and noise.min() >= field().min()


def test_masks_of_resampled_windows_hold_labels_only_and_lie_where_the_crops_do() -> None:
    labels = (field(channels=1)[0] % 7).astype(np.int32)
    centres = np.array([[15.3, 20.0], [1.0, 39.0]])
    assert (
        nearest(labels, centres, 8.0, 8, "pad") == crop(labels[None].astype(np.uint16), centres, 8, "pad")[:, 0]
    ).all()
    step = np.zeros((1, 30, 40), np.uint16)
    step[:, :, 20:] = 1000
    for window_px in (9.0, 31.0):
        around = np.array([[15.0, 20.0]])
        of_crop = resampled(step, around, window_px, 20)[0, 0] > 500
        assert (of_crop != nearest(step[0], around, window_px, 20, "reflect")[0].astype(bool)).mean() <= 0.05


def test_windows_need_not_have_one_side_to_be_judged() -> None:
    centres = np.array([[4.0, 4.0], [4.0, 4.0]])
    assert windows_inside(centres, np.array([8.0, 10.0]), np.array([[30, 40], [30, 40]])).tolist() == [True, False]
