"""detection_scores: matched nuclei compared with loops; counts of merges, splits, misses and debris."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label

from cellssl.imaging.detection_scores import count_errors, overlaps
from cellssl.randomness import generator


def blobs(name: str) -> np.ndarray:
    noise = ndimage.gaussian_filter(generator("tests", "agreement", name).random((80, 90)), 3)
    return label(noise > np.percentile(noise, 60))


def moved(labels: np.ndarray, rows: int) -> np.ndarray:
    return np.pad(labels, ((rows, 0), (0, 0)))[: len(labels)]


def test_overlaps_agree_with_loops() -> None:
    found, truth = moved(blobs("a"), 1), blobs("a")
    pairs = overlaps(found, truth)
    assert len(pairs.overlap) > 5
    for one, other, overlap in zip(pairs.found, pairs.true, pairs.overlap, strict=True):
        a, b = found == one, truth == other
        assert overlap == (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("at", [0.5, 0.7, 0.9])
def test_f1_agrees_with_loops(at: float) -> None:
    found, truth = moved(blobs("b"), 1), blobs("b")
    matches = sum(
        ((found == i) & (truth == j)).sum() / ((found == i) | (truth == j)).sum() > at
        for i in range(1, found.max() + 1)
        for j in range(1, truth.max() + 1)
    )
    assert overlaps(found, truth).f1(at) == 2 * matches / (found.max() + truth.max())


def test_f1_is_1_for_equal_labels_symmetric_and_1_for_two_empty_fields() -> None:
    one, other, nothing = blobs("c"), blobs("d"), np.zeros((80, 90), int)
    assert overlaps(one, one * 3).f1(0.9) == 1  # labels may have gaps
    assert overlaps(one, other).f1() == overlaps(other, one).f1()
    assert overlaps(nothing, nothing).f1() == 1 and overlaps(nothing, one).f1() == 0


def test_below_a_half_a_nucleus_could_have_two_partners() -> None:
    with pytest.raises(ValueError, match="may match two others"):
        overlaps(blobs("c"), blobs("c")).matches(0.4)


def test_each_kind_of_error_is_counted_on_its_own() -> None:
    truth, found = np.zeros((30, 100), int), np.zeros((30, 100), int)
    truth[5:10, 5:10], truth[5:10, 10:15], found[5:10, 5:15] = 1, 2, 1  # two true nuclei in one
    truth[5:15, 30:40], found[5:10, 30:40], found[10:15, 30:40] = 3, 2, 3  # one true nucleus in two
    truth[5:15, 50:60] = 4  # not found
    found[5:15, 70:80] = 4  # is none
    truth[5:15, 85:95] = found[5:15, 85:95] = 5
    counts = count_errors(found, truth)
    assert (counts.merged, counts.split, counts.missed, counts.debris) == (2, 1, 1, 1)
    assert count_errors(truth, truth) == count_errors(np.zeros((3, 3), int), np.zeros((3, 3), int))
