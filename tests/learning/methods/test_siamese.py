"""Objectives without negatives, and with neighbours, agree with sums over cells, closed forms, and lightly."""

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NegativeCosineSimilarity
from parts.test_objectives import build, random_input
from torch import Tensor

from cellssl.learning.methods.contrastive_loss import info_nce
from cellssl.learning.methods.ressl import relational_loss
from cellssl.learning.methods.siamese import nearest_neighbours, regression_loss
from cellssl.randomness import generator


def noise(*shape: int) -> Tensor:
    return torch.from_numpy(generator("test", "siamese").standard_normal(shape))


@torch.no_grad()
def heads(objective: Any, features: Tensor, *names: str) -> list[Tensor]:
    """Apply the named heads to each view one after the other, in float64."""
    exact = copy.deepcopy(objective).double()
    views = list(features.detach().double())
    for name in names:
        views = [getattr(exact, name)(view) for view in views]
    return views


def cosine(one: Tensor, other: Tensor) -> float:
    return float(one @ other / (one.norm() * other.norm()))


def test_the_regression_loss_is_0_for_equal_2_for_orthogonal_and_4_for_opposite_vectors() -> None:
    z = noise(5, 4)
    orthogonal = torch.stack([z[:, 1], -z[:, 0], z[:, 3], -z[:, 2]], dim=1)
    for target, expected in ((3 * z, 0.0), (orthogonal, 2.0), (-z, 4.0)):
        assert regression_loss(z, target).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["byol", "simsiam"])
def test_byol_and_simsiam_equal_their_sums_over_cells(name: str) -> None:
    objective = build(name)
    batch = random_input(objective)
    p = heads(objective, batch.online, "projector", "predictor")
    if name == "byol":
        z = heads(objective, batch.momentum, "momentum_projector")
        losses = [2 - 2 * cosine(p[v][i], z[1 - v][i]) for v in (0, 1) for i in range(6)]
        expected = sum(losses) / 6
    else:
        z = heads(objective, batch.online, "projector")
        expected = -sum(cosine(p[v][i], z[1 - v][i]) for v in (0, 1) for i in range(6)) / 12
    assert objective(batch)[0].item() == pytest.approx(expected, rel=1e-5)


def test_they_equal_lightly_s_negative_cosine_similarity() -> None:
    peer = NegativeCosineSimilarity()
    for name, slow in (("simsiam", "projector"), ("byol", "momentum_projector")):
        objective = build(name)
        batch = random_input(objective)
        p = heads(objective, batch.online, "projector", "predictor")
        z = heads(objective, batch.momentum if name == "byol" else batch.online, slow)
        both = (peer(p[0], z[1]) + peer(p[1], z[0])) / 2
        expected = both if name == "simsiam" else 4 + 4 * both
        assert objective(batch)[0].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["byol", "nnbyol", "simsiam", "nnclr"])
def test_swapping_the_views_changes_nothing_where_the_loss_is_symmetric(name: str) -> None:
    objective = build(name)
    batch = random_input(objective)
    swapped = type(batch)(batch.online.flip(0), batch.momentum.flip(0), batch.cells)
    torch.testing.assert_close(objective(swapped)[0], objective(batch)[0])


def test_simsiam_s_target_gets_no_gradient() -> None:
    """The gradient is that of a loss whose targets are constants."""
    objective = build("simsiam").double()
    online = random_input(objective).online.detach().double().requires_grad_()
    z = [view.detach() for view in heads(objective, online, "projector")]
    batch = random_input(objective)
    gradient = torch.autograd.grad(objective(type(batch)(online, batch.momentum, batch.cells))[0], online)[0]
    p = [objective.predictor(objective.projector(view)) for view in online]
    expected = -(F.cosine_similarity(p[0], z[1]).mean() + F.cosine_similarity(p[1], z[0]).mean()) / 2
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, online)[0])


def test_the_nearest_neighbour_is_the_most_similar_column() -> None:
    among = F.normalize(noise(4, 9), dim=0)
    queries = F.normalize(among.T[[3, 7]] + 0.01, dim=1)
    assert torch.equal(nearest_neighbours(queries, among), among.T[[3, 7]])


def test_nnbyol_predicts_the_nearest_former_target_and_then_stores_its_own() -> None:
    objective = build("nnbyol")
    batch, queue = random_input(objective), objective.queue.clone()
    p = heads(objective, batch.online, "projector", "predictor")
    z = [F.normalize(view, dim=1) for view in heads(objective, batch.momentum, "momentum_projector")]
    former = queue[0].T.double()
    found = [[max(former, key=lambda one, c=cell: float(one @ c)) for cell in view] for view in z]
    expected = sum(2 - 2 * cosine(p[v][i], found[1 - v][i]) for v in (0, 1) for i in range(6)) / 6
    assert objective(batch)[0].item() == pytest.approx(expected, rel=1e-5)
    objective.after_step()
    torch.testing.assert_close(objective.queue[0, :, :6].double(), z[0].T, rtol=1e-5, atol=1e-6)


def test_nnclr_is_info_nce_of_the_neighbour_with_the_other_view_s_predictions() -> None:
    objective = build("nnclr", temperature=0.2)
    batch = random_input(objective)
    p = [F.normalize(view, dim=1) for view in heads(objective, batch.online, "projector", "predictor")]
    z = [F.normalize(view, dim=1) for view in heads(objective, batch.online, "projector")]
    losses = []
    for v in (0, 1):
        for i in range(6):
            former = max(objective.queue[0].T.double(), key=lambda one, c=z[v][i]: float(one @ c))
            e = [math.exp(float(former @ other) / 0.2) for other in p[1 - v]]
            losses.append(-math.log(e[i] / sum(e)))
    assert objective(batch)[0].item() == pytest.approx(sum(losses) / 12, rel=1e-5)
    objective.after_step()
    torch.testing.assert_close(objective.queue[0, :, :6].double(), z[0].T, rtol=1e-5, atol=1e-6)


def test_nnclr_with_the_views_in_its_queue_equals_info_nce_between_views() -> None:
    objective = build("nnclr", queue=6, temperature=0.2)
    batch = random_input(objective)
    same = type(batch)(batch.online[:1].expand(2, -1, -1), batch.momentum, batch.cells)
    z = objective.project(same.online[0]).detach()
    objective.queue.copy_(z.T[None])
    p = F.normalize(objective.predictor(objective.projector(same.online[0])), dim=1)
    scores = z @ p.T / 0.2
    others = scores.masked_fill(torch.eye(6, dtype=torch.bool), -math.inf)
    expected = info_nce(torch.cat([scores.diagonal()[:, None], others], dim=1))
    torch.testing.assert_close(objective(same)[0], expected)


def test_ressl_is_the_cross_entropy_of_similarities_to_former_cells() -> None:
    objective = build("ressl")
    batch = random_input(objective)
    (q,) = heads(objective, batch.online, "projector")
    (k,) = heads(objective, batch.momentum, "momentum_projector")
    losses = []
    for query, key in zip(F.normalize(q, dim=1), F.normalize(k, dim=1), strict=True):
        t = [math.exp(float(key @ one) / 0.04) for one in objective.queue[0].T.double()]
        s = [math.exp(float(query @ one) / 0.1) for one in objective.queue[0].T.double()]
        losses.append(-sum(a / sum(t) * math.log(b / sum(s)) for a, b in zip(t, s, strict=True)))
    assert objective(batch)[0].item() == pytest.approx(sum(losses) / 6, rel=1e-5)


def test_the_relational_loss_of_equal_relations_is_their_entropy_and_of_uniform_ones_the_log() -> None:
    scores = noise(3, 8)
    share = (scores / 0.1).softmax(dim=1)
    entropy = -(share * share.log()).sum(dim=1).mean()
    torch.testing.assert_close(relational_loss(scores, scores, 0.1, 0.1), entropy)
    assert relational_loss(torch.zeros(3, 8), torch.zeros(3, 8), 0.1, 0.04).item() == pytest.approx(math.log(8))


@pytest.mark.parametrize("name", ["byol", "nnbyol", "ressl"])
def test_the_momentum_projector_follows(name: str) -> None:
    objective = build(name)
    before = objective.momentum_projector[0].weight.clone()
    with torch.no_grad():
        objective.projector[0].weight.add_(1.0)
    objective(random_input(objective))
    objective.after_step()
    torch.testing.assert_close(objective.momentum_projector[0].weight, before + 0.1)
