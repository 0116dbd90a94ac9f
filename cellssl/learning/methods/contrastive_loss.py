"""contrastive_loss: scores of positives and negatives in, a loss of the InfoNCE family out; each a formula of a paper.

Scores are similarities divided by the temperature, shaped (n, 1 + k): column 0 holds the positive of each of n anchors,
the other columns its k negatives; -inf marks a missing negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


LOG_EMPTY_SUM = -1e30
"""The log of an empty sum is below it; the log of any other sum, at a temperature above 1e-30, is above it."""


@dataclass(frozen=True)
class ContrastiveOptions:
    """Which member of the InfoNCE family to compute; the defaults are plain InfoNCE.

    `objectives/_shared_settings.py` explains the options to users.
    """

    temperature: float
    margin: float = 0.0
    decoupled: bool = False
    class_prior: float = 0.0
    hardness: float = 0.0
    ifm_epsilon: float = 0.0
    ifm_alpha: float = 1.0


def contrastive_loss(scores: Float[Tensor, "n 1+k"], options: ContrastiveOptions) -> Float[Tensor, ""]:
    """Return the loss that the options choose, averaged with its adversarial copy where `ifm_epsilon` asks for one."""
    loss = _info_nce_variant(scores, options)
    if options.ifm_epsilon == 0 or options.ifm_alpha == 0:
        return loss
    adversarial = _info_nce_variant(ifm_scores(scores, options.ifm_epsilon / options.temperature), options)
    return (loss + options.ifm_alpha * adversarial) / (1 + options.ifm_alpha)


def info_nce(scores: Float[Tensor, "b k+1"]) -> Float[Tensor, ""]:
    """Return -log softmax of the positive, column 0 (van den Oord et al. 2018, arXiv:1807.03748, equation 4)."""
    return F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device))


def ifm_scores(scores: Float[Tensor, "n 1+k"], step: float) -> Float[Tensor, "n 1+k"]:
    """Return the scores after the worst change of the features by `step`: s+ - step, s- + step.

    Implicit feature modification (Robinson et al. 2021, arXiv:2106.11230), with step = epsilon / temperature.
    """
    return torch.cat([scores[:, :1] - step, scores[:, 1:] + step], dim=1)


def margin_info_nce(
    positive: Float[Tensor, "n"], log_negatives: Float[Tensor, "n"], margin: float
) -> Float[Tensor, "n"]:
    """Return -log(e^s+ / (e^(s+ - margin) + N)), N being the mass of the negatives; a margin of 0 is InfoNCE.

    ε-InfoNCE (Barbano et al. 2023, arXiv:2211.05568).
    """
    return torch.logaddexp(positive - margin, log_negatives) - positive


def decoupled_info_nce(positive: Float[Tensor, "n"], log_negatives: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Return -s+ + log N: the denominator leaves out the positive (Yeh et al. 2022, arXiv:2110.06848)."""
    return log_negatives - positive


def log_negative_mass(
    positive: Float[Tensor, "n"],
    negative: Float[Tensor, "n k"],
    *,
    class_prior: float = 0.0,
    hardness: float = 0.0,
    temperature: float = 1.0,
) -> Float[Tensor, "n"]:
    """Return log N, N being the mass of the negatives: Σ e^s-, unless the negatives are reweighted.

    With `hardness` β every negative weighs e^(β s-), and the weights have a mean of 1 (Robinson et al. 2021,
    arXiv:2010.04592). With `class_prior` τ+ the expected share of positives among the negatives is subtracted,
    N = max((Σ e^s- - τ+ k e^s+) / (1 - τ+), k e^(-1/temperature)) (Chuang et al. 2020, arXiv:2007.00224,
    with a single positive).
    """
    count = negative.isfinite().sum(dim=1).clamp(min=1).to(negative.dtype).log()
    mass = negative.logsumexp(dim=1)
    if hardness > 0:
        mass = ((1 + hardness) * negative).logsumexp(dim=1) - (hardness * negative).logsumexp(dim=1) + count
    if class_prior > 0:
        false_negatives, floor = positive + count + math.log(class_prior), count - 1 / temperature
        largest = torch.stack([mass, false_negatives, floor]).amax(dim=0).detach()
        remaining = ((mass - largest).exp() - (false_negatives - largest).exp()) / (1 - class_prior)
        mass = torch.maximum(remaining, (floor - largest).exp()).log() + largest
    return mass


def sup_con(scores: Float[Tensor, "n m"], positive: Bool[Tensor, "n m"]) -> Float[Tensor, ""]:
    """Return -1/|P| Σ_P log(e^s_p / Σ_a e^s_a), a over all candidates.

    Khosla et al. 2020, arXiv:2004.11362, equation 2. A score of -inf marks a missing candidate. The loss of an anchor
    without a positive is 0.
    """
    log_shares = scores - scores.logsumexp(dim=1, keepdim=True)
    return -_weighted_sum(log_shares, positive, positive.sum(dim=1).clamp(min=1)).mean()


def epsilon_sup_info_nce(
    scores: Float[Tensor, "n m"], positive: Bool[Tensor, "n m"], margin: float
) -> Float[Tensor, ""]:
    """Return -Σ_P log(e^s_p / (e^(s_p - margin) + Σ_N e^s_n)), N being all candidates that are not positives.

    ε-SupInfoNCE (Barbano et al. 2023, arXiv:2211.05568), averaged over anchors.
    """
    negatives = scores.masked_fill(positive, -torch.inf).logsumexp(dim=1, keepdim=True)
    log_shares = scores - torch.logaddexp(scores - margin, negatives)
    return -_weighted_sum(log_shares, positive, torch.ones(len(scores), device=scores.device)).mean()


def y_aware(scores: Float[Tensor, "n m"], weights: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """Return -Σ_k (w_k / Σ_t w_t) log(e^s_k / Σ_t e^s_t) (y-aware InfoNCE, Dufumier et al. 2021, arXiv:2106.08808)."""
    log_shares = scores - scores.logsumexp(dim=1, keepdim=True)
    return -_weighted_sum(log_shares, weights > 0, weights.sum(dim=1), weights).mean()


def y_threshold(scores: Float[Tensor, "n m"], weights: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """Return -Σ_k (w_k / Σ_t δ[w_t < w_k] w_t) log(e^s_k / Σ_(t ≠ k) δ[w_t < w_k] e^s_t).

    Barbano et al. 2023 (arXiv:2211.08326): k is compared with the candidates whose weight is smaller. Where the sum of
    their weights is 0, k is skipped; this is always so for the candidate of smallest weight.
    """
    present = scores.isfinite()
    ascending, order = weights.masked_fill(~present, torch.inf).sort(dim=1)
    # the number of candidates of smaller weight: with it, sums over t need no tensor (n, k, t)
    n_smaller = torch.searchsorted(ascending, weights.contiguous())
    denominator = _logsumexp_before(scores.gather(1, order)).gather(1, n_smaller)
    smaller_weights = F.pad(ascending.masked_fill(ascending.isinf(), 0.0).cumsum(dim=1), (1, 0)).gather(1, n_smaller)
    counted = present & (smaller_weights > 0)
    share = weights / smaller_weights.where(counted, 1.0)
    return -_weighted_sum(scores - denominator, counted, torch.ones(len(scores), device=scores.device), share).mean()


def y_exponential(scores: Float[Tensor, "n m"], weights: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """Return -(1 / Σ_t w_t) Σ_k w_k log(e^s_k / Σ_(t ≠ k) e^(s_t (1 - w_t))) (Barbano et al. 2023, arXiv:2211.08326).

    The loss of an anchor with a single candidate is 0.
    """
    present = scores.isfinite()
    repelled = (scores.masked_fill(~present, 0.0) * (1 - weights)).masked_fill(~present, -torch.inf)
    before, after = _logsumexp_before(repelled)[:, :-1], _logsumexp_before(repelled.flip(1)).flip(1)[:, 1:]
    # the sum over all but k; subtracting term k from the whole sum would lose digits where that term is large
    denominator = torch.logaddexp(before, after)
    counted = present & (weights > 0) & (denominator > LOG_EMPTY_SUM)
    return -_weighted_sum(scores - denominator, counted, weights.sum(dim=1), weights).mean()


@torch.no_grad()
def diagnostics(scores: list[Float[Tensor, "b 1+k"]], projections: Float[Tensor, "v b dim"]) -> dict[str, Tensor]:
    """Return the numbers that are logged with the loss.

    Accuracy of choosing the positive; log of the number of candidates, which is the loss of a random choice; spread of
    the projections.
    """
    hits = torch.stack([one.argmax(dim=1) == 0 for one in scores])
    candidates = torch.stack([one.isfinite().sum(dim=1) for one in scores])
    return {
        "accuracy": hits.float().mean(),
        "chance": candidates.float().log().mean(),
        "projection_spread": projection_spread(projections),
    }


@torch.no_grad()
def projection_spread(projections: Float[Tensor, "v b dim"]) -> Float[Tensor, ""]:
    """Return the spread of unit projections over cells, relative to an even one (1/sqrt(dim)); 0 after a collapse."""
    spread: Tensor = projections.std(dim=1, correction=0).mean()
    return spread * math.sqrt(projections.shape[-1])


def _info_nce_variant(scores: Float[Tensor, "n 1+k"], options: ContrastiveOptions) -> Float[Tensor, ""]:
    """Return one member of the family, without the adversarial copy; the loss of an anchor without negatives is 0."""
    reweighted = options.class_prior > 0 or options.hardness > 0
    if not (options.margin or options.decoupled or reweighted):
        return info_nce(scores)
    has_negatives = scores[:, 1:].isfinite().any(dim=1)
    positive = scores[:, 0].where(has_negatives, 0.0)
    negative = scores[:, 1:].where(has_negatives[:, None], 0.0)
    log_negatives = log_negative_mass(
        positive,
        negative,
        class_prior=options.class_prior,
        hardness=options.hardness,
        temperature=options.temperature,
    )
    if options.decoupled:
        losses = decoupled_info_nce(positive, log_negatives)
    else:
        losses = margin_info_nce(positive, log_negatives, options.margin)
    return losses.where(has_negatives, 0.0).mean()


def _logsumexp_before(scores: Float[Tensor, "n m"]) -> Float[Tensor, "n m+1"]:
    """Return log Σ_(t < k) e^s_t for every k from 0 to m; at most LOG_EMPTY_SUM where all of them are missing."""
    finite = scores.clamp(min=2 * LOG_EMPTY_SUM)  # the gradient of logcumsumexp is nan at -inf
    return F.pad(finite.logcumsumexp(dim=1), (1, 0), value=2 * LOG_EMPTY_SUM)


def _weighted_sum(
    values: Float[Tensor, "n m"],
    counted: Bool[Tensor, "n m"],
    total: Tensor,
    weights: Float[Tensor, "n m"] | None = None,
) -> Float[Tensor, "n"]:
    """Return Σ w v / total over the counted entries; the other entries may be infinite."""
    finite = values.masked_fill(~counted, 0.0)
    return (finite if weights is None else finite * weights.masked_fill(~counted, 0.0)).sum(dim=1) / total
