"""The contract of all clusterers: every file of the folder `clusterers` must pass these tests."""

import io
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from cellssl.config import plugins
from cellssl.errors import DataError, UsageError
from cellssl.profiling.clusterer import NOISE, ClustererSettings, Clustering
from cellssl.randomness import generator

FOLDER = "cellssl.profiling.clusterers"
NAMES = plugins.names(FOLDER)
SIZES = (60, 120, 90)
SETTINGS: dict[str, dict[str, Any]] = {"hdbscan": {"min_cluster_size": 20}, "leiden": {"resolution": 0.1}}
"""Settings that suit the small number of cells in these tests."""


def blobs(name: str = "heaps") -> tuple[np.ndarray, np.ndarray]:
    """Return three round, distant groups of different sizes, and the group of each row."""
    truth = generator("order").permutation(np.repeat(range(len(SIZES)), SIZES))
    centres = np.array([[0.0, 0, 0, 0], [12, 0, 0, 0], [0, 12, 0, 0]])
    return (centres[truth] + generator(name).normal(size=(len(truth), 4))).astype(np.float32), truth


def settings_of(name: str) -> Any:
    return plugins.load(FOLDER, name).Settings(**SETTINGS.get(name, {}))


def fitted(name: str, x: np.ndarray, seed: int = 0) -> Clustering:
    found: Clustering = settings_of(name).fit(x, 3, 3, seed)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_distant_groups_are_found_and_numbered_by_size(name: str) -> None:
    x, truth = blobs()
    found = fitted(name, x)
    there = found.assignment != NOISE
    assert there.mean() > 0.95
    assert np.array_equal(found.assignment[there], np.array([2, 0, 1])[truth[there]])
    means = [x[found.assignment == cluster].mean(axis=0) for cluster in range(3)]
    np.testing.assert_allclose(found.centroids, means, atol=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    x = generator("no heaps").normal(size=(200, 4)).astype(np.float32) + 3 * blobs()[0][:200]
    one, two = fitted(name, x, 5), fitted(name, x, 5)
    assert one.centroids.tobytes() == two.centroids.tobytes()
    assert np.array_equal(one.assignment, two.assignment)


@pytest.mark.parametrize("name", NAMES)
def test_new_cells_are_assigned_from_stored_arrays_or_the_method_says_that_it_cannot(name: str) -> None:
    x, truth = blobs()
    new, _ = blobs("new heaps")
    found = fitted(name, x)
    file = io.BytesIO()
    np.savez(file, centroids=found.centroids, **found.model)
    file.seek(0)
    stored = np.load(file)
    if type(settings_of(name)).assign is ClustererSettings.assign:  # as in hdbscan and leiden
        with pytest.raises(UsageError, match=f"the clustering method {name} cannot assign new cells to its clusters"):
            settings_of(name).assign(new, stored)
        return
    assert np.array_equal(settings_of(name).assign(x, stored), found.assignment)
    assert adjusted_rand_score(settings_of(name).assign(new, stored), truth) == 1


@pytest.mark.parametrize("name", NAMES)
def test_numbers_that_are_not_finite_are_refused(name: str) -> None:
    x, _ = blobs()
    x[7, 1] = np.nan
    with pytest.raises(DataError, match="first: row 7"):
        fitted(name, x)


@pytest.mark.parametrize("name", NAMES)
def test_settings_have_docstrings_and_survive_json(name: str) -> None:
    model = plugins.load(FOLDER, name).Settings
    assert model.__doc__ and all(model.descriptions().values())
    assert model.model_validate(settings_of(name).all_values()) == settings_of(name)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_a_mixture_assigns_as_scikit_learn_predicts(covariance: str) -> None:
    x, _ = blobs()
    settings = plugins.load(FOLDER, "gmm").Settings(covariance_type=covariance)
    found = settings.fit(x, 3, 2, 0)
    assert np.array_equal(settings.assign(x, {"centroids": found.centroids, **found.model}), found.assignment)
    assert found.model["gmm_weights"].tolist() == sorted(found.model["gmm_weights"], reverse=True)


def test_cells_between_groups_are_noise_for_hdbscan() -> None:
    x, _ = blobs()
    x[5] = [6, 6, 30, 0]
    found = fitted("hdbscan", x)
    assert found.assignment[5] == NOISE
    assert len(found.centroids) == 3


def test_hdbscan_without_a_dense_region_is_an_error() -> None:
    with pytest.raises(DataError, match="found no cluster"):
        plugins.load(FOLDER, "hdbscan").Settings(min_cluster_size=30).fit(
            generator("thin").normal(size=(40, 20)), 2, 1, 0
        )


def test_links_between_cells_weigh_their_jaccard_index_as_computed_by_loops() -> None:
    from cellssl.profiling.clusterers.leiden import shared_neighbours

    x = generator("ties").normal(size=(30, 3))
    far = np.linalg.norm(x[:, None] - x[None], axis=2)
    around = [set(np.argsort(far[row])[:6]) for row in range(30)]  # the cell itself and five others
    pairs, weights = shared_neighbours(x, 5)
    found = {(int(i), int(j)): weight for (i, j), weight in zip(pairs, weights, strict=True)}
    expected = {
        (i, j): len(around[i] & around[j]) / len(around[i] | around[j])
        for i in range(30)
        for j in range(i + 1, 30)
        if (j in around[i] or i in around[j]) and around[i] & around[j]
    }
    assert found == pytest.approx(expected)
