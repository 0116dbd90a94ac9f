"""Propagation: the same division as a plain search, the limits that scikit-image gives, and true simulated cells."""

import heapq
from functools import cache

import numpy as np
import pytest
from skimage.segmentation import expand_labels

from cellssl.datasets.simulation import nuclei as simulated_nuclei
from cellssl.datasets.simulation.bodies import tessellate
from cellssl.datasets.simulation.scene import Scene, populate, render
from cellssl.imaging.cell_segmenters import propagate, watershed
from cellssl.imaging.cell_segmenters.propagate import propagated
from cellssl.randomness import generator


def random_image(rows: int = 24, columns: int = 31) -> np.ndarray:
    return generator("tests", "propagate").normal(0, 1, (rows, columns)).astype(np.float32)


def random_seeds(rows: int = 24, columns: int = 31, n: int = 6) -> np.ndarray:
    seeds = np.zeros((rows, columns), np.int32)
    draw = generator("tests", "seeds")
    for number in range(1, n + 1):
        row, column = draw.integers(1, rows - 3), draw.integers(1, columns - 3)
        seeds[row : row + 2, column : column + 2] = number
    return seeds


def by_plain_search(image: np.ndarray, seeds: np.ndarray, allowed: np.ndarray, weight: float) -> np.ndarray:
    """Dijkstra's search with a heap, one pixel at a time, as CellProfiler describes it."""
    rows, columns = image.shape
    padded = np.pad(image.astype(float), 1, mode="edge")
    best, cells = np.full(image.shape, np.inf), seeds.copy()
    heap = [(0.0, int(row), int(column)) for row, column in np.argwhere(seeds > 0)]
    for _, row, column in heap:
        best[row, column] = 0
    while heap:
        cost, row, column = heapq.heappop(heap)
        if cost > best[row, column]:
            continue
        around = padded[row : row + 3, column : column + 3]
        for down, across in ((a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b):
            r, c = row + down, column + across
            if not (0 <= r < rows and 0 <= c < columns and allowed[r, c] and seeds[r, c] == 0):
                continue
            change = np.abs(padded[r : r + 3, c : c + 3] - around).sum()
            reached = cost + np.sqrt(change**2 + (abs(down) + abs(across)) * weight**2)
            if reached < best[r, c]:
                best[r, c], cells[r, c] = reached, cells[row, column]
                heapq.heappush(heap, (reached, r, c))
    return cells


@pytest.mark.parametrize("weight", [0.0, 0.05, 2.0])
def test_propagation_agrees_with_a_plain_search(weight: float) -> None:
    image, seeds = random_image(), random_seeds()
    allowed = random_image()[::-1] > -0.8
    assert (propagated(image, seeds, allowed, weight) == by_plain_search(image, seeds, allowed, weight)).all()


def test_without_changes_of_brightness_labels_expand_as_in_scikit_image() -> None:
    seeds = random_seeds(60, 80, n=8)
    cells = propagated(np.zeros(seeds.shape, np.float32), seeds, np.ones(seeds.shape, bool), 1.0)
    # paths have eight directions, so pixels at nearly equal distance from two seeds can go to the other one
    assert (cells == expand_labels(seeds, 200)).mean() > 0.95


@cache
def simulated_cells(cells_per_field: float) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The images of a simulated field, its nuclei, and the true cells under the same numbers."""
    scene = Scene(3, "P1", "B02", "f1", None, 0.0, 320, 400, cells_per_field, 0.0, 0.3, 0.85)
    rendered, cells = render(scene), populate(scene)
    rng = generator(scene.seed, scene.plate, scene.field_id, "nuclei")
    of_nuclei = simulated_nuclei.paint(cells, rng, 320, 400).owner
    number = np.zeros(len(cells) + 1, np.int32)
    number[of_nuclei + 1] = rendered.labels
    number[0] = 0
    return rendered.images, rendered.labels.astype(np.int32), number[tessellate(cells, 320, 400).owner + 1]


@pytest.mark.parametrize(
    ("method", "channel", "least"),
    [(propagate, "actin", 0.65), (propagate, "tubulin", 0.6), (watershed, "tubulin", 0.7)],
)
def test_true_cells_of_a_simulated_field_are_found(method: object, channel: str, least: float) -> None:
    images, nuclei, truth = simulated_cells(150)
    cells = method.Settings().grow(images[channel], nuclei, images["dna"])  # type: ignore[attr-defined]
    at_edge = np.unique(np.concatenate([nuclei[0], nuclei[-1], nuclei[:, 0], nuclei[:, -1]]))
    overlaps = {
        number: ((cells == number) & (truth == number)).sum() / ((cells == number) | (truth == number)).sum()
        for number in range(1, nuclei.max() + 1)
        if number not in at_edge
    }
    alone = np.mean([(truth == number)[nuclei == number].sum() / (truth == number).sum() for number in overlaps])
    assert len(overlaps) >= 8 and np.mean(list(overlaps.values())) > max(least, 2 * alone)


def test_the_same_cells_at_twice_the_magnification_have_the_same_outlines() -> None:
    images, nuclei, _ = simulated_cells(150)
    twice = [np.kron(image, np.ones((2, 2), image.dtype)) for image in (images["actin"], nuclei, images["dna"])]
    cells, larger = propagate.Settings().grow(images["actin"], nuclei, images["dna"]), propagate.Settings().grow(*twice)
    assert (larger[::2, ::2] == cells).mean() > 0.93
