"""Masks of crops: only the own cell is left, and its mirror image is not it."""

import numpy as np

from cellssl.imaging.crop_masks import mask_crops, own_masks
from cellssl.imaging.cropping import crop, resampled
from cellssl.randomness import generator


def test_only_the_pixels_of_the_own_cell_are_left() -> None:
    labels = np.zeros((60, 60), np.int32)
    labels[20:32, 20:32], labels[20:32, 32:44] = 1, 2
    field = generator("tests", "masks").integers(1, 65_536, (3, 60, 60)).astype(np.uint16)
    centres = np.array([[25.5, 25.5], [25.5, 37.5]])
    masked = mask_crops(crop(field, centres, 24), own_masks(labels, np.array([1, 2]), centres, 24.0, 24))
    alone = [crop(np.where(labels == number, field, 0).astype(np.uint16), centres, 24) for number in (1, 2)]
    assert (masked[0] == alone[0][0]).all() and (masked[1] == alone[1][1]).all()
    assert (masked > 0).sum(axis=(1, 2, 3)).tolist() == [3 * 144] * 2


def test_the_mirror_image_of_a_cell_is_masked() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[1:9, 10:30] = 1
    centres = np.array([[4.5, 19.5]])
    field = np.full((1, 40, 40), 9, np.uint16)
    for border in ("reflect", "pad"):
        masked = mask_crops(crop(field, centres, 30, border), own_masks(labels, np.array([1]), centres, 30.0, 30))
        assert (masked > 0).sum() == 160


def test_a_window_larger_than_the_field_has_a_mask_too() -> None:
    labels = np.ones((5, 6), np.int32)
    assert own_masks(labels, np.array([1]), np.array([[2.0, 3.0]]), 50.0, 50).sum() == 30


def test_a_resampled_crop_is_masked_by_its_nearest_pixels() -> None:
    labels = np.zeros((80, 80), np.int32)
    labels[20:60, 20:60], labels[20:60, 60:80] = 1, 2
    field, centres = np.full((1, 80, 80), 700, np.uint16), np.array([[40.0, 40.0]])
    crops = resampled(field, centres, 60.0, 30, "pad")
    left = mask_crops(crops, own_masks(labels, np.array([1]), centres, 60.0, 30))[0, 0] > 0
    assert left.sum() == 20 * 20 and left[5:25, 5:25].all()
