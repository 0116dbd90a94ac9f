"""MoCo v2 and v2+ agree with a naive float64 version, the official arithmetic, lightly, and closed forms."""

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from torch import Tensor, nn

from cellssl.learning.methods.base import MethodInput
from cellssl.learning.methods.build_context import BuildContext
from cellssl.learning.methods.contrastive_loss import info_nce
from cellssl.learning.methods.moco import Moco, logits
from cellssl.learning.methods.queue import EMPTY_SLOT
from cellssl.learning.objectives.moco import Settings
from cellssl.learning.training.loop import Plan, compute_gradients, train, train_step
from cellssl.learning.training.state import TrainState
from cellssl.randomness import Keys, generator

STEPS = 10


class NaiveBranch:
    """One projector, its momentum copy, and queues that are lists of (key, cell)."""

    def __init__(self, objective: Moco) -> None:
        self.objective, self.temperature = objective, objective.options.temperature
        self.fast = copy.deepcopy(objective.projector).double()
        self.slow = copy.deepcopy(objective.momentum_projector).double()
        self.queues = [[(key, EMPTY_SLOT) for key in queue.double().T] for queue in objective.queue]
        self.pointer = 0

    def loss(self, online: Tensor, momentum: Tensor, cells: list[int]) -> Tensor:
        """Return the mean over cells and directions of -log of the positive's share, computed cell by cell."""
        pairs = [(0, 1), (1, 0)] if self.objective.symmetric else [(0, 0)]
        losses, self.fresh = [], []
        for number, (query_view, key_view) in enumerate(pairs):
            self.fresh.append([])
            for i, cell in enumerate(cells):
                query, key = (
                    self.unit_projection(self.fast, online[query_view, i]),
                    self.unit_projection(self.slow, momentum[key_view, i]),
                )
                negatives = [
                    k for k, owner in self.queues[number] if not (self.objective.mask_same_cell and owner == cell)
                ]
                positive = torch.exp(query @ key.detach() / self.temperature)
                negative = sum((torch.exp(query @ k / self.temperature) for k in negatives), torch.zeros(()))
                losses.append(-torch.log(positive / (positive + negative)))
                self.fresh[number].append((key.detach(), cell))
        return torch.stack(losses).mean()

    def unit_projection(self, head: nn.Module, features: Tensor) -> Tensor:
        projected: Tensor = head(features)
        return projected / projected.square().sum().sqrt()

    def enqueue(self) -> None:
        for i in range(len(self.fresh[0])):
            for queue, fresh in zip(self.queues, self.fresh, strict=True):
                queue[self.pointer] = fresh[i]
            self.pointer = (self.pointer + 1) % len(self.queues[0])


class NaiveTraining:
    """The whole training step in float64, with plain SGD (momentum 0.9) written out."""

    def __init__(self, state: TrainState, plan: Plan, weight_decay: float) -> None:
        self.plan, self.weight_decay = plan, weight_decay
        self.fast = copy.deepcopy(state.encoder).double()
        self.slow = copy.deepcopy(state.momentum_encoder).double()
        self.branches = [NaiveBranch(branch.objective) for branch in plan.branches]
        self.trained = [w for m in (self.fast, *[b.fast for b in self.branches]) for w in m.parameters()]
        self.velocity = [torch.zeros_like(weight) for weight in self.trained]

    def step(self, number: int, crops: Tensor, cells: Tensor) -> float:
        total = torch.zeros((), dtype=torch.float64)
        for branch, naive in zip(self.plan.branches, self.branches, strict=True):
            keys = Keys(cells).fold(self.plan.seed, number, branch.name)
            views = [
                view.render(crops, keys.fold(f"view{i}"), self.plan.side_px).double()
                for i, view in enumerate(branch.views)
            ]
            both = naive.objective.symmetric
            online = self.fast(torch.cat(views) if both else views[0]).unflatten(0, (-1, len(cells)))
            with torch.no_grad():
                momentum = self.slow(torch.cat(views) if both else views[1]).unflatten(0, (-1, len(cells)))
            total = total + branch.weight * naive.loss(online, momentum, cells.tolist())
        self.sgd_step(torch.autograd.grad(total, self.trained))
        self.ema_update(self.slow, self.fast)
        for naive in self.branches:
            self.ema_update(naive.slow, naive.fast)
            naive.enqueue()
        return total.item()

    @torch.no_grad()
    def sgd_step(self, gradients: tuple[Tensor, ...]) -> None:
        for weight, gradient, velocity in zip(self.trained, gradients, self.velocity, strict=True):
            decay = self.weight_decay * weight if weight.ndim > 1 else 0.0
            velocity.mul_(0.9).add_(gradient + decay)
            weight.sub_(0.01 * velocity)

    @torch.no_grad()
    def ema_update(self, slow: nn.Module, fast: nn.Module) -> None:
        for k, q in zip(slow.parameters(), fast.parameters(), strict=True):
            k.copy_(0.9 * k + 0.1 * q)


def assert_close(ours: Tensor, naive: Tensor) -> None:
    torch.testing.assert_close(ours.detach().double(), naive.detach(), rtol=2e-4, atol=2e-5)


def assert_same_state(state: TrainState, plan: Plan, naive: NaiveTraining) -> None:
    for ours, theirs in ((state.encoder, naive.fast), (state.momentum_encoder, naive.slow)):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert_close(a, b)
    for branch, theirs in zip(plan.branches, naive.branches, strict=True):
        moco: Any = branch.objective
        for heads in ((moco.projector, theirs.fast), (moco.momentum_projector, theirs.slow)):
            for a, b in zip(heads[0].parameters(), heads[1].parameters(), strict=True):
                assert_close(a, b)
        assert moco.pointer.item() == theirs.pointer
        assert moco.queue_cells.tolist() == [cell for _, cell in theirs.queues[0]]
        for ours, queue in zip(moco.queue, theirs.queues, strict=True):
            assert_close(ours.T, torch.stack([key for key, _ in queue]))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("queue", [7, 3, 8], ids=["no-multiple-of-the-batch", "shorter-than-the-batch", "multiple"])
def test_every_step_equals_the_naive_float64_version(training: Any, symmetric: bool, mask: bool, queue: int) -> None:
    settings = {"symmetric": symmetric, "mask_same_cell": mask, "queue": queue}
    branches = {"centre": settings, "context": settings | {"weight": 0.4}}
    state, plan = training(branches, epochs=4, optimizer="sgd", weight_decay=0.01)
    naive = NaiveTraining(state, plan, weight_decay=0.01)
    for step in range(STEPS):
        rows = plan.batches.rows(step)
        crops, cells = plan.read(rows), plan.cell_keys[torch.from_numpy(rows)]
        expected = naive.step(step, crops, cells)
        assert train_step(state, plan, crops, cells)["loss"] == pytest.approx(expected, rel=1e-4)
        assert_same_state(state, plan, naive)


def moco(in_dim: int = 6, seed: int = 0, **changes: Any) -> Moco:
    given = {"hidden_dim": 8, "dim": 5, "queue": 12, "symmetric": False} | changes
    context = BuildContext(in_dim, seed, "centre", torch.arange(13), batch=4, channels=3, side_px=16)
    objective = Settings(**given).build(context)
    assert isinstance(objective, Moco)
    return objective


def random_input(views: int = 1, cells: int = 4, dim: int = 6, number: int = 0) -> MethodInput:
    online, momentum = noise(2, views, cells, dim, number=number)
    return MethodInput(online, momentum, torch.arange(cells) + 100 * number)


def noise(*shape: int, number: int = 0) -> Tensor:
    return torch.from_numpy(generator("test", "moco", number).standard_normal(shape, dtype="float32"))


def test_the_loss_is_the_official_arithmetic() -> None:
    """The arithmetic of facebookresearch/moco, builder.py and main_moco.py."""
    objective, batch = moco(temperature=0.07), random_input()
    q = F.normalize(objective.projector(batch.online[0]), dim=1)
    k = F.normalize(objective.momentum_projector(batch.momentum[0]), dim=1)
    l_pos = torch.einsum("nc,nc->n", [q, k]).unsqueeze(-1)
    l_neg = torch.einsum("nc,ck->nk", [q, objective.queue[0].clone()])
    expected = nn.CrossEntropyLoss()(torch.cat([l_pos, l_neg], dim=1) / 0.07, torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(objective(batch)[0], expected)


def test_the_symmetric_loss_is_the_mean_of_both_directions() -> None:
    """(q1.k2 + q2.k1) / 2 with a queue for each kind of key, as in solo-learn's MoCo v2+."""
    objective, batch = moco(symmetric=True), random_input(views=2)
    q1, q2 = F.normalize(objective.projector(batch.online), dim=-1)
    k1, k2 = F.normalize(objective.momentum_projector(batch.momentum), dim=-1)
    forward = info_nce(logits(q1, k2, objective.queue[0], None, 0.07))
    backward = info_nce(logits(q2, k1, objective.queue[1], None, 0.07))
    torch.testing.assert_close(objective(batch)[0], (forward + backward) / 2)
    objective.after_step()
    torch.testing.assert_close(objective.queue[:, :, :4], torch.stack([k2.T, k1.T]))


def test_loss_and_queue_equal_lightly_over_several_batches() -> None:
    objective = moco(queue=12, temperature=0.2)
    peer = NTXentLoss(temperature=0.2, memory_bank_size=(12, 5))
    peer.memory_bank.bank.copy_(objective.queue[0].T)
    for number in range(5):
        batch = random_input(number=number)
        query = objective.projector(batch.online[0])
        key = objective.momentum_projector(batch.momentum[0])
        torch.testing.assert_close(objective(batch)[0], peer(query, key))
        objective.after_step()
        torch.testing.assert_close(objective.queue[0].T, peer.memory_bank.bank)


@pytest.mark.parametrize("negatives", [1, 5, 1024])
def test_equal_scores_give_the_log_of_the_number_of_candidates(negatives: int) -> None:
    scores = torch.full((3, negatives + 1), 0.7)
    assert info_nce(scores).item() == pytest.approx(math.log(negatives + 1), rel=1e-6)


def test_each_query_has_one_positive_and_a_queue_of_negatives() -> None:
    vectors = F.normalize(torch.ones(4, 5), dim=1)
    scores = logits(vectors, vectors, torch.zeros(5, 9), None, temperature=0.5)
    assert scores.shape == (4, 10)
    torch.testing.assert_close(scores[:, 0], torch.full((4,), 2.0))  # cosine 1 over temperature
    assert (scores[:, 1:] == 0).all()


def test_a_masked_key_does_not_count() -> None:
    objective, batch = moco(mask_same_cell=True), random_input()
    objective.queue_cells[2] = batch.cells[1]
    queries, keys = F.normalize(noise(2, 1, 4, 5), dim=-1)
    scores = objective._scores(queries, keys, batch.cells)[0]
    assert (scores == -math.inf).nonzero().tolist() == [[1, 3]]
    kept = [0, 1, 2, *range(4, 13)]
    torch.testing.assert_close(info_nce(scores[1:2]), info_nce(scores[1:2, kept]))


def test_a_query_with_all_keys_masked_has_no_loss_and_no_gradient() -> None:
    objective, batch = moco(mask_same_cell=True), replace(random_input(cells=2), cells=torch.tensor([5, 5]))
    objective.queue_cells.fill_(5)
    loss, _ = objective(batch)
    loss.backward()
    assert loss.item() == 0
    assert all(weight.grad is not None and not weight.grad.any() for weight in objective.projector.parameters())


def test_the_queue_starts_with_random_unit_keys_of_no_cell() -> None:
    objective = moco(symmetric=True, queue=1000, dim=16, mask_same_cell=True)
    torch.testing.assert_close(objective.queue.norm(dim=1), torch.ones(2, 1000))
    assert (objective.queue.mean(dim=2).abs() < 5 / math.sqrt(16 * 1000)).all()  # five standard errors
    assert (objective.queue_cells == EMPTY_SLOT).all() and objective.pointer == 0
    assert not torch.equal(objective.queue[0], objective.queue[1])


def test_keys_and_queue_get_no_gradient() -> None:
    objective, batch = moco(), random_input()
    batch.momentum.requires_grad_()
    batch.online.requires_grad_()
    objective(batch)[0].backward()
    assert batch.momentum.grad is None and batch.online.grad is not None
    assert all(weight.grad is None for weight in objective.momentum_projector.parameters())


def test_a_short_batch_advances_the_queue_by_its_own_length() -> None:
    objective, expected, pointer = moco(queue=5), [EMPTY_SLOT] * 5, 0
    for number, cells in enumerate((4, 3, 1, 4)):
        batch = random_input(cells=cells, number=number)
        objective(batch)
        objective.after_step()
        for cell in batch.cells.tolist():
            expected[pointer], pointer = cell, (pointer + 1) % 5
        assert objective.queue_cells.tolist() == expected and objective.pointer == pointer


def test_the_queue_is_full_when_its_last_random_key_is_overwritten() -> None:
    objective, full = moco(queue=9), []
    for number in range(4):
        full.append(objective.queue_is_full)
        objective(random_input(number=number))
        objective.after_step()
    assert full == [False, False, False, True]


def test_the_chance_level_is_the_log_of_the_number_of_unmasked_candidates() -> None:
    objective, batch = moco(queue=12, mask_same_cell=True), random_input()
    assert objective(batch)[1]["chance"].item() == pytest.approx(math.log(13))
    objective.queue_cells[:6] = batch.cells[0]
    expected = (3 * math.log(13) + math.log(7)) / 4
    assert objective(batch)[1]["chance"].item() == pytest.approx(expected)


def test_evaluating_the_loss_twice_fills_the_queue_once() -> None:
    objective = moco()
    objective(random_input())
    objective(random_input())
    objective.after_step()
    assert objective.pointer == 4
    objective.after_step()
    assert objective.pointer == 4


def test_accuracy_is_the_fraction_of_positives_found() -> None:
    objective, batch = moco(dim=5, queue=1), random_input()
    objective.queue.fill_(0.0)  # every negative scores 0, so a positive is found where its cosine is positive
    query = F.normalize(objective.projector(batch.online[0]), dim=1)
    key = F.normalize(objective.momentum_projector(batch.momentum[0]), dim=1)
    found = ((query * key).sum(dim=1) >= 0).float().mean()
    assert objective(batch)[1]["accuracy"] == found


def gradients_of(state: TrainState, plan: Plan) -> dict[str, Tensor]:
    rows = plan.batches.rows(0)
    compute_gradients(state, plan, plan.read(rows), plan.cell_keys[torch.from_numpy(rows)])
    parts = {"encoder": state.encoder, "heads": state.objectives}
    return {
        f"{part}.{name}": weight.grad.clone()
        for part, module in parts.items()
        for name, weight in module.named_parameters()
        if weight.grad is not None
    }


def test_the_gradient_is_the_weighted_sum_of_each_branch_alone(training: Any) -> None:
    state, plan = training({"context": {"weight": 0.4}, "centre": {"weight": 1.7}})
    together = gradients_of(state, plan)
    alone = [(b.weight, gradients_of(state, replace(plan, branches=(replace(b, weight=1.0),)))) for b in plan.branches]
    assert together.keys() == alone[0][1].keys() | alone[1][1].keys()
    for name, gradient in together.items():
        expected = sum(weight * part[name] for weight, part in alone if name in part)
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


def train_to_end(state: TrainState, plan: Plan) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    metrics = [event.metrics for event in train(state, plan)]
    parts = {"encoder": state.encoder, "slow": state.momentum_encoder, "heads": state.objectives}
    return {f"{p}.{n}": t.clone() for p, m in parts.items() for n, t in m.state_dict().items()}, metrics


def assert_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_a_branch_of_weight_zero_equals_its_absence_bit_for_bit(training: Any) -> None:
    with_zero, metrics_with_zero = train_to_end(*training({"centre": {}, "context": {"weight": 0.0}}))
    without, metrics = train_to_end(*training({"centre": {}}))
    assert_bits(with_zero, without)
    assert metrics == metrics_with_zero


def test_one_branch_of_weight_one_equals_plain_moco_bit_for_bit(training: Any) -> None:
    """Plain MoCo is the published loop, without branches and weights."""
    state, plan = training({"centre": {}}, optimizer="adam", weight_decay=0.01)
    plain, _ = training({"centre": {}}, optimizer="adam", weight_decay=0.01)
    objective = plain.objectives["branch_centre"]
    for step in range(plan.steps):
        rows = plan.batches.rows(step)
        cells = plan.cell_keys[torch.from_numpy(rows)]
        keys = Keys(cells).fold(plan.seed, step, "centre")
        views = [plan.branches[0].views[i].render(plan.read(rows), keys.fold(f"view{i}"), 16) for i in range(2)]
        both = torch.cat(views).contiguous(memory_format=torch.channels_last)
        online = plain.encoder(both).unflatten(0, (2, -1))
        with torch.no_grad():
            momentum = plain.momentum_encoder(both).unflatten(0, (2, -1))
        plain.optimizer.zero_grad()
        objective(MethodInput(online, momentum, cells))[0].backward()
        for group in plain.optimizer.param_groups:
            group["lr"] = plan.learning_rate(step)
        plain.optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(plain.momentum_encoder.parameters(), plain.encoder.parameters(), strict=True):
                slow.lerp_(fast, 1 - 0.9)
        objective.after_step()
    plain.step = plan.steps
    assert_bits(train_to_end(state, plan)[0], train_to_end(plain, plan)[0])


def test_another_branch_does_not_change_initial_state_and_views_of_the_first(training: Any) -> None:
    alone_state, alone = training({"centre": {}})
    both_state, both = training({"a-first": {}, "centre": {}})
    ours, theirs = alone_state.objectives["branch_centre"], both_state.objectives["branch_centre"]
    assert_bits(ours.state_dict(), theirs.state_dict())
    assert_bits(alone_state.encoder.state_dict(), both_state.encoder.state_dict())
    crops, keys = alone.read(alone.batches.rows(2)), Keys(alone.cell_keys[:4]).fold(0, 2, "centre")
    rendered = [[view.render(crops, keys, 16) for view in plan.branches[-1].views] for plan in (alone, both)]
    assert all(torch.equal(a, b) for a, b in zip(*rendered, strict=True))
    assert both.batches == alone.batches
    first = [next(train(*run)).metrics["centre/loss"] for run in ((alone_state, alone), (both_state, both))]
    assert first[0] == first[1]


def test_branches_have_different_initial_weights(training: Any) -> None:
    state, _ = training({"centre": {}, "context": {}})
    one, other = (objective.projector[0].weight for objective in state.objectives.values())
    assert not torch.equal(one, other)


def test_the_order_of_branches_in_the_recipe_does_not_matter(training: Any) -> None:
    names = ["context", "centre", "border"]
    forward, backward = (train_to_end(*training({name: {} for name in order})) for order in (names, names[::-1]))
    assert_bits(forward[0], backward[0])
    assert forward[1] == backward[1]


@pytest.mark.parametrize("name", ["half", "type", "a.b", "train"])
def test_a_branch_can_have_any_name_that_a_recipe_allows(training: Any, name: str) -> None:
    state, plan = training({name: {}})
    assert f"{name}/loss" in next(train(state, plan)).metrics
