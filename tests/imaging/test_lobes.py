"""Lobes of one cell become one label; nuclei of two cells stay two."""

import numpy as np
import pytest
from microscopes import tilted

from cellssl.imaging.lobes import LobeLimits, find_fronts, merge_lobes, typical_area_px

LIMITS = LobeLimits(max_gap=0.3, max_area=1.5, min_bridge=0.8)
RADII = (8, 8, 15, 15, 15, 15)


def field(fourth: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Return labels of two small lobes and four whole nuclei, and cell bodies that are bright around all of them.

    `fourth` is the column of the fourth object, to the right of the third.
    """
    centres = ((40, 40), (40, 56), (40, 110), (40, fourth), (110, 40), (110, 110))
    rows, columns = np.mgrid[:160, :200]
    labels, bodies = np.zeros((160, 200), np.int32), np.full((160, 200), 100, np.uint16)
    for number, ((row, column), radius) in enumerate(zip(centres, RADII, strict=True), 1):
        away = np.hypot(rows - row, columns - column)
        labels[(away < radius) & (labels == 0)] = number
        bodies[away < 28] = 900
    return labels, bodies


def test_two_lobes_in_one_body_become_one_label() -> None:
    labels, bodies = field()
    merged = merge_lobes(labels, bodies, LIMITS)
    assert merged.max() == 5
    assert merged[40, 40] == merged[40, 56] == 1
    assert np.array_equal(merged > 0, labels > 0), "pixels between lobes stay background"


def test_a_dark_border_between_two_bodies_keeps_them_apart() -> None:
    labels, bodies = field()
    bodies[20:60, 46:51] = 100
    assert np.array_equal(merge_lobes(labels, bodies, LIMITS), labels)


def test_two_whole_nuclei_that_touch_stay_two() -> None:
    labels, bodies = field(fourth=139)
    fronts = find_fronts(labels, bodies.astype(np.float32), 2.0, 3.0)
    assert list(zip(fronts.first, fronts.second, strict=True)) == [(1, 2), (3, 4)]
    merged = merge_lobes(labels, bodies, LIMITS)
    assert merged[40, 110] != merged[40, 139]


def test_a_group_of_lobes_never_grows_beyond_the_largest_area() -> None:
    labels, bodies = np.zeros((40, 200), np.int32), np.full((40, 200), 500, np.uint16)
    for number in range(8):
        labels[10:20, 5 + 14 * number : 15 + 14 * number] = number + 1
    bodies[:3] = 0
    merged = merge_lobes(labels, bodies, LobeLimits(0.5, 3.0, 0.5))
    assert np.bincount(merged.ravel())[1:].max() == 300


def test_merging_is_the_same_for_a_rotated_field() -> None:
    labels, bodies = field()
    turned = merge_lobes(np.rot90(labels), np.rot90(bodies), LIMITS)
    assert np.array_equal(np.rot90(turned, -1), merge_lobes(labels, bodies, LIMITS))


def test_the_same_cells_at_twice_the_magnification_are_merged_alike() -> None:
    labels, bodies = field()
    once = merge_lobes(labels, bodies, LIMITS)
    twice = merge_lobes(np.kron(labels, np.ones((2, 2), int)), np.kron(bodies, np.ones((2, 2), np.uint16)), LIMITS)
    assert np.array_equal(twice, np.kron(once, np.ones((2, 2), int)))


def test_the_size_of_a_whole_nucleus_can_be_given() -> None:
    labels, bodies = field()
    labels[labels > 2] = 0
    assert merge_lobes(labels, bodies, LIMITS).max() == 2, "two lobes alone look like two nuclei"
    assert merge_lobes(labels, bodies, LIMITS, diameter_px=30.0).max() == 1


def test_many_small_lobes_hardly_lower_the_size_of_a_whole_nucleus() -> None:
    assert typical_area_px(np.array([700] * 10 + [100] * 40)) == 700


@pytest.mark.parametrize("labels", [np.zeros((9, 9), np.int32), np.pad(np.ones((3, 3), np.int32), 3)])
def test_a_field_with_no_pair_stays_as_it_is(labels: np.ndarray) -> None:
    assert np.array_equal(merge_lobes(labels, np.ones((9, 9), np.uint8), LIMITS), labels)


@pytest.mark.parametrize("degrees", [0, 215])
def test_a_slope_neither_merges_two_cells_nor_parts_one(degrees: float) -> None:
    one_cell, bodies = field()
    labels, channel = np.tile(one_cell, (3, 3)), np.tile(bodies, (3, 3))
    labels += np.repeat(np.repeat(6 * np.arange(9).reshape(3, 3), 160, axis=0), 200, axis=1) * (labels > 0)
    channel[160:, :][20:60, 46:51] = channel[160:, :][20:60, 246:251] = 400  # a border, darker than the bodies
    flat = merge_lobes(labels, channel, LIMITS)
    assert 45 < flat.max() < 54
    assert np.array_equal(merge_lobes(labels, tilted(channel, 6000, degrees), LIMITS), flat)
