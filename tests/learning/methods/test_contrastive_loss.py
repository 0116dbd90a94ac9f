"""The InfoNCE family agrees with naive sums in float64, closed forms, limits, and lightly."""

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import DCLLoss, NTXentLoss
from parts.test_objectives import build, random_input
from torch import Tensor

from cellssl.learning.methods.base import MethodInput
from cellssl.learning.methods.contrastive_loss import (
    ContrastiveOptions,
    contrastive_loss,
    epsilon_sup_info_nce,
    info_nce,
    sup_con,
    y_aware,
    y_exponential,
    y_threshold,
)
from cellssl.learning.methods.simclr import dose_kernel, same_class_pairs
from cellssl.randomness import generator

TAU = 0.3


def noise(*shape: int, number: int = 0) -> Tensor:
    return torch.from_numpy(generator("test", "contrast", number).standard_normal(shape))


def naive_loss(scores: Tensor, options: ContrastiveOptions) -> float:
    """Return the mean over anchors, with every exponential computed separately."""
    losses = []
    for row in scores.tolist():
        positive, negative = row[0], [s for s in row[1:] if s != -math.inf]
        if not negative:
            losses.append(0.0)
            continue
        weights = [math.exp(options.hardness * s) for s in negative]
        weights = [w * len(negative) / sum(weights) for w in weights]
        mass = sum(w * math.exp(s) for w, s in zip(weights, negative, strict=True))
        if options.class_prior:
            corrected = (mass - options.class_prior * len(negative) * math.exp(positive)) / (1 - options.class_prior)
            mass = max(corrected, len(negative) * math.exp(-1 / options.temperature))
        own_term = 0.0 if options.decoupled else math.exp(positive - options.margin)
        losses.append(-math.log(math.exp(positive) / (own_term + mass)))
    return sum(losses) / len(losses)


OPTIONS = [
    {},
    {"margin": 0.7},
    {"decoupled": True},
    {"class_prior": 0.1},
    {"class_prior": 0.6},
    {"hardness": 0.8},
    {"class_prior": 0.1, "hardness": 0.8},
    {"decoupled": True, "hardness": 0.5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("ifm_epsilon", [0.0, 0.1])
def test_each_member_equals_its_formula(options: dict[str, Any], ifm_epsilon: float) -> None:
    scores = F.normalize(noise(6, 9), dim=1) / TAU
    scores[1, 3:5] = -math.inf
    scores[2, 1:] = -math.inf  # an anchor that has no negatives
    plain = ContrastiveOptions(TAU, **options)
    expected = naive_loss(scores, plain)
    if ifm_epsilon:
        step = torch.tensor([-1.0, *[1.0] * 8], dtype=torch.float64) * (ifm_epsilon / TAU)
        expected = (expected + 0.4 * naive_loss(scores + step, plain)) / 1.4
    loss = contrastive_loss(scores, ContrastiveOptions(TAU, **options, ifm_epsilon=ifm_epsilon, ifm_alpha=0.4))
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_options_that_are_off_give_plain_info_nce_bit_for_bit() -> None:
    scores = noise(6, 9).float()
    assert torch.equal(contrastive_loss(scores, ContrastiveOptions(TAU)), info_nce(scores))
    assert torch.equal(
        contrastive_loss(scores, ContrastiveOptions(TAU, ifm_epsilon=0.1, ifm_alpha=0.0)), info_nce(scores)
    )


def test_members_agree_in_the_limits() -> None:
    scores = noise(6, 9)
    infinite_margin = contrastive_loss(scores, ContrastiveOptions(TAU, margin=60.0))
    torch.testing.assert_close(infinite_margin, contrastive_loss(scores, ContrastiveOptions(TAU, decoupled=True)))
    torch.testing.assert_close(contrastive_loss(scores, ContrastiveOptions(TAU, margin=1e-9)), info_nce(scores))
    torch.testing.assert_close(contrastive_loss(scores, ContrastiveOptions(TAU, hardness=1e-9)), info_nce(scores))
    torch.testing.assert_close(contrastive_loss(scores, ContrastiveOptions(TAU, class_prior=1e-12)), info_nce(scores))


@pytest.mark.parametrize("negatives", [1, 7])
def test_equal_scores_give_the_closed_form(negatives: int) -> None:
    scores = torch.full((3, negatives + 1), 0.4, dtype=torch.float64)
    assert contrastive_loss(scores, ContrastiveOptions(TAU)).item() == pytest.approx(math.log(negatives + 1))
    assert contrastive_loss(scores, ContrastiveOptions(TAU, decoupled=True)).item() == pytest.approx(
        math.log(negatives)
    )
    assert contrastive_loss(scores, ContrastiveOptions(TAU, margin=1.0)).item() == pytest.approx(
        math.log(negatives + math.exp(-1))
    )


def test_hardness_raises_the_share_of_the_nearest_negative_in_the_gradient() -> None:
    scores = torch.tensor([[0.0, 2.0, 0.0, -2.0]], dtype=torch.float64, requires_grad=True)
    plain, hard = (
        torch.autograd.grad(contrastive_loss(scores, ContrastiveOptions(TAU, hardness=beta)), scores)[0][0, 1:]
        for beta in (0.0, 1.0)
    )
    assert (hard / hard.sum())[0] > (plain / plain.sum())[0]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_anchor_without_negatives_has_a_gradient_of_zero(options: dict[str, Any]) -> None:
    scores = torch.tensor([[1.0, -math.inf], [1.0, 0.0]], requires_grad=True)
    contrastive_loss(scores, ContrastiveOptions(TAU, **options)).backward()
    assert scores.grad is not None and scores.grad.isfinite().all() and not scores.grad[0].any()


# With labels.


def pairs(n: int = 6) -> tuple[Tensor, Tensor]:
    """Return scores of n views of three classes, and which pairs have the same class."""
    scores = noise(n, n).fill_diagonal_(-math.inf)
    return scores, same_class_pairs(torch.tensor([0, 1, 0, 2, 0, 1])[:n])


def test_sup_con_and_epsilon_sup_info_nce_equal_their_sums() -> None:
    scores, positive = pairs()
    con, eps = [], []
    for i in range(6):
        others = [a for a in range(6) if a != i]
        e = {a: math.exp(scores[i, a]) for a in others}
        positives = [p for p in others if positive[i, p]]
        negative = sum(e[a] for a in others if a not in positives)
        terms = [math.log(e[p] / sum(e.values())) for p in positives]
        con.append(-sum(terms) / len(terms) if terms else 0.0)
        eps.append(-sum(math.log(e[p] / (e[p] * math.exp(-0.25) + negative)) for p in positives))
    assert sup_con(scores, positive).item() == pytest.approx(sum(con) / 6)
    assert epsilon_sup_info_nce(scores, positive, 0.25).item() == pytest.approx(sum(eps) / 6)


def test_sup_con_with_one_positive_each_is_info_nce() -> None:
    views = F.normalize(noise(2, 4, 5), dim=-1)
    flat = views.flatten(0, 1)
    scores = (flat @ flat.T / TAU).fill_diagonal_(-math.inf)
    other = torch.arange(8).roll(4)
    positive = F.one_hot(other, 8).bool()
    first = torch.cat([scores.gather(1, other[:, None]), scores.masked_fill(positive, -math.inf)], dim=1)
    torch.testing.assert_close(sup_con(scores, positive), info_nce(first))
    torch.testing.assert_close(epsilon_sup_info_nce(scores, positive, 0.0), info_nce(first))
    torch.testing.assert_close(y_aware(scores, positive.double()), info_nce(first))


# With doses.


def weights(n: int = 5) -> Tensor:
    """Return symmetric weights between 0.05 and 1, all different."""
    drawn = torch.from_numpy(generator("test", "weights").uniform(0.05, 1.0, (n, n)))
    return torch.maximum(drawn, drawn.T).fill_diagonal_(0.0)


def test_the_three_forms_for_continuous_labels_equal_their_sums() -> None:
    scores, w = noise(5, 5).fill_diagonal_(-math.inf), weights()
    aware, threshold, exponential = [], [], []
    for i in range(5):
        others = [k for k in range(5) if k != i]
        s, v = {k: float(scores[i, k]) for k in others}, {k: float(w[i, k]) for k in others}
        total = sum(v.values())
        all_terms = sum(math.exp(s[t]) for t in others)
        aware.append(-sum(v[k] / total * math.log(math.exp(s[k]) / all_terms) for k in others))
        term = 0.0
        for k in others:
            smaller = [t for t in others if t != k and v[t] < v[k]]
            if smaller:
                denominator = sum(math.exp(s[t]) for t in smaller)
                term -= v[k] / sum(v[t] for t in smaller) * math.log(math.exp(s[k]) / denominator)
        threshold.append(term)
        term = 0.0
        for k in others:
            denominator = sum(math.exp(s[t] * (1 - v[t])) for t in others if t != k)
            term -= v[k] * math.log(math.exp(s[k]) / denominator)
        exponential.append(term / total)
    assert y_aware(scores, w).item() == pytest.approx(sum(aware) / 5)
    assert y_threshold(scores, w).item() == pytest.approx(sum(threshold) / 5)
    assert y_exponential(scores, w).item() == pytest.approx(sum(exponential) / 5)


@pytest.mark.parametrize("form", [y_aware, y_threshold, y_exponential])
def test_their_gradients_agree_with_finite_differences(form: Any) -> None:
    w, start = weights(), noise(5, 5)

    def loss(free: Tensor) -> Tensor:
        value: Tensor = form(free.masked_fill(torch.eye(5, dtype=torch.bool), -math.inf), w)
        return value

    assert torch.autograd.gradcheck(loss, start.requires_grad_())


def loss_by_triples(scores: Tensor, w: Tensor, form: Any) -> Tensor:
    """Return the threshold or exponential form, with a tensor (n, k, t) for the denominators of all candidates."""
    there = scores.isfinite()
    n = scores.shape[1]
    if form is y_threshold:
        counts = (w[:, None, :] < w[:, :, None]) & there[:, None, :]
        against, total = scores[:, None, :], (counts * w[:, None, :]).sum(dim=2)
    else:
        counts = there[:, None, :] & ~torch.eye(n, dtype=torch.bool)
        against = (scores.masked_fill(~there, 0.0) * (1 - w))[:, None, :]
        total = w.sum(dim=1, keepdim=True).expand(n, n)
    held = there & (w > 0) & counts.any(dim=2) & (total > 0)
    against = against.expand(n, n, n).masked_fill(~counts, -math.inf).masked_fill(~held[:, :, None], 0.0)
    terms = (w / total.where(held, 1.0)) * (scores.masked_fill(~held, 0.0) - against.logsumexp(dim=2))
    return -terms.masked_fill(~held, 0.0).sum(dim=1).mean()


@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize("steps", [None, 3])  # number of different weights: with few of them there are ties
@pytest.mark.parametrize("form", [y_threshold, y_exponential])
def test_denominators_are_summed_without_a_tensor_of_triples(form: Any, steps: int | None, scale: float) -> None:
    """Loss and gradient are the same, and no tensor larger than the pairs is kept for the backward pass."""
    n = 40
    w = weights(n) if steps is None else (weights(n) * steps).ceil() / steps
    w = w.fill_diagonal_(0.0)
    start = (noise(n, n) * scale).fill_diagonal_(-math.inf)
    one, other, sizes = start.clone().requires_grad_(), start.clone().requires_grad_(), []

    def record_size(kept: Tensor) -> Tensor:
        sizes.append(kept.numel())
        return kept

    with torch.autograd.graph.saved_tensors_hooks(record_size, lambda kept: kept):
        loss = form(one, w)
    expected = loss_by_triples(other, w, form)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(one.grad, other.grad)
    assert max(sizes) <= n * (n + 1)


def test_the_kernel_relates_similar_doses_of_one_compound_and_no_controls() -> None:
    doses = torch.tensor([1.0, 10.0, 1.0, 0.0, 0.0, math.nan])
    compound, cells = torch.tensor([1, 1, 2, 3, 3, 1]), torch.arange(6)
    kernel = dose_kernel(doses, compound, cells, sigma_decades=0.5, unrelated_weight=0.01)
    expected = torch.full((6, 6), 0.01).fill_diagonal_(1.0)
    expected[0, 1] = expected[1, 0] = math.exp(-2.0)  # one decade is two sigmas
    torch.testing.assert_close(kernel, expected)


def test_distant_doses_of_one_compound_weigh_no_less_than_two_compounds() -> None:
    doses, compound = torch.tensor([0.03, 3.0, 0.03]), torch.tensor([1, 1, 2])
    kernel = dose_kernel(doses, compound, torch.arange(3), sigma_decades=0.5, unrelated_weight=0.01)
    assert kernel[0, 1] == pytest.approx(0.01) and kernel[0, 2] == pytest.approx(0.01)


def test_no_single_pair_of_an_ordinary_dose_series_dominates_the_batch() -> None:
    doses = (10.0 ** torch.linspace(-3, 1, 8)).repeat_interleave(4)
    scores = torch.randn(32, 32, generator=torch.Generator().manual_seed(0)).fill_diagonal_(-math.inf)
    kernel = dose_kernel(doses, torch.ones(32, dtype=torch.long), torch.arange(32), 0.5, 0.01).fill_diagonal_(0.0)
    assert y_threshold(scores, kernel).abs() < 100


def test_the_exponential_form_is_zero_for_a_single_candidate() -> None:
    scores = torch.tensor([[-math.inf, 2.0], [2.0, -math.inf]], requires_grad=True)
    loss = y_exponential(scores, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    loss.backward()
    assert loss.item() == 0.0 and scores.grad is not None and scores.grad.isfinite().all()


# The objectives that compute the scores.


def loss_and_projections(name: str, **options: Any) -> tuple[Tensor, MethodInput, Tensor]:
    """Return the loss of an objective, its input, and its unit projections."""
    objective = build(name, **options)
    batch = random_input(objective)
    return objective(batch)[0], batch, objective.project(batch.online)


def test_a_cell_whose_number_is_missing_is_a_class_of_its_own() -> None:
    objective = build("supcon", label="dose_micromolar")
    batch = random_input(objective)
    alone = torch.arange(len(batch.cells)).float()
    missing = replace(batch, metadata={"dose_micromolar": torch.full_like(alone, torch.nan)})
    each = replace(batch, metadata={"dose_micromolar": alone})
    assert objective(missing)[0].item() == pytest.approx(objective(each)[0].item())


def test_simclr_equals_lightly_s_nt_xent_and_with_decoupled_its_dcl() -> None:
    loss, _, (one, other) = loss_and_projections("simclr", temperature=0.2)
    torch.testing.assert_close(loss, NTXentLoss(temperature=0.2)(one, other))
    loss, _, (one, other) = loss_and_projections("simclr", temperature=0.2, decoupled=True)
    torch.testing.assert_close(loss, DCLLoss(temperature=0.2)(one, other))


def test_simclr_uses_all_negatives_except_further_copies_of_the_same_cell() -> None:
    objective = build("simclr", temperature=0.2)
    batch = random_input(objective)
    batch.cells[4] = batch.cells[1]
    views = objective.project(batch.online).detach().double()
    losses = []
    for v, i in product(range(2), range(6)):
        positive = math.exp(views[v, i] @ views[1 - v, i] / 0.2)
        negative = [
            math.exp(views[v, i] @ views[w, k] / 0.2)
            for w, k in product(range(2), range(6))
            if batch.cells[k] != batch.cells[i]
        ]
        losses.append(-math.log(positive / (positive + sum(negative))))
    assert objective(batch)[0].item() == pytest.approx(sum(losses) / 12, rel=1e-5)


@pytest.mark.parametrize("form", ["sup_con", "epsilon_sup_info_nce"])
def test_supcon_attracts_views_of_one_label_and_ifm_changes_its_scores(form: Any) -> None:
    loss, batch, views = loss_and_projections("supcon", form=form, ifm_epsilon=0.1, ifm_alpha=0.5, temperature=0.2)
    flat, labels = views.flatten(0, 1), batch.metadata["label"].repeat(2)
    scores, positive = (flat @ flat.T / 0.2).fill_diagonal_(-math.inf), same_class_pairs(labels)
    changed = scores + 0.1 / 0.2 * (1 - 2 * positive.float())
    terms = [
        sup_con(s, positive) if form == "sup_con" else epsilon_sup_info_nce(s, positive, 0.0) for s in (scores, changed)
    ]
    torch.testing.assert_close(loss, (terms[0] + 0.5 * terms[1]) / 1.5)


@pytest.mark.parametrize(("form", "function"), [("y_aware", y_aware), ("exponential", y_exponential)])
def test_dose_aware_weights_both_views_of_every_cell(form: Any, function: Any) -> None:
    loss, batch, views = loss_and_projections("dose_aware", form=form)
    flat, metadata = views.flatten(0, 1), batch.metadata
    kernel = dose_kernel(metadata["dose_micromolar"], metadata["compound"], batch.cells, 0.5)
    scores = (flat @ flat.T / 0.1).fill_diagonal_(-math.inf)
    torch.testing.assert_close(loss, function(scores, kernel.repeat(2, 2).fill_diagonal_(0.0)))


def test_dose_aware_without_any_dose_equals_simclr() -> None:
    objective, peer = build("dose_aware", temperature=0.2), build("simclr", temperature=0.2)
    batch = random_input(objective)
    batch.metadata["dose_micromolar"].zero_()
    torch.testing.assert_close(objective(batch)[0], peer(batch)[0])


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="needs unrelated_weight above 0"):
        build("dose_aware", form="threshold")
    with pytest.raises(ValueError, match="margin belongs to the form"):
        build("supcon", margin=0.2)
    with pytest.raises(ValueError, match="margin has no effect with decoupled"):
        build("simclr", margin=0.2, decoupled=True)


@pytest.mark.parametrize("options", [{"decoupled": True}, {"ifm_epsilon": 0.1}, {"hardness": 1.0}, {"margin": 0.5}])
@pytest.mark.parametrize("name", ["moco", "nnclr", "looc"])
def test_every_info_nce_objective_takes_the_options(name: str, options: dict[str, Any]) -> None:
    plain, other = build(name), build(name, **options)
    batch = random_input(plain)
    assert other(batch)[0].isfinite() and other(batch)[0] != plain(batch)[0]
