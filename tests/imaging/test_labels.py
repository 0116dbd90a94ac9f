"""labels: relabelled and repaired label images, measurements per nucleus, and matched labels."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label, regionprops_table

from cellssl.imaging.labels import (
    fill_holes,
    label_areas,
    largest_components,
    match_labels,
    measure,
    relabel,
    select_labels,
    touches_edge,
)
from cellssl.randomness import generator


def blobs(name: str, rows: int = 80, columns: int = 70) -> np.ndarray:
    """A random label image with objects of many sizes and shapes."""
    noise = generator("tests", "blobs", name).random((rows // 5, columns // 5))
    return label(np.kron(noise, np.ones((5, 5))) > 0.6, connectivity=1).astype(np.int32)


def test_a_nucleus_on_the_border_touches_the_edge() -> None:
    labels = np.pad(np.ones((3, 3), int), ((0, 5), (2, 2)))  # touches the top edge only
    assert touches_edge(labels).tolist() == [True]
    assert select_labels(labels, ~touches_edge(labels)).max() == 0


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_nucleus_one_pixel_from_the_border_does_not_touch_the_edge(turn: int) -> None:
    labels = np.rot90(np.pad(np.ones((3, 3), int), ((1, 5), (2, 2))), turn)
    assert touches_edge(labels).tolist() == [False]
    assert select_labels(labels, ~touches_edge(labels)).max() == 1


def test_selected_labels_are_numbered_from_1_in_the_same_order() -> None:
    labels = np.array([[0, 3, 1], [2, 0, 4]])
    assert select_labels(labels, np.array([False, True, True, False])).tolist() == [[0, 2, 0], [1, 0, 0]]


def test_relabelling_closes_gaps_and_keeps_the_order() -> None:
    labels = np.array([[0, 7, 7], [3, 0, 9]])
    assert relabel(labels).tolist() == [[0, 2, 2], [1, 0, 3]]


def test_measurements_agree_with_scikit_image() -> None:
    labels = blobs("measured")
    nuclei = measure(labels)
    known = regionprops_table(labels, properties=("centroid", "area", "eccentricity"))
    assert nuclei.area_px.tolist() == known["area"].astype(int).tolist() == label_areas(labels).tolist()
    assert np.allclose(nuclei.centres, np.stack([known["centroid-0"], known["centroid-1"]], axis=1))
    assert np.allclose(nuclei.eccentricity, known["eccentricity"], atol=1e-6)


def test_the_true_nucleus_is_the_one_under_most_pixels() -> None:
    labels, truth = blobs("found"), blobs("true")
    by_loops = [np.bincount(truth[labels == i]).argmax() for i in range(1, labels.max() + 1)]
    assert match_labels(labels, truth).tolist() == by_loops
    assert 0 in by_loops and len(set(by_loops)) > 5


def test_a_field_without_nuclei_has_empty_tables() -> None:
    nothing = np.zeros((9, 9), np.int32)
    assert len(measure(nothing).area_px) == len(match_labels(nothing, nothing)) == len(touches_edge(nothing)) == 0


def test_the_largest_component_of_every_label_is_kept() -> None:
    labels = np.zeros((6, 9), np.int32)
    labels[1:3, 1:3] = labels[4, 7] = 1
    labels[0, 5:7] = labels[5, 0:3] = 2
    largest = largest_components(labels)
    assert (largest[1:3, 1:3] == 1).all() and largest[4, 7] == 0
    assert (largest == 2).sum() == 3 and (largest[5, 0:3] == 2).all()


def test_a_hole_within_one_label_is_filled_and_a_gap_between_two_is_not() -> None:
    labels = np.zeros((9, 16), np.int32)
    labels[1:8, 1:8], labels[1:8, 8:15] = 1, 2
    labels[3:5, 3:5] = labels[4, 7:9] = labels[1, 10] = 0  # inside one; between both; open to the outside
    filled = fill_holes(labels)
    assert (filled[3:5, 3:5] == 1).all() and filled.dtype == labels.dtype
    assert (filled[4, 7:9] == 0).all() and filled[1, 10] == 0
    assert (np.delete(filled.ravel(), np.flatnonzero(labels.ravel() == 0)) == labels[labels > 0]).all()


def test_the_filled_holes_of_a_single_label_are_those_of_scipy() -> None:
    one = (blobs("holes", 300, 300) > 0).astype(np.int32)
    assert (fill_holes(one) == ndimage.binary_fill_holes(one)).all() and fill_holes(one).sum() > one.sum()


@pytest.mark.parametrize("background", [0, 7])
def test_labels_may_be_too_large_for_a_table_over_all_numbers(background: int) -> None:
    labels = np.full((20, 30), background, np.int32)
    labels[2:5, 2:5], labels[8:12, 8:12] = 2_000_000_000, 1_000_000_000
    relabelled = relabel(labels)
    assert relabelled.dtype == np.int32 and relabelled[3, 3] == relabelled[9, 9] + 1
    assert relabelled.max() == (2 if background == 0 else 3) and (relabelled[0, 0] == 0) == (background == 0)
