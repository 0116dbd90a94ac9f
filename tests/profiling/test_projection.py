import numpy as np
import pytest

from cellssl.profiling.projection import principal_plane
from cellssl.randomness import generator


def test_the_plane_holds_the_two_directions_that_vary_most() -> None:
    x = generator("plane").normal(size=(400, 3)) * [1, 10, 5]
    plane = principal_plane(x)
    assert abs(np.corrcoef(plane.points[:, 0], x[:, 1])[0, 1]) > 0.99
    assert abs(np.corrcoef(plane.points[:, 1], x[:, 2])[0, 1]) > 0.99
    assert plane.explained == pytest.approx((100 / 126, 25 / 126), abs=0.05)


def test_what_does_not_vary_lies_in_one_point() -> None:
    plane = principal_plane(np.ones((5, 3)))
    assert not plane.points.any()
    assert plane.explained == (0, 0)


def test_one_dimension_lies_on_a_line() -> None:
    plane = principal_plane(np.array([[0.0], [2.0], [4.0]]))
    np.testing.assert_allclose(np.abs(plane.points), [[2, 0], [0, 0], [2, 0]], atol=1e-12)
