"""The principal components hold the directions that vary most, also where there are few."""

import numpy as np
import pytest

from cellssl.profiling.projection import pca_projection
from cellssl.randomness import generator


def test_the_projection_keeps_the_two_directions_that_vary_most() -> None:
    x = generator("plane").normal(size=(400, 3)) * [1, 10, 5]
    projection = pca_projection(x)
    assert abs(np.corrcoef(projection.points[:, 0], x[:, 1])[0, 1]) > 0.99
    assert abs(np.corrcoef(projection.points[:, 1], x[:, 2])[0, 1]) > 0.99
    assert projection.explained_variance_ratio == pytest.approx((100 / 126, 25 / 126), abs=0.05)


def test_equal_vectors_lie_in_one_point() -> None:
    projection = pca_projection(np.ones((5, 3)))
    assert not projection.points.any()
    assert projection.explained_variance_ratio == (0, 0)


def test_one_dimension_lies_on_a_line() -> None:
    projection = pca_projection(np.array([[0.0], [2.0], [4.0]]))
    np.testing.assert_allclose(np.abs(projection.points), [[2, 0], [0, 0], [2, 0]], atol=1e-12)
