"""labels and selection: what is dropped, why, and what is known about the rest."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label, regionprops_table

from cellssl.imaging import labels as label_images
from cellssl.imaging import selection
from cellssl.imaging.quality import NucleusQuality
from cellssl.randomness import generator


def blobs(name: str, rows: int = 80, columns: int = 70) -> np.ndarray:
    """A made-up label image of many sizes and shapes."""
    noise = generator("tests", "blobs", name).random((rows // 5, columns // 5))
    return label(np.kron(noise, np.ones((5, 5))) > 0.6, connectivity=1).astype(np.int32)


def test_a_nucleus_on_the_border_is_dropped() -> None:
    labels = np.pad(np.ones((3, 3), int), ((0, 5), (2, 2)))  # touches the top edge only
    assert label_images.drop_border(labels).max() == 0


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_nucleus_one_pixel_from_the_border_stays(turn: int) -> None:
    labels = np.rot90(np.pad(np.ones((3, 3), int), ((1, 5), (2, 2))), turn)
    assert label_images.drop_border(labels).max() == 1


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
@pytest.mark.parametrize("window_px", [None, 20, 60])
def test_every_detected_nucleus_is_kept_or_counted_under_one_reason(name: str, window_px: int | None) -> None:
    labels = blobs(name)
    kept = selection.keep(labels, selection.Limits(min_area_px=40.0, max_area_px=400.0, window_px=window_px))
    assert kept.counts["detected"] == labels.max()
    assert kept.counts["detected"] == kept.counts["kept"] + sum(kept.counts[reason] for reason in selection.REASONS)
    assert kept.counts["kept"] == kept.labels.max() == len(np.unique(kept.labels)) - 1


def test_the_first_reason_wins() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[0, 0] = 1  # on the edge, and too small, and without a whole window
    labels[5, 5] = 2  # too small, and without a whole window
    labels[2:5, 10:13] = 3  # without a whole window
    labels[10:13, 10:13] = 4
    counts = selection.keep(labels, selection.Limits(min_area_px=9.0, max_area_px=9.0, window_px=8)).counts
    assert {name: count for name, count in counts.items() if count} == {
        "detected": 4,
        "edge": 1,
        "too_small": 1,
        "window_outside": 1,
        "kept": 1,
    }


def test_ragged_saturated_and_blurred_nuclei_are_dropped_where_limits_are_set() -> None:
    labels = np.pad(np.kron(np.arange(1, 5), np.ones((3, 3), int)), 2)
    quality = NucleusQuality(
        solidity=np.array([0.5, 1, 1, 1]),
        focus=np.array([1, 1, 0.1, 1.0]),
        brightness=np.ones(4),
        saturated=np.array([0, 0.5, 0, 0]),
        edge_px=np.ones(4),
        nearest_px=np.ones(4),
    )
    counts = selection.keep(
        labels, selection.Limits(min_solidity=0.9, max_saturated=0.4, min_focus=0.2), quality
    ).counts
    assert (counts["ragged"], counts["saturated"], counts["blurred"], counts["kept"]) == (1, 1, 1, 1)
    assert selection.keep(labels, selection.Limits(), quality).counts["kept"] == 4


def test_relabelling_closes_gaps_and_keeps_the_order() -> None:
    labels = np.array([[0, 7, 7], [3, 0, 9]])
    assert label_images.relabel(labels).tolist() == [[0, 2, 2], [1, 0, 3]]


def test_measures_agree_with_scikit_image() -> None:
    labels = blobs("measured")
    nuclei = label_images.measure(labels)
    known = regionprops_table(labels, properties=("centroid", "area", "eccentricity"))
    assert nuclei.area_px.tolist() == known["area"].astype(int).tolist() == label_images.label_areas(labels).tolist()
    assert np.allclose(nuclei.centres, np.stack([known["centroid-0"], known["centroid-1"]], axis=1))
    assert np.allclose(nuclei.eccentricity, known["eccentricity"], atol=1e-6)


def test_the_true_nucleus_is_the_one_under_most_pixels() -> None:
    labels, truth = blobs("found"), blobs("true")
    by_loops = [np.bincount(truth[labels == i]).argmax() for i in range(1, labels.max() + 1)]
    assert label_images.match_labels(labels, truth).tolist() == by_loops
    assert 0 in by_loops and len(set(by_loops)) > 5


def test_a_field_without_nuclei_has_empty_tables() -> None:
    nothing = np.zeros((9, 9), np.int32)
    kept = selection.keep(nothing, selection.Limits(min_area_px=5.0, window_px=4))
    assert set(kept.counts.values()) == {0}
    assert len(label_images.measure(nothing).area_px) == len(label_images.match_labels(nothing, nothing)) == 0


def test_an_area_in_micrometres_becomes_pixels() -> None:
    assert label_images.area_px(50.0, pixel_um=0.5) == 200


def test_of_every_label_its_largest_piece_is_left() -> None:
    labels = np.zeros((6, 9), np.int32)
    labels[1:3, 1:3] = labels[4, 7] = 1
    labels[0, 5:7] = labels[5, 0:3] = 2
    pieces = label_images.largest_components(labels)
    assert (pieces[1:3, 1:3] == 1).all() and pieces[4, 7] == 0
    assert (pieces == 2).sum() == 3 and (pieces[5, 0:3] == 2).all()


def test_a_hole_within_one_label_is_filled_and_a_gap_between_two_is_not() -> None:
    labels = np.zeros((9, 16), np.int32)
    labels[1:8, 1:8], labels[1:8, 8:15] = 1, 2
    labels[3:5, 3:5] = labels[4, 7:9] = labels[1, 10] = 0  # inside one; between both; open to the outside
    filled = label_images.fill_holes(labels)
    assert (filled[3:5, 3:5] == 1).all() and filled.dtype == labels.dtype
    assert (filled[4, 7:9] == 0).all() and filled[1, 10] == 0
    assert (np.delete(filled.ravel(), np.flatnonzero(labels.ravel() == 0)) == labels[labels > 0]).all()


def test_holes_are_those_that_scipy_fills() -> None:
    one = (blobs("holes", 300, 300) > 0).astype(np.int32)
    assert (label_images.fill_holes(one) == ndimage.binary_fill_holes(one)).all() and label_images.fill_holes(
        one
    ).sum() > one.sum()


@pytest.mark.parametrize("background", [0, 7])
def test_nuclei_may_have_numbers_that_no_table_could_hold(background: int) -> None:
    labels = np.full((20, 30), background, np.int32)
    labels[2:5, 2:5], labels[8:12, 8:12] = 2_000_000_000, 1_000_000_000
    relabelled = label_images.relabel(labels)
    assert relabelled.dtype == np.int32 and relabelled[3, 3] == relabelled[9, 9] + 1
    assert relabelled.max() == (2 if background == 0 else 3) and (relabelled[0, 0] == 0) == (background == 0)
