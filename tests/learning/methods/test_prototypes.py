"""SwAV, DeepCluster v2 and DINO: Sinkhorn, swapped prediction, K-Means and centring, naively and against lightly."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import DINOLoss, SwaVLoss
from parts.test_objectives import CELLS, build, random_input
from torch import Tensor

from cellssl.config import plugins
from cellssl.learning.methods.base import Objective
from cellssl.learning.methods.prototypes import UNASSIGNED, cross_view_cross_entropy, sinkhorn, spherical_k_means
from cellssl.learning.view import render_all
from cellssl.randomness import Keys, generator


def noise(*shape: int) -> Tensor:
    return torch.from_numpy(generator("test", "prototypes").standard_normal(shape))


# The functions.


def test_sinkhorn_equals_the_paper_s_loop() -> None:
    """Rows of exp(scores / epsilon) scaled to 1 / K, then columns to 1 / B, three times; then each cell to 1."""
    scores = F.normalize(noise(6, 4), dim=1)
    q = torch.exp(scores / 0.05).T
    q /= q.sum()
    for _ in range(3):
        q /= q.sum(dim=1, keepdim=True) * 4
        q /= q.sum(dim=0, keepdim=True) * 6
    torch.testing.assert_close(sinkhorn(scores, 0.05, 3), (q * 6).T)


def test_codes_are_even_over_prototypes_and_sum_to_one_per_cell() -> None:
    codes = sinkhorn(noise(12, 4), 1.0, 100)
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(12, dtype=torch.float64))
    torch.testing.assert_close(codes.sum(dim=0), torch.full((4,), 3.0, dtype=torch.float64))


def test_codes_of_identical_cells_are_even() -> None:
    """They are even however near the cells are to one prototype; this keeps SwAV from collapsing."""
    torch.testing.assert_close(sinkhorn(torch.tensor([[5.0, 0.0, 0.0]] * 6), 0.05, 3), torch.full((6, 3), 1 / 3))


def test_every_target_is_predicted_from_every_view_except_its_own() -> None:
    logits, targets = noise(4, 5, 3), noise(2, 5, 3).softmax(dim=-1)
    terms = []
    for t in range(2):
        for v in (v for v in range(4) if v != t):
            for i in range(5):
                e = [math.exp(float(x) / 0.3) for x in logits[v, i]]
                terms.append(-sum(float(q) * math.log(x / sum(e)) for q, x in zip(targets[t, i], e, strict=True)))
    assert cross_view_cross_entropy(logits, targets, 0.3).item() == pytest.approx(sum(terms) / len(terms))


def test_the_gradient_of_cross_view_cross_entropy_agrees_with_finite_differences() -> None:
    targets = noise(2, 3, 4).softmax(dim=-1)
    assert torch.autograd.gradcheck(
        lambda x: cross_view_cross_entropy(x, targets, 0.3), noise(3, 3, 4).requires_grad_()
    )


def test_spherical_k_means_finds_clusters_and_keeps_an_empty_centroid() -> None:
    axes = torch.eye(4, dtype=torch.float64)
    points = F.normalize(axes[[0, 1, 2] * 5] + 0.05 * noise(15, 4), dim=1)
    start = torch.cat([points[:3], -F.normalize(axes.sum(dim=0), dim=0)[None]])
    centroids, nearest = spherical_k_means(points, start, 5)
    assert nearest.tolist() == [0, 1, 2] * 5
    assert torch.equal(centroids[3], start[3])
    for i in range(3):
        torch.testing.assert_close(centroids[i], F.normalize(points[i::3].sum(dim=0), dim=0))


@pytest.mark.parametrize("name", ["swav", "deepcluster_v2", "dino"])
def test_local_crops_are_cut_out_of_key_views_at_half_the_side(name: str) -> None:
    objective = build(name, local_crops=3, local_scale=(0.2, 0.2))
    flip = plugins.load("cellssl.learning.transforms", "horizontal_flip").Settings(p=1.0)
    views = objective.make_views((), (flip,))
    crops = torch.arange(2 * 16 * 16).remainder(256).view(2, 1, 16, 16).to(torch.uint8)
    whole, local = render_all(views, crops, Keys(torch.arange(2)), 16)
    assert whole.shape == (2, 2, 1, 16, 16) and local.shape == (3, 2, 1, 8, 8)
    torch.testing.assert_close(whole[1], whole[0].flip(-1))
    assert not torch.equal(local[0], local[1])
    assert local[0].amin() < local[0].amax() <= whole.amax()


# SwAV.


def projections(objective: Objective, features: Tensor) -> Tensor:
    flat: Tensor = F.normalize(objective.projector(features.flatten(0, 1)), dim=-1)  # type: ignore[operator]
    return flat.unflatten(0, features.shape[:2])


def test_swav_equals_lightly_with_and_without_the_queue() -> None:
    objective = build("swav", queue=12, prototypes=4)
    for number in range(4):
        batch = random_input(objective, number=number)
        full = bool(objective.filled)
        scores = projections(objective, batch.online) @ objective.prototypes.T
        former = [queue.T @ objective.prototypes.T for queue in objective.queue] if full else None
        expected = SwaVLoss()(list(scores[:2]), list(scores[2:]), former)
        torch.testing.assert_close(objective(batch)[0], expected.squeeze(), rtol=1e-5, atol=1e-6)
        objective.after_step()
    assert full and objective.queue_is_full


def test_swav_s_prototypes_keep_their_length_and_are_not_trained_in_the_first_epoch() -> None:
    objective = build("swav", frozen_epochs=1.0)  # three steps of 6 for 13 cells
    start = objective.prototypes.detach().clone()
    for number in range(4):
        objective.zero_grad()
        objective(random_input(objective, number=number))[0].backward()
        assert (objective.prototypes.grad is None) == (number < 3)
        with torch.no_grad():
            objective.prototypes.mul_(1.5)
        objective.after_step()
    torch.testing.assert_close(objective.prototypes.detach(), start)


# DeepCluster v2.


def run_epoch(objective: Objective) -> list[Tensor]:
    """Run every cell once, in three batches; return the projections of both views, batch by batch."""
    kept = []
    for first in (0, 6, 7):
        batch = random_input(objective, number=first)
        batch.cells.copy_(torch.arange(first, first + 6) * 7)
        objective(batch)
        kept.append(projections(objective, batch.online)[:2].detach())
        objective.after_step()
    return kept


def test_deepcluster_stores_the_last_projection_of_every_cell_and_clusters_after_the_epoch() -> None:
    objective = build("deepcluster_v2", prototypes=3, heads=2)
    assert not objective.queue_is_full and (objective.assigned == UNASSIGNED).all()
    kept = run_epoch(objective)
    expected = torch.cat([kept[0][:, :6], kept[1][:, :1], kept[2]], dim=1)
    torch.testing.assert_close(objective.bank, expected)
    assert objective.queue_is_full
    for head in range(2):
        points, own = objective.bank[head], objective.assigned[head]
        assert torch.equal(own, (points @ objective.centroids[head].T).argmax(dim=1))
        torch.testing.assert_close(objective.centroids[head].norm(dim=1), torch.ones(3))


def test_deepcluster_is_the_cross_entropy_of_a_cell_s_cluster_over_views_and_heads() -> None:
    objective = build("deepcluster_v2", prototypes=3, heads=2)
    run_epoch(objective)
    batch = random_input(objective, number=9)
    views = projections(objective, batch.online).detach().double()
    losses = []
    for head in range(2):
        for view in views:
            for i in range(6):
                e = [math.exp(float(view[i] @ c) / 0.1) for c in objective.centroids[head].double()]
                losses.append(-math.log(e[int(objective.assigned[head, i])] / sum(e)))
    assert objective(batch)[0].item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_deepcluster_assigns_an_unknown_cell_to_the_nearest_centroid_and_does_not_store_it() -> None:
    objective = build("deepcluster_v2", prototypes=3, heads=1)
    run_epoch(objective)
    bank, batch = objective.bank.clone(), random_input(objective, number=9)
    batch.cells.copy_(torch.tensor([-1, 3, 1000, 5, 8, 9]))  # keys of no training cell
    assert (objective.bank_rows(batch.cells) == UNASSIGNED).all() and CELLS * 7 < 1000
    logits = projections(objective, batch.online) @ objective.centroids[0].T / 0.1
    clusters = logits[0].argmax(dim=1)
    expected = torch.stack([F.cross_entropy(one, clusters) for one in logits]).mean()
    torch.testing.assert_close(objective(batch)[0], expected)
    objective.after_step()
    assert torch.equal(objective.bank, bank)


# DINO.


def test_dino_equals_lightly_in_loss_and_centre_over_several_steps() -> None:
    objective = build("dino", prototypes=6)
    peer = DINOLoss(output_dim=6)
    for number in range(3):
        batch = random_input(objective, number=number)
        slow = copy.deepcopy(objective.momentum_projector)
        student = F.normalize(objective.projector(batch.online), dim=-1) @ F.normalize(objective.prototypes, dim=1).T
        teacher = F.normalize(slow(batch.momentum), dim=-1) @ F.normalize(objective.momentum_prototypes, dim=1).T
        expected = peer(list(teacher.detach()), list(student))
        torch.testing.assert_close(objective(batch)[0], expected, rtol=1e-5, atol=1e-6)
        objective.after_step()
        torch.testing.assert_close(objective.centre, peer.center.flatten())


def test_dino_s_prototypes_are_not_trained_in_the_first_epoch_and_the_teacher_s_follow() -> None:
    objective = build("dino", frozen_epochs=1.0)
    for number in range(4):
        objective.zero_grad()
        objective(random_input(objective, number=number))[0].backward()
        assert (objective.prototypes.grad is None) == (number < 3)
        objective.after_step()
    before = objective.momentum_prototypes.clone()
    with torch.no_grad():
        objective.prototypes.add_(1.0)
    objective.after_step()
    torch.testing.assert_close(objective.momentum_prototypes, before + 0.1)


def test_a_uniform_prediction_has_a_loss_of_log_of_the_number_of_prototypes() -> None:
    assert cross_view_cross_entropy(torch.zeros(3, 2, 8), torch.full((2, 2, 8), 1 / 8), 0.1).item() == pytest.approx(
        math.log(8)
    )
