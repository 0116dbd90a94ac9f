"""Neighbours: distances against all pairs, borders against counting pixel by pixel."""

import time

import numpy as np
import pytest
from skimage.segmentation import expand_labels

from cellssl.imaging.labels import measure
from cellssl.imaging.neighbours import distances_to_others, measure_neighbours, measure_touching
from cellssl.randomness import generator


def random_labels(n: int, rows: int, columns: int, radius: float) -> np.ndarray:
    """Discs at random places that stop where they meet."""
    points = np.zeros((rows, columns), np.int32)
    places = generator("tests", "neighbours").permutation(rows * columns)[:n]
    points.ravel()[places] = np.arange(1, n + 1)
    return np.asarray(expand_labels(points, radius), np.int32)


def touching_by_loops(labels: np.ndarray) -> tuple[list[int], list[float]]:
    rows, columns = labels.shape
    counts, shares = [], []
    for number in range(1, labels.max() + 1):
        others, border, free = set(), 0, 0
        for row, column in np.argwhere(labels == number):
            beside = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
            beside = [(r, c) for r, c in beside if 0 <= r < rows and 0 <= c < columns]
            if all(labels[place] == number for place in beside):
                continue
            near = set(np.unique(labels[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3])) - {0, number}
            border, free, others = border + 1, free + (not near), others | near
        counts.append(len(others))
        shares.append(free / border)
    return counts, shares


def test_touching_nuclei_and_free_borders_agree_with_loops() -> None:
    labels = random_labels(30, 60, 70, 6)
    counts, shares = touching_by_loops(labels)
    touching, free_border = measure_touching(labels, 30)
    assert touching.tolist() == counts and max(counts) >= 3
    assert free_border == pytest.approx(shares)


@pytest.mark.parametrize(("gap", "touch", "free"), [(0, 1, 18), (1, 1, 20), (2, 0, 28)])
def test_nuclei_touch_over_one_pixel_at_most(gap: int, touch: int, free: int) -> None:
    labels = np.zeros((12, 30), np.int32)
    labels[2:10, 2:10] = 1
    labels[2:10, 10 + gap : 18 + gap] = 2
    touching, free_border = measure_touching(labels, 2)
    assert touching.tolist() == [touch] * 2
    assert free_border == pytest.approx([free / 28] * 2)  # a square of 8 px has 28 border pixels


def test_distances_agree_with_all_pairs_and_are_nan_for_few_nuclei() -> None:
    centres = generator("tests", "centres").uniform(0, 100, (40, 2))
    pairs = np.sort(np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1)), axis=1)
    assert distances_to_others(centres, 3) == pytest.approx(pairs[:, 1:4])
    assert np.isnan(distances_to_others(centres[:1], 3)).all()
    assert np.isnan(distances_to_others(centres[:3], 3)).sum(axis=1).tolist() == [1, 1, 1]
    assert distances_to_others(centres[:0], 3).shape == (0, 3)


def test_a_field_without_nuclei_has_no_neighbours() -> None:
    labels = np.zeros((8, 9), np.int32)
    assert all(len(values) == 0 for values in vars(measure_neighbours(labels, measure(labels).centres)).values())


def test_a_field_of_200_nuclei_takes_a_few_milliseconds() -> None:
    labels = random_labels(200, 1024, 1280, 18)
    centres, times = measure(labels).centres, []
    for _ in range(3):
        start = time.process_time()
        measure_neighbours(labels, centres)
        times.append(time.process_time() - start)
    assert min(times) < 0.05  # 0.01 s on a machine without other work
