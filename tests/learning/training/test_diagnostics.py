"""Diagnostics of collapse agree with closed forms."""

import math

import numpy as np
import pytest
import torch

from cellssl.errors import FailedError
from cellssl.learning.training.collapse import COLLAPSED_STEPS
from cellssl.learning.training.diagnostics import (
    CollapseMonitor,
    check_finite,
    effective_rank,
    feature_sd,
)
from cellssl.randomness import generator


def normal(*shape: int) -> torch.Tensor:
    return torch.from_numpy(generator("test", "gauges").standard_normal(shape)).float()


def test_equally_long_axes_have_full_rank() -> None:
    cross = torch.cat([torch.eye(6), -torch.eye(6)])  # centred, with equal singular values
    assert effective_rank(cross).item() == pytest.approx(6, rel=1e-5)


def test_a_large_isotropic_cloud_has_nearly_its_dimension() -> None:
    assert effective_rank(normal(4000, 8)).item() == pytest.approx(8, rel=0.01)


def test_a_line_has_rank_one_wherever_it_lies() -> None:
    line = normal(30, 1) * normal(1, 12)
    assert effective_rank(line).item() == pytest.approx(1, abs=1e-3)
    assert effective_rank(line + 5).item() == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3, 1e4])
def test_equal_cells_have_an_effective_rank_and_a_standard_deviation_of_zero(value: float) -> None:
    collapsed = torch.full((7, 5), value)
    assert effective_rank(collapsed) == 0
    assert feature_sd(collapsed).item() == pytest.approx(0, abs=1e-6 * abs(value))


def test_the_rank_is_exp_of_the_entropy_of_two_unequal_axes() -> None:
    cross = torch.diag(torch.tensor([3.0, 1.0]))
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert effective_rank(torch.cat([cross, -cross])).item() == pytest.approx(expected, rel=1e-5)


def test_the_rank_agrees_with_numpy_and_ignores_scale_and_position() -> None:
    cloud = normal(20, 9) * torch.arange(1, 10)
    singular = np.linalg.svd((cloud - cloud.mean(0)).double().numpy(), compute_uv=False)
    share = singular / singular.sum()
    assert effective_rank(cloud).item() == pytest.approx(math.exp(-(share * np.log(share)).sum()), rel=1e-5)
    assert effective_rank(7 * cloud + 2).item() == pytest.approx(effective_rank(cloud).item(), rel=1e-4)


def test_feature_sd_is_the_mean_standard_deviation_of_the_features() -> None:
    cloud = normal(50, 4)
    assert feature_sd(cloud).item() == pytest.approx(cloud.numpy().std(axis=0, ddof=1).mean(), rel=1e-5)


def test_infinite_features_give_nan_and_no_error() -> None:
    broken = normal(6, 3)
    broken[2, 1] = torch.inf
    assert effective_rank(broken).isnan() and not feature_sd(broken).isfinite()


def test_a_branch_that_stays_collapsed_is_reported_once_while_it_happens() -> None:
    monitor = CollapseMonitor(["context", "centre"])
    spreads = [0.5] * 3 + [0.01] * (COLLAPSED_STEPS - 1) + [0.6] + [0.01] * 2 * COLLAPSED_STEPS
    reported = [
        monitor.newly_collapsed({"context/projection_spread": s, "centre/projection_spread": 0.9}) for s in spreads
    ]
    assert [step for step, branches in enumerate(reported) if branches] == [3 + 2 * COLLAPSED_STEPS - 1]
    assert reported[3 + 2 * COLLAPSED_STEPS - 1] == ["context"]


def test_a_loss_or_gradient_that_is_nan_is_an_error_with_its_step() -> None:
    check_finite({"loss": 1.0, "gradient_norm": 2.0}, 7)
    for name, words in (("loss", "the loss is nan at step 7"), ("gradient_norm", "the gradient is nan at step 7")):
        with pytest.raises(FailedError, match=words):
            check_finite({"loss": 1.0, "gradient_norm": 2.0, name: math.nan}, 7)


def test_the_hint_names_the_learning_rate_only_after_the_first_update() -> None:
    metrics = {"loss": math.inf, "context/loss": 2.0, "centre/loss": math.inf}
    for step, hint in ((7, "lower pretrain.learning_rate"), (1, "extreme values in the objective of branch centre")):
        with pytest.raises(FailedError) as caught:
            check_finite(metrics, step)
        assert hint in caught.value.hint
