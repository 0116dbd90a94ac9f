"""The InfoNCE family against sums written out one by one in float64, closed forms, limits, and lightly."""

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import DCLLoss, NTXentLoss
from parts.test_objectives import built, seen
from torch import Tensor

from cellssl.learning.methods.base import MethodInput
from cellssl.learning.methods.contrastive_loss import (
    Options,
    contrast,
    epsilon_sup_info_nce,
    info_nce,
    sup_con,
    y_aware,
    y_exponential,
    y_threshold,
)
from cellssl.learning.methods.simclr import dose_kernel, same_but_self
from cellssl.randomness import generator

TAU = 0.3


def noise(*shape: int, number: int = 0) -> Tensor:
    return torch.from_numpy(generator("test", "contrast", number).standard_normal(shape))


def written_out(scores: Tensor, options: Options) -> float:
    """The mean over anchors, every exponential by itself."""
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
            true_mass = (mass - options.class_prior * len(negative) * math.exp(positive)) / (1 - options.class_prior)
            mass = max(true_mass, len(negative) * math.exp(-1 / options.temperature))
        own = 0.0 if options.decoupled else math.exp(positive - options.margin)
        losses.append(-math.log(math.exp(positive) / (own + mass)))
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


@pytest.mark.parametrize("knobs", OPTIONS, ids=str)
@pytest.mark.parametrize("ifm_epsilon", [0.0, 0.1])
def test_each_member_equals_its_formula_written_out(knobs: dict[str, Any], ifm_epsilon: float) -> None:
    scores = F.normalize(noise(6, 9), dim=1) / TAU
    scores[1, 3:5] = -math.inf
    scores[2, 1:] = -math.inf  # an anchor that has no negatives
    plain = Options(TAU, **knobs)
    expected = written_out(scores, plain)
    if ifm_epsilon:
        step = torch.tensor([-1.0, *[1.0] * 8], dtype=torch.float64) * (ifm_epsilon / TAU)
        expected = (expected + 0.4 * written_out(scores + step, plain)) / 1.4
    loss = contrast(scores, Options(TAU, **knobs, ifm_epsilon=ifm_epsilon, ifm_alpha=0.4))
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_an_option_that_is_nothing_is_plain_info_nce_to_the_bit() -> None:
    scores = noise(6, 9).float()
    assert torch.equal(contrast(scores, Options(TAU)), info_nce(scores))
    assert torch.equal(contrast(scores, Options(TAU, ifm_epsilon=0.1, ifm_alpha=0.0)), info_nce(scores))


def test_limits_lead_from_one_member_to_the_other() -> None:
    scores = noise(6, 9)
    endless = contrast(scores, Options(TAU, margin=60.0))
    torch.testing.assert_close(endless, contrast(scores, Options(TAU, decoupled=True)))
    torch.testing.assert_close(contrast(scores, Options(TAU, margin=1e-9)), info_nce(scores))
    torch.testing.assert_close(contrast(scores, Options(TAU, hardness=1e-9)), info_nce(scores))
    torch.testing.assert_close(contrast(scores, Options(TAU, class_prior=1e-12)), info_nce(scores))


@pytest.mark.parametrize("negatives", [1, 7])
def test_equal_scores_give_what_they_must(negatives: int) -> None:
    scores = torch.full((3, negatives + 1), 0.4, dtype=torch.float64)
    assert contrast(scores, Options(TAU)).item() == pytest.approx(math.log(negatives + 1))
    assert contrast(scores, Options(TAU, decoupled=True)).item() == pytest.approx(math.log(negatives))
    assert contrast(scores, Options(TAU, margin=1.0)).item() == pytest.approx(math.log(negatives + math.exp(-1)))


def test_hard_negatives_pull_at_the_nearest_more_than_plain_ones_do() -> None:
    scores = torch.tensor([[0.0, 2.0, 0.0, -2.0]], dtype=torch.float64, requires_grad=True)
    plain, hard = (
        torch.autograd.grad(contrast(scores, Options(TAU, hardness=beta)), scores)[0][0, 1:] for beta in (0.0, 1.0)
    )
    assert (hard / hard.sum())[0] > (plain / plain.sum())[0]


@pytest.mark.parametrize("knobs", OPTIONS, ids=str)
def test_a_row_without_negatives_gives_no_gradient_that_is_no_number(knobs: dict[str, Any]) -> None:
    scores = torch.tensor([[1.0, -math.inf], [1.0, 0.0]], requires_grad=True)
    contrast(scores, Options(TAU, **knobs)).backward()
    assert scores.grad is not None and scores.grad.isfinite().all() and not scores.grad[0].any()


# With labels.


def pairs(n: int = 6) -> tuple[Tensor, Tensor]:
    """Scores of n views of three kinds, and which pairs are of one kind."""
    scores = noise(n, n).fill_diagonal_(-math.inf)
    return scores, same_but_self(torch.tensor([0, 1, 0, 2, 0, 1])[:n])


def test_sup_con_and_epsilon_sup_info_nce_equal_their_sums() -> None:
    scores, positive = pairs()
    con, eps = [], []
    for i in range(6):
        others = [a for a in range(6) if a != i]
        e = {a: math.exp(scores[i, a]) for a in others}
        mine = [p for p in others if positive[i, p]]
        negative = sum(e[a] for a in others if a not in mine)
        terms = [math.log(e[p] / sum(e.values())) for p in mine]
        con.append(-sum(terms) / len(terms) if terms else 0.0)
        eps.append(-sum(math.log(e[p] / (e[p] * math.exp(-0.25) + negative)) for p in mine))
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
    """Symmetric, between 0.05 and 1, and none like another."""
    drawn = torch.from_numpy(generator("test", "weights").uniform(0.05, 1.0, (n, n)))
    return torch.maximum(drawn, drawn.T).fill_diagonal_(0.0)


def test_the_three_forms_for_continuous_labels_equal_their_sums() -> None:
    scores, w = noise(5, 5).fill_diagonal_(-math.inf), weights()
    aware, threshold, exponential = [], [], []
    for i in range(5):
        others = [k for k in range(5) if k != i]
        s, v = {k: float(scores[i, k]) for k in others}, {k: float(w[i, k]) for k in others}
        total = sum(v.values())
        everyone = sum(math.exp(s[t]) for t in others)
        aware.append(-sum(v[k] / total * math.log(math.exp(s[k]) / everyone) for k in others))
        term = 0.0
        for k in others:
            less = [t for t in others if t != k and v[t] < v[k]]
            if less:
                against = sum(math.exp(s[t]) for t in less)
                term -= v[k] / sum(v[t] for t in less) * math.log(math.exp(s[k]) / against)
        threshold.append(term)
        term = 0.0
        for k in others:
            against = sum(math.exp(s[t] * (1 - v[t])) for t in others if t != k)
            term -= v[k] * math.log(math.exp(s[k]) / against)
        exponential.append(term / total)
    assert y_aware(scores, w).item() == pytest.approx(sum(aware) / 5)
    assert y_threshold(scores, w).item() == pytest.approx(sum(threshold) / 5)
    assert y_exponential(scores, w).item() == pytest.approx(sum(exponential) / 5)


@pytest.mark.parametrize("form", [y_aware, y_threshold, y_exponential])
def test_their_gradients_are_those_of_finite_differences(form: Any) -> None:
    w, start = weights(), noise(5, 5)

    def loss(free: Tensor) -> Tensor:
        value: Tensor = form(free.masked_fill(torch.eye(5, dtype=torch.bool), -math.inf), w)
        return value

    assert torch.autograd.gradcheck(loss, start.requires_grad_())


def of_every_three(scores: Tensor, w: Tensor, form: Any) -> Tensor:
    """The threshold and exponential forms with a (n, k, t) tensor for what is held against each candidate."""
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
@pytest.mark.parametrize("steps", [None, 3])  # of doses: with few there are ties
@pytest.mark.parametrize("form", [y_threshold, y_exponential])
def test_what_is_held_against_pairs_is_summed_without_a_triple_of_views(
    form: Any, steps: int | None, scale: float
) -> None:
    """The same loss and slopes, and nothing larger than the pairs is kept for the backward pass."""
    n = 40
    w = weights(n) if steps is None else (weights(n) * steps).ceil() / steps
    w = w.fill_diagonal_(0.0)
    start = (noise(n, n) * scale).fill_diagonal_(-math.inf)
    one, other, sizes = start.clone().requires_grad_(), start.clone().requires_grad_(), []

    def weigh(kept: Tensor) -> Tensor:
        sizes.append(kept.numel())
        return kept

    with torch.autograd.graph.saved_tensors_hooks(weigh, lambda kept: kept):
        loss = form(one, w)
    expected = of_every_three(other, w, form)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(one.grad, other.grad)
    assert max(sizes) <= n * (n + 1)


def test_the_kernel_relates_nearby_doses_of_one_compound_and_leaves_controls_alone() -> None:
    doses = torch.tensor([1.0, 10.0, 1.0, 0.0, 0.0, math.nan])
    compound, cells = torch.tensor([1, 1, 2, 3, 3, 1]), torch.arange(6)
    kernel = dose_kernel(doses, compound, cells, sigma_decades=0.5, unrelated=0.01)
    expected = torch.full((6, 6), 0.01).fill_diagonal_(1.0)
    expected[0, 1] = expected[1, 0] = math.exp(-2.0)  # one decade is two sigmas
    torch.testing.assert_close(kernel, expected)


def test_distant_doses_of_one_compound_are_no_less_alike_than_two_compounds() -> None:
    doses, compound = torch.tensor([0.03, 3.0, 0.03]), torch.tensor([1, 1, 2])
    kernel = dose_kernel(doses, compound, torch.arange(3), sigma_decades=0.5, unrelated=0.01)
    assert kernel[0, 1] == pytest.approx(0.01) and kernel[0, 2] == pytest.approx(0.01)


def test_no_single_pair_of_an_ordinary_dose_series_drowns_the_batch() -> None:
    doses = (10.0 ** torch.linspace(-3, 1, 8)).repeat_interleave(4)
    scores = torch.randn(32, 32, generator=torch.Generator().manual_seed(0)).fill_diagonal_(-math.inf)
    kernel = dose_kernel(doses, torch.ones(32, dtype=torch.long), torch.arange(32), 0.5, 0.01).fill_diagonal_(0.0)
    assert y_threshold(scores, kernel).abs() < 100


def test_the_exponential_form_says_nothing_of_a_single_candidate() -> None:
    scores = torch.tensor([[-math.inf, 2.0], [2.0, -math.inf]], requires_grad=True)
    loss = y_exponential(scores, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    loss.backward()
    assert loss.item() == 0.0 and scores.grad is not None and scores.grad.isfinite().all()


# The objectives that hand them their scores.


def projected(name: str, **knobs: Any) -> tuple[Tensor, MethodInput, Tensor]:
    """The loss of an objective, what it saw, and its unit projections."""
    objective = built(name, **knobs)
    batch = seen(objective)
    return objective(batch)[0], batch, objective.project(batch.online)


def test_a_cell_whose_number_is_missing_is_a_class_of_its_own() -> None:
    objective = built("supcon", label="dose_micromolar")
    batch = seen(objective)
    alone = torch.arange(len(batch.cells)).float()
    missing = replace(batch, known={"dose_micromolar": torch.full_like(alone, torch.nan)})
    each = replace(batch, known={"dose_micromolar": alone})
    assert objective(missing)[0].item() == pytest.approx(objective(each)[0].item())


def test_simclr_is_lightly_s_nt_xent_and_decoupled_its_dcl() -> None:
    loss, _, (one, other) = projected("simclr", temperature=0.2)
    torch.testing.assert_close(loss, NTXentLoss(temperature=0.2)(one, other))
    loss, _, (one, other) = projected("simclr", temperature=0.2, decoupled=True)
    torch.testing.assert_close(loss, DCLLoss(temperature=0.2)(one, other))


def test_simclr_sees_everything_but_the_anchor_and_another_stand_of_its_cell() -> None:
    objective = built("simclr", temperature=0.2)
    batch = seen(objective)
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
def test_supcon_draws_views_of_one_label_together_and_ifm_moves_its_scores(form: Any) -> None:
    loss, batch, views = projected("supcon", form=form, ifm_epsilon=0.1, ifm_alpha=0.5, temperature=0.2)
    flat, kinds = views.flatten(0, 1), batch.known["label"].repeat(2)
    scores, positive = (flat @ flat.T / 0.2).fill_diagonal_(-math.inf), same_but_self(kinds)
    moved = scores + 0.1 / 0.2 * (1 - 2 * positive.float())
    terms = [
        sup_con(s, positive) if form == "sup_con" else epsilon_sup_info_nce(s, positive, 0.0) for s in (scores, moved)
    ]
    torch.testing.assert_close(loss, (terms[0] + 0.5 * terms[1]) / 1.5)


@pytest.mark.parametrize(("form", "function"), [("y_aware", y_aware), ("exponential", y_exponential)])
def test_dose_aware_weighs_both_views_of_every_cell(form: Any, function: Any) -> None:
    loss, batch, views = projected("dose_aware", form=form)
    flat, known = views.flatten(0, 1), batch.known
    kernel = dose_kernel(known["dose_micromolar"], known["compound"], batch.cells, 0.5)
    scores = (flat @ flat.T / 0.1).fill_diagonal_(-math.inf)
    torch.testing.assert_close(loss, function(scores, kernel.repeat(2, 2).fill_diagonal_(0.0)))


def test_dose_aware_without_any_dose_is_simclr() -> None:
    objective, peer = built("dose_aware", temperature=0.2), built("simclr", temperature=0.2)
    batch = seen(objective)
    batch.known["dose_micromolar"].zero_()
    torch.testing.assert_close(objective(batch)[0], peer(batch)[0])


def test_forms_that_have_nothing_to_stand_on_are_refused() -> None:
    with pytest.raises(ValueError, match="needs unrelated above 0"):
        built("dose_aware", form="threshold")
    with pytest.raises(ValueError, match="margin is of the form"):
        built("supcon", margin=0.2)
    with pytest.raises(ValueError, match="could have a margin"):
        built("simclr", margin=0.2, decoupled=True)


@pytest.mark.parametrize("knobs", [{"decoupled": True}, {"ifm_epsilon": 0.1}, {"hardness": 1.0}, {"margin": 0.5}])
@pytest.mark.parametrize("name", ["moco", "nnclr", "looc"])
def test_every_info_nce_objective_takes_the_options(name: str, knobs: dict[str, Any]) -> None:
    plain, other = built(name), built(name, **knobs)
    batch = seen(plain)
    assert other(batch)[0].isfinite() and other(batch)[0] != plain(batch)[0]
