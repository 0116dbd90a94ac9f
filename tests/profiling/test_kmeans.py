"""K-Means: clusters numbered by size, reproducible on any number of threads, and as good as scikit-learn's."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, pairwise_distances
from threadpoolctl import threadpool_limits

from cellssl.errors import DataError
from cellssl.profiling import kmeans
from cellssl.randomness import generator

SIZES = (20, 50, 30)


def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Return three round, distant groups of different sizes, and the group of each row."""
    truth = np.repeat(range(len(SIZES)), SIZES)
    centres = np.array([[0.0, 0, 0, 0], [10, 0, 0, 0], [0, 10, 0, 0]])
    return centres[truth] + generator("blobs").normal(size=(len(truth), 4)), truth


def noise(count: int, dim: int = 4) -> np.ndarray:
    return generator("noise", count).normal(size=(count, dim))


def test_blobs_are_found_and_numbered_by_size() -> None:
    x, truth = blobs()
    found = kmeans.fit(x, 3, seed=1)
    assert np.array_equal(found.assignment, np.array([2, 0, 1])[truth])
    means = [x[truth == group].mean(axis=0) for group in (1, 2, 0)]
    np.testing.assert_allclose(found.centroids, means, atol=1e-12)


def test_of_two_equal_clusters_the_one_with_the_earlier_cell_is_first() -> None:
    x = np.array([[9.0], [0.0], [9.1], [0.1]])
    assert kmeans.fit(x, 2).assignment.tolist() == [0, 1, 0, 1]


def test_the_inertia_is_as_low_as_scikit_learns() -> None:
    x = noise(300)
    reference = KMeans(5, n_init=20, random_state=0).fit(x)
    assert kmeans.fit(x, 5).inertia == pytest.approx(reference.inertia_, rel=0.01)


def test_inertia_is_the_sum_of_squared_distances() -> None:
    x = noise(60)
    found = kmeans.fit(x, 4)
    assert found.inertia == pytest.approx(np.square(x - found.centroids[found.assignment]).sum())


def test_the_order_of_the_cells_does_not_matter() -> None:
    x, _ = blobs()
    order = generator("order").permutation(len(x))
    assert np.array_equal(kmeans.fit(x[order], 3).assignment, kmeans.fit(x, 3).assignment[order])


def test_the_same_seed_gives_the_same_bits_with_one_thread_and_with_two() -> None:
    x = noise(3000, 16).astype(np.float32)
    with threadpool_limits(limits=1):
        one = kmeans.fit(x, 6, n_init=3, seed=5)
    with threadpool_limits(limits=2):
        two = kmeans.fit(x, 6, n_init=3, seed=5)
    assert one.centroids.tobytes() == two.centroids.tobytes()
    assert np.array_equal(one.assignment, two.assignment)


def test_seeds_differ_where_there_is_no_structure() -> None:
    x = noise(400, 16)
    one, two = (kmeans.fit(x, 8, n_init=1, seed=seed).assignment for seed in (0, 1))
    assert adjusted_rand_score(one, two) < 0.9


def test_new_cells_go_to_the_nearest_centroid() -> None:
    centroids = noise(5)
    new = noise(200)
    assert np.array_equal(kmeans.assign(new, centroids), pairwise_distances(new, centroids).argmin(axis=1))


def test_assigning_the_same_cells_again_changes_nothing() -> None:
    x = noise(500).astype(np.float32)
    found = kmeans.fit(x, 7)
    assert np.array_equal(kmeans.assign(x, found.centroids), found.assignment)


def test_assigning_in_chunks_equals_assigning_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x, centroids = noise(100), noise(5)
    whole = kmeans.assign(x, centroids)
    monkeypatch.setattr(kmeans, "CHUNK_ROWS", 7)
    assert np.array_equal(kmeans.assign(x, centroids), whole)


def test_many_cells_are_clustered_in_batches_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = blobs()
    whole = kmeans.fit(x, 3).assignment
    monkeypatch.setattr(kmeans, "MINIBATCH_ABOVE", 50)
    monkeypatch.setattr(kmeans, "BATCH_ROWS", 32)
    assert np.array_equal(kmeans.fit(x, 3).assignment, whole)


def test_nearest_lists_members_by_distance_from_their_centroid() -> None:
    x, _ = blobs()
    found = kmeans.fit(x, 3)
    nearest = kmeans.nearest_to_centroids(x, found, 25)
    assert [len(rows) for rows in nearest] == [25, 25, 20], "the smallest cluster has only 20 cells"
    for place, rows in enumerate(nearest):
        far = np.linalg.norm(x - found.centroids[place], axis=1)
        members = np.flatnonzero(found.assignment == place)
        assert rows.tolist() == sorted(members, key=far.__getitem__)[:25]


def test_collapsed_embeddings_lie_in_one_cluster() -> None:
    found = kmeans.fit(np.ones((10, 3)), 2)
    assert found.assignment.tolist() == [0] * 10
    assert [len(rows) for rows in kmeans.nearest_to_centroids(np.ones((10, 3)), found, 3)] == [3, 0]


def test_more_clusters_than_cells_is_an_error_with_a_cure() -> None:
    with pytest.raises(DataError, match="5 clusters are requested, but there are only 4 cells") as caught:
        kmeans.fit(noise(4), 5)
    assert "lower cluster.k" in caught.value.hint


def test_embeddings_that_are_not_finite_or_have_the_wrong_width_are_refused() -> None:
    with pytest.raises(DataError, match="first: row 1"):
        kmeans.fit(np.array([[1.0], [np.nan], [2.0]]), 2)
    with pytest.raises(DataError, match="centroids have 3 dimensions, but the embeddings have 4"):
        kmeans.assign(noise(4), noise(2, 3))
    with pytest.raises(DataError, match="no embeddings"):
        kmeans.fit(np.zeros((0, 3)), 2)
