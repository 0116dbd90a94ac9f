"""Normalisers equal those of scikit-learn and pycytominer, and do the same after being stored."""

import io

import numpy as np
import pandas as pd
import pytest
from pycytominer.operations import RobustMAD
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from sklearn.preprocessing import normalize as unit_length

from cellssl.errors import DataError, UsageError
from cellssl.profiling import normalise
from cellssl.randomness import generator


def cells(count: int = 80, dim: int = 6) -> np.ndarray:
    rng = generator("normalise")
    return rng.normal(3, 2, (count, dim)) @ rng.normal(size=(dim, dim))


def test_none_changes_nothing() -> None:
    x = cells()
    assert np.array_equal(normalise.fit("none", x).apply(x), x)


def test_zscore_equals_scikit_learn() -> None:
    x = cells()
    np.testing.assert_allclose(normalise.fit("zscore", x).apply(x), StandardScaler().fit_transform(x), atol=1e-12)


def test_a_feature_that_does_not_vary_becomes_zero() -> None:
    x = cells().astype(np.float32)
    x[:, 2] = 0.1  # not exact in binary, so that its mean differs from it by rounding
    assert np.abs(normalise.fit("zscore", x).apply(x)[:, 2]).max() < 1e-5


def test_l2_gives_length_one_and_keeps_zeros() -> None:
    x = cells()
    np.testing.assert_allclose(normalise.fit("l2", x).apply(x), unit_length(x), atol=1e-12)
    assert not normalise.fit("l2", x).apply(np.zeros((1, 6))).any()


def test_whitening_equals_scikit_learn_and_leaves_the_identity_as_covariance() -> None:
    x = cells()
    white = normalise.fit("pca_whiten", x).apply(x)
    np.testing.assert_allclose(white, PCA(0.99, svd_solver="full", whiten=True).fit_transform(x), atol=1e-9)
    np.testing.assert_allclose(np.cov(white.T), np.eye(white.shape[1]), atol=1e-9)
    assert white.shape[1] < x.shape[1], "the last percent of the variance is dropped"


def test_robust_z_equals_pycytominers() -> None:
    x = cells()
    expected = RobustMAD(epsilon=0).fit(pd.DataFrame(x)).transform(pd.DataFrame(x))
    np.testing.assert_allclose(normalise.fit("robust_z", x).apply(x), expected, atol=1e-12)


def test_robust_z_falls_back_on_the_standard_deviation_where_most_numbers_are_equal() -> None:
    x = np.array([[0.0], [0.0], [0.0], [4.0]])
    np.testing.assert_allclose(normalise.fit("robust_z", x).apply(x), x / x.std())


def test_the_first_percentile_becomes_0_and_the_99th_1() -> None:
    x = np.linspace(5, 25, 201)[:, None]
    found = normalise.fit("percentile", x).apply(np.array([[5.2], [24.8], [15.0], [44.4]]))
    np.testing.assert_allclose(found[:, 0], [0, 1, 0.5, 2], atol=1e-12)


@pytest.mark.parametrize("name", ["robust_z", "percentile"])
def test_a_feature_that_is_constant_among_controls_becomes_zero_for_all(name: str) -> None:
    x = cells().astype(np.float32)
    x[:, 2] = 0.1
    new = cells().astype(np.float32) + 9
    assert not normalise.fit(name, x).apply(new)[:, 2].any()


def test_sphering_keeps_nine_tenths_of_the_variance_of_the_controls() -> None:
    x = cells(200, 12)
    white = normalise.fit("sphering", x).apply(x)
    np.testing.assert_allclose(white, PCA(0.9, svd_solver="full", whiten=True).fit_transform(x), atol=1e-9)


@pytest.mark.parametrize("name", normalise.NAMES)
def test_a_stored_normaliser_does_the_same_to_a_new_plate(name: str) -> None:
    fitted = normalise.fit(name, cells())
    file = io.BytesIO()
    np.savez(file, centroids=np.zeros(3), **fitted.arrays())
    file.seek(0)
    again = normalise.Normaliser.from_arrays(np.load(file, allow_pickle=False))
    new = generator("a new plate").normal(size=(5, 6))
    assert np.array_equal(again.apply(new), fitted.apply(new))


@pytest.mark.parametrize("name", normalise.NAMES)
def test_float32_stays_float32(name: str) -> None:
    x = cells().astype(np.float32)
    assert normalise.fit(name, x).apply(x).dtype == np.float32


def test_a_mistyped_name_is_an_error_that_suggests_the_right_one() -> None:
    with pytest.raises(UsageError) as caught:
        normalise.fit("zscor", cells())
    assert "zscore" in caught.value.hint


def test_another_models_embeddings_are_refused() -> None:
    with pytest.raises(DataError, match="6 dimensions, but the embeddings have 5"):
        normalise.fit("none", cells()).apply(cells(dim=5))


def test_whitening_equal_embeddings_is_an_error() -> None:
    with pytest.raises(DataError, match="all 4 embeddings are the same"):
        normalise.fit("pca_whiten", np.ones((4, 3)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    x = cells()
    x[7, 3] = bad
    with pytest.raises(DataError, match="first: row 7"):
        normalise.fit("zscore", x)
