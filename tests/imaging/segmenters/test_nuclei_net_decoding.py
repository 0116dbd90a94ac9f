"""_nuclei_net_decoding: offsets to the centres of nuclei give these nuclei, however closely they lie."""

import numpy as np
import pytest
from scipy import ndimage

from cellssl.imaging.detection_scores import overlaps
from cellssl.imaging.labels import measure
from cellssl.imaging.segmenters._nuclei_net_decoding import decode_labels
from cellssl.randomness import generator


def tessellated(cells: int, side: int = 200) -> np.ndarray:
    """Label nuclei that fill the plane, each touching all of its neighbours, with a few gaps."""
    chance = generator("tests", "votes", cells)
    seeds = np.zeros((side, side), np.int32)
    places = chance.permutation(side * side // 64)[:cells]
    rows, columns = np.divmod(places, side // 8)
    seeds[8 * rows + 4, 8 * columns + 4] = np.arange(1, cells + 1)
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    return np.where(ndimage.gaussian_filter(chance.random((side, side)), 8) > 0.49, seeds[tuple(nearest)], 0)


def offsets_of(labels: np.ndarray) -> np.ndarray:
    """Return the offset from every pixel of a nucleus to its centre of mass."""
    centres = np.concatenate([np.zeros((1, 2)), measure(labels).centres])[labels].transpose(2, 0, 1)
    return np.where(labels > 0, centres - np.indices(labels.shape), 0).astype(np.float32)


@pytest.mark.parametrize("cells", [20, 60, 120])
def test_exact_offsets_give_every_nucleus(cells: int) -> None:
    truth = tessellated(cells)
    found = decode_labels(truth > 0, offsets_of(truth))
    assert overlaps(found, truth).f1(0.9) > 0.97  # centres of two slivers may lie on one pixel


def test_offsets_with_errors_of_some_pixels_still_form_one_cluster() -> None:
    truth = np.kron(np.arange(1, 10).reshape(3, 3), np.ones((30, 30), int))  # nine squares without a gap
    errors = ndimage.gaussian_filter(generator("tests", "missed").standard_normal((2, 90, 90)), (0, 3, 3))
    noisy = offsets_of(truth) + (2 * errors / errors.std()).astype(np.float32)
    assert overlaps(decode_labels(truth > 0, noisy), truth).f1(0.9) == 1


def test_labels_are_1_to_n_and_only_tiny_nuclei_are_dropped() -> None:
    truth = tessellated(60)
    found = decode_labels(truth > 0, offsets_of(truth))
    assert np.unique(found).tolist() == list(range(found.max() + 1))
    assert not found[truth == 0].any()
    area = np.bincount(truth.ravel())
    dropped = np.unique(truth[(truth > 0) & (found == 0)])
    assert (area[dropped] < 0.1 * np.median(area[truth[truth > 0]])).all()


def test_no_nucleus_gives_no_label() -> None:
    assert decode_labels(np.zeros((9, 9), bool), np.zeros((2, 9, 9), np.float32)).max() == 0


def test_a_centre_far_outside_the_field_counts_at_its_edge() -> None:
    nucleus = np.zeros((20, 20), bool)
    nucleus[2:8, 2:8] = True
    assert decode_labels(nucleus, np.full((2, 20, 20), -1e4, np.float32)).max() == 1
