"""Barlow Twins, VICReg and VIbCReg agree with loops in float64, closed forms, and lightly."""

import math
from typing import Any

import pytest
import torch
from lightly.loss import BarlowTwinsLoss, VICRegLoss
from parts.test_objectives import build, random_input
from torch import Tensor

from cellssl.learning.methods.decorrelation import (
    barlow_twins_loss,
    covariance,
    cross_correlation,
    normalised_covariance,
    variance_hinge,
)
from cellssl.randomness import generator


def noise(*shape: int) -> Tensor:
    return torch.from_numpy(generator("test", "decorrelation").standard_normal(shape))


def column(view: Tensor, i: int) -> list[float]:
    """Return one feature over cells, centred."""
    values = view[:, i].tolist()
    mean = sum(values) / len(values)
    return [value - mean for value in values]


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_each_term_equals_loops() -> None:
    one, other = 2 * noise(2, 7, 4)
    hinge, cov, corr, barlow = 0.0, 0.0, 0.0, 0.0
    for i in range(4):
        a = column(one, i)
        hinge += max(0.0, 1 - math.sqrt(dot(a, a) / 6 + 1e-4)) / 4
        for j in range(4):
            b, c = column(one, j), column(other, j)
            scale = math.sqrt((dot(a, a) / 7 + 1e-5) * (dot(c, c) / 7 + 1e-5))
            across = dot(a, c) / 7 / scale
            barlow += (1 - across) ** 2 if i == j else 0.01 * across**2
            if i != j:
                cov += (dot(a, b) / 6) ** 2 / 4
                corr += dot(a, b) ** 2 / (dot(a, a) * dot(b, b)) / 16
    assert variance_hinge(one).item() == pytest.approx(hinge)
    assert covariance(one).item() == pytest.approx(cov)
    assert normalised_covariance(one).item() == pytest.approx(corr)
    assert barlow_twins_loss(cross_correlation(one, other), 0.01).item() == pytest.approx(barlow)


def independent() -> Tensor:
    """Return eight cells with three orthogonal features of mean 0 and standard deviation 1."""
    bits = torch.tensor([[(i >> k) & 1 for k in range(3)] for i in range(8)], dtype=torch.float64)
    return 2 * bits - 1


def test_identical_views_of_independent_features_have_a_loss_of_zero() -> None:
    z = independent()
    assert barlow_twins_loss(cross_correlation(z, z), 0.005).item() == pytest.approx(0.0, abs=1e-8)
    assert variance_hinge(z).item() == covariance(z).item() == 0.0
    assert normalised_covariance(z).item() == pytest.approx(0.0, abs=1e-12)


def test_collapsed_features_have_the_loss_that_follows_from_the_formula() -> None:
    z = torch.ones(8, 3, dtype=torch.float64)
    assert barlow_twins_loss(cross_correlation(z, z), 0.005).item() == pytest.approx(3.0)
    assert variance_hinge(z).item() == pytest.approx(1 - math.sqrt(1e-4))
    assert covariance(z).item() == normalised_covariance(z).item() == 0.0


def test_a_repeated_feature_changes_the_redundancy_terms_only() -> None:
    z = independent()
    twice = torch.cat([z, z[:, :1]], dim=1)
    assert variance_hinge(twice).item() == 0.0
    assert covariance(twice).item() == pytest.approx(2 * (8 / 7) ** 2 / 4)
    assert normalised_covariance(twice).item() == pytest.approx(2 / 16)
    assert barlow_twins_loss(cross_correlation(twice, twice), 0.5).item() == pytest.approx(2 * 0.5, abs=1e-4)


def test_normalised_terms_do_not_depend_on_the_scale_of_features() -> None:
    z = noise(7, 4)
    torch.testing.assert_close(normalised_covariance(1000 * z), normalised_covariance(z))
    big = cross_correlation(1000 * z, 1000 * z + 5)
    torch.testing.assert_close(big, cross_correlation(z, z), rtol=1e-4, atol=1e-4)


def test_a_single_cell_has_no_variance_and_no_covariance() -> None:
    single = noise(1, 4)
    assert variance_hinge(single).item() == pytest.approx(1 - 0.01)
    assert covariance(single).item() == normalised_covariance(single).item() == 0.0
    assert barlow_twins_loss(cross_correlation(single, single), 0.005).item() == 4.0


@pytest.mark.parametrize(
    ("name", "peer"), [("barlow_twins", BarlowTwinsLoss()), ("vicreg", VICRegLoss())], ids=["barlow", "vicreg"]
)
def test_they_equal_lightly_s_losses(name: str, peer: Any) -> None:
    objective = build(name)
    batch = random_input(objective)
    views = [objective.projector(view) for view in batch.online]
    torch.testing.assert_close(objective(batch)[0], peer(*views), rtol=2e-4, atol=1e-5)


def test_vibcreg_is_the_weighted_sum_of_its_terms() -> None:
    """The hinges of both views count in full here, and half in VICReg."""
    objective = build("vibcreg", invariance=2.0, variance=3.0, covariance=5.0)
    batch = random_input(objective)
    one, other = (objective.projector(view) for view in batch.online)
    expected = 2 * (one - other).square().mean()
    expected = expected + 3 * (variance_hinge(one) + variance_hinge(other))
    expected = expected + 5 * (normalised_covariance(one) + normalised_covariance(other))
    torch.testing.assert_close(objective(batch)[0], expected)


@pytest.mark.parametrize("name", ["barlow_twins", "vicreg", "vibcreg"])
def test_swapping_the_views_changes_nothing(name: str) -> None:
    objective = build(name)
    batch = random_input(objective)
    swapped = type(batch)(batch.online.flip(0), batch.momentum, batch.cells)
    torch.testing.assert_close(objective(swapped)[0], objective(batch)[0])
