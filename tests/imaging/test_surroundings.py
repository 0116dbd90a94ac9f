"""How close-packed the nuclei around a cell are: as counted by hand, and at the edge of a field as if it went on."""

import numpy as np
import pytest

from cellssl.imaging.surroundings import FAR_UM, densities, log_counts, log_distances


def test_counts_agree_with_a_loop_over_all_pairs_far_from_the_edge() -> None:
    centres = np.random.default_rng(0).uniform(0, 400, (300, 2))
    inner = centres[(np.abs(centres - 200) < 90).all(axis=1)]
    expected = [
        [sum(0 < np.hypot(*(other - place)) <= radius for other in centres) for radius in (25, 100)] for place in inner
    ]
    np.testing.assert_allclose(densities(centres, inner, (400.0, 400.0), (25.0, 100.0)), expected)


@pytest.mark.parametrize("place, share", [((0.0, 200.0), 0.5), ((200.0, 400.0), 0.5), ((0.0, 0.0), 0.25)])
def test_a_count_at_the_edge_stands_for_the_whole_disc(place: tuple[float, float], share: float) -> None:
    centres = np.array([place, (50.0, 200.0), (200.0, 350.0), (50.0, 50.0)])
    (count,) = densities(centres, centres[:1], (400.0, 400.0), (80.0,))
    assert count == pytest.approx(1 / share, rel=0.02)


def test_an_even_field_is_as_dense_at_its_edge_as_in_its_middle() -> None:
    grid = np.stack(np.meshgrid(np.arange(5, 400, 10.0), np.arange(5, 300, 10.0), indexing="ij"), axis=2).reshape(-1, 2)
    (counts,) = densities(grid, grid, (400.0, 300.0), (50.0,)).T
    assert np.median(counts) == pytest.approx(np.pi * 25, rel=0.05)
    assert counts.min() > 0.9 * counts.max()


def test_no_neighbour_counts_as_a_far_one_and_none_to_count_as_zero() -> None:
    np.testing.assert_allclose(
        log_distances(np.array([8.0, np.nan, 1e6, 0.0])), [3, np.log2(FAR_UM), np.log2(FAR_UM), 0]
    )
    np.testing.assert_allclose(log_counts(np.array([0.0, 3.0, np.nan])), [0, 2, 0])
