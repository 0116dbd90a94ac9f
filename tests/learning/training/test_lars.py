"""LARS agrees with lightly's and with its closed forms."""

import pytest
import torch
from lightly.utils.lars import LARS
from torch import nn

from cellssl.learning.training.lars import TRUST_COEFFICIENT, trust_ratio
from cellssl.learning.training.state import optimizer_for


def network() -> nn.Sequential:
    layers = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    for i, weight in enumerate(layers.parameters()):
        nn.init.normal_(weight, generator=torch.Generator().manual_seed(i))
    return layers


def test_every_step_equals_that_of_lightly_while_the_learning_rate_changes() -> None:
    ours, theirs = network(), network()
    matrices, vectors = ([w for w in theirs.parameters() if (w.ndim > 1) == many] for many in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    pair = (ours, optimizer_for("lars", [ours], 0.01)), (theirs, LARS(groups, lr=1.0, momentum=0.9))
    crops = torch.randn(8, 5, generator=torch.Generator().manual_seed(9))
    for rate in (0.5, 2.0, 1.0, 3.0):
        for layers, optimizer in pair:
            optimizer.zero_grad()
            layers(crops).square().mean().mul(0.1).backward()
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_the_length_of_the_first_step_of_a_matrix_depends_on_the_learning_rate_and_not_on_the_gradient() -> None:
    for steepness in (1e-3, 1.0, 1e3):
        weight = nn.Parameter(torch.full((3, 4), 2.0))
        before = weight.detach().clone()
        weight.grad = torch.full((3, 4), steepness)
        layer = nn.Module()
        layer.weight = weight
        optimizer = optimizer_for("lars", [layer], 0.0)
        optimizer.param_groups[0]["lr"] = 10.0
        optimizer.step()
        assert ((before - weight).norm() / before.norm()).item() == pytest.approx(10.0 * TRUST_COEFFICIENT, rel=1e-4)


def test_with_zero_weights_or_gradient_the_step_is_that_of_plain_sgd() -> None:
    some, none = torch.ones(2, 2), torch.zeros(2, 2)
    assert trust_ratio(none, some, 0.1) == trust_ratio(some, none, 0.0) == 1.0
    assert trust_ratio(some, some, 0.0).item() == pytest.approx(TRUST_COEFFICIENT)
