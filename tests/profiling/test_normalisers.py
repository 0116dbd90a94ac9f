"""Every link of a normalisation equals its reference: scikit-learn, pycytominer, or EFAAR's benchmarks."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pycytominer.operations import RobustMAD, Spherize
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from sklearn.preprocessing import normalize as unit_length

from cellssl.errors import DataError
from cellssl.profiling.chain import fit_chain
from cellssl.profiling.frames import whole_plates
from cellssl.profiling.normaliser import chain
from cellssl.randomness import generator

SPHERIZE = ("ZCA", "PCA", "ZCA-cor", "PCA-cor")


def cells(count: int = 80, dim: int = 6, name: str = "normalise") -> np.ndarray:
    rng = generator(name)
    return rng.normal(3, 2, (count, dim)) @ rng.normal(size=(dim, dim))


def normalised(
    link: str | dict[str, Any], x: np.ndarray, controls: np.ndarray | None = None, plates: np.ndarray | None = None
) -> np.ndarray:
    """Fit one link on all rows, or on the controls among them, and return all rows."""
    is_control = np.ones(len(x), bool) if controls is None else controls
    plates = np.repeat("P1", len(x)) if plates is None else plates
    links = chain(link)
    return fit_chain(links, x, np.ones(len(x), bool), plates, is_control, whole_plates(plates, is_control))[1]


def distances(x: np.ndarray) -> np.ndarray:
    """The distances of all pairs, which a rotation does not change."""
    return np.linalg.norm(x[:, None] - x[None], axis=2)


@pytest.fixture
def efaar(monkeypatch: pytest.MonkeyPatch) -> Any:
    """EFAAR's code without scvi, which it imports for another function, and which is gigabytes large.

    It has a folder of its own, for it brings a package `tests`, which would hide ours.
    """
    empty = ModuleType("scvi.model")
    empty.SCVI = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "scvi.model", empty)
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(sys.prefix) / "efaar")])
    reason = "efaar_benchmarking is not installed: make .venv/.installed-test"
    return pytest.importorskip("efaar_benchmarking.efaar", reason=reason)


def test_zscore_equals_scikit_learn() -> None:
    x = cells()
    np.testing.assert_allclose(normalised("zscore", x), StandardScaler().fit_transform(x), atol=1e-12)


def test_l2_equals_scikit_learn_and_keeps_zeros() -> None:
    x = cells()
    x[3] = 0
    np.testing.assert_allclose(normalised("l2", x), unit_length(x), atol=1e-12)


@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("variance", [0.9, 0.99])
def test_pca_equals_scikit_learn(whiten: bool, variance: float) -> None:
    x = cells(200, 12)
    found = normalised({"name": "pca", "variance": variance, "whiten": whiten}, x)
    expected = PCA(variance, svd_solver="full", whiten=whiten).fit_transform(x)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert found.shape[1] < x.shape[1], "the axes with the last percents of the variance are dropped"


def test_pca_may_keep_all_variance_of_fewer_cells_than_features() -> None:
    x = cells(5, 12)
    found = normalised({"name": "pca", "variance": 1.0}, x)
    np.testing.assert_allclose(found, PCA(4, svd_solver="full", whiten=True).fit_transform(x), atol=1e-6)


def test_clip_limits_what_is_too_large_and_changes_nothing_else() -> None:
    x = np.array([[-40.0, 2.9], [12.0, -1.0]], np.float32)
    assert normalised("clip", x).tolist() == [[-10.0, np.float32(2.9)], [10.0, -1.0]]
    assert np.abs(normalised({"name": "clip", "limit": 0.5}, x)).max() == 0.5


def test_center_plate_equals_pandas() -> None:
    x, plates = cells(), np.repeat(["P1", "P2"], 40)
    controls = np.arange(80) % 4 == 0
    means = pd.DataFrame(x[controls]).groupby(plates[controls]).mean().loc[plates].to_numpy()
    np.testing.assert_allclose(normalised("center_plate", x, controls, plates), x - means, atol=1e-12)


def test_scale_pooled_divides_by_the_spread_around_the_medians_of_plates() -> None:
    x, plates = cells(), np.repeat(["P1", "P2"], 40)
    x[40:] += 100
    controls = np.arange(80) % 4 == 0
    medians = pd.DataFrame(x[controls]).groupby(plates[controls]).transform("median")
    spread = 1.4826 * (pd.DataFrame(x[controls]) - medians).abs().median().to_numpy()
    np.testing.assert_allclose(normalised("scale_pooled", x, controls, plates), x / spread)


def test_robust_z_equals_pycytominers() -> None:
    x, plates = cells(), np.repeat(["P1", "P2"], 40)
    controls = np.arange(80) % 2 == 0
    found = normalised("robust_z", x, controls, plates)
    for here in (plates == "P1", plates == "P2"):
        reference = RobustMAD(epsilon=0).fit(pd.DataFrame(x[here & controls]))
        np.testing.assert_allclose(found[here], reference.transform(pd.DataFrame(x[here])), atol=1e-12)


def test_robust_z_falls_back_on_the_standard_deviation_where_most_numbers_are_equal() -> None:
    x = np.array([[0.0], [0.0], [0.0], [4.0]])
    np.testing.assert_allclose(normalised("robust_z", x), x / x.std())


def test_the_first_percentile_becomes_0_and_the_99th_1() -> None:
    x = np.append(np.linspace(5, 25, 201), [5.2, 24.8, 15.0, 44.4])[:, None]
    found = normalised("percentile", x, np.arange(205) < 201)
    np.testing.assert_allclose(found[201:, 0], [0, 1, 0.5, 2], atol=1e-12)


@pytest.mark.parametrize("epsilon", [1e-6, 0.1])
@pytest.mark.parametrize("method", SPHERIZE)
def test_sphering_equals_pycytominers_spherize(method: str, epsilon: float) -> None:
    x = cells(200, 12)
    controls = np.arange(200) % 3 == 0
    found = normalised({"name": "sphering", "method": method, "epsilon": epsilon}, x, controls)
    reference = Spherize(epsilon=epsilon, method=method, return_numpy=True).fit(pd.DataFrame(x[controls]))
    expected = reference.transform(pd.DataFrame(x))
    if method.startswith("PCA"):
        expected = expected * np.sign((expected * found).sum(axis=0))  # an axis has no sign of its own
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("count", [4, 11, 12])
@pytest.mark.parametrize("method", SPHERIZE)
def test_sphering_equals_pycytominers_spherize_with_fewer_controls_than_features(method: str, count: int) -> None:
    x = cells(30, 12)
    controls = np.arange(30) < count
    found = normalised({"name": "sphering", "method": method}, x, controls)
    reference = Spherize(method=method, return_numpy=True).fit(pd.DataFrame(x[controls]))
    expected = reference.transform(pd.DataFrame(x))
    if method.startswith("ZCA"):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(distances(found), distances(expected), rtol=1e-7, atol=1e-7)


def test_sphering_equals_pycytominers_spherize_for_features_of_very_different_units() -> None:
    x = cells(200, 6) * 10.0 ** np.arange(-6, 6, 2)
    controls = np.arange(200) < 100
    found = normalised({"name": "sphering", "method": "ZCA-cor"}, x, controls)
    expected = Spherize(method="ZCA-cor", return_numpy=True).fit(pd.DataFrame(x[controls])).transform(pd.DataFrame(x))
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("method", SPHERIZE)
def test_sphering_does_not_blow_up_what_features_that_depend_on_each_other_leave(method: str) -> None:
    x = cells(100, 6)
    x = np.hstack([x, x[:, :1] + x[:, 1:2] + generator("rounding").normal(0, 1e-15, (100, 1))])
    x[60:, 6] += 1  # the treated cells break the dependence
    controls = np.arange(100) < 50
    found = normalised({"name": "sphering", "method": method}, x, controls)
    theirs = Spherize(method=method, return_numpy=True).fit(pd.DataFrame(x[controls])).transform(pd.DataFrame(x))
    assert np.abs(found).max() < 100
    assert np.abs(theirs).max() > 1e5, "pycytominer divides by epsilon"


@pytest.mark.parametrize("method", SPHERIZE)
def test_sphering_may_keep_a_share_of_the_variance_only(method: str) -> None:
    x = cells(200, 12)
    found = normalised({"name": "sphering", "method": method, "variance": 0.9, "epsilon": 0.0}, x)
    standard = StandardScaler(with_std=method.endswith("cor")).fit_transform(x)
    expected = PCA(0.9, svd_solver="full", whiten=True).fit_transform(standard)
    assert (found.shape[1] == 12) == method.startswith("ZCA")
    np.testing.assert_allclose(distances(found), distances(expected), atol=1e-8)


def screen(count: int = 300, dim: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three plates of different covariance, with a third of the rows as controls."""
    plates = np.repeat(["P1", "P2", "P3"], count // 3)
    rng = generator("plates")
    turn = {plate: rng.normal(size=(dim, dim)) for plate in ("P1", "P2", "P3")}
    x = np.stack([row @ turn[plate] + 5 for row, plate in zip(rng.normal(size=(count, dim)), plates, strict=True)])
    return x, plates, rng.random(count) < 0.3


@pytest.mark.parametrize("count", [300, 60])
def test_tvn_equals_efaars(count: int, efaar: Any) -> None:
    x, plates, controls = screen(count)
    table = pd.DataFrame({"plate": plates, "gene": np.where(controls, "control", "other")})
    expected = efaar.tvn_on_controls(x, table, "gene", "control", "plate")
    found = normalised("tvn", x, controls, plates)
    np.testing.assert_allclose(distances(found), distances(expected), atol=1e-8)
    assert found.shape == expected.shape


def test_tvn_equals_efaars_where_a_plate_has_fewer_controls_than_features(efaar: Any) -> None:
    x, plates, controls = screen(60, 8)
    controls[plates == "P2"] = np.arange(20) < 4
    table = pd.DataFrame({"plate": plates, "gene": np.where(controls, "control", "other")})
    expected = efaar.tvn_on_controls(x, table, "gene", "control", "plate")
    np.testing.assert_allclose(
        distances(normalised("tvn", x, controls, plates)), distances(expected), rtol=1e-7, atol=1e-8
    )


def test_tvn_gives_the_controls_of_all_plates_a_like_covariance() -> None:
    x, plates, controls = screen(3000)
    found = normalised("tvn", x, controls, plates)
    for plate in ("P1", "P2", "P3"):
        covariance = np.cov(found[controls & (plates == plate)].T)
        assert np.linalg.eigvalsh(covariance).max() <= 1 + 1e-9
        assert np.abs(covariance - np.diag(covariance.diagonal())).max() < 0.35


@pytest.mark.parametrize("name", ["pca", "sphering", "tvn"])
def test_equal_vectors_are_an_error_that_names_the_encoder(name: str) -> None:
    with pytest.raises(DataError, match="all 6") as caught:
        normalised(name, np.full((6, 3), np.float32(0.1)))
    assert "collapsed" in caught.value.hint
