"""contrastive_loss: similarities of positives and negatives in, a loss of the InfoNCE family out; each a formula of a paper.

Scores are similarities over temperature, shaped (n, 1 + k): the positive of each of n anchors stands first, then its
k negatives; -inf stands for a negative that is not there.
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


LOWEST = -1e30
"""The log of a sum over nobody is lower; any of somebody, at a temperature above 1e-30, is higher."""


@dataclass(frozen=True)
class Options:
    """Which member of the family; as they stand, plain InfoNCE. What they mean is said in `_knobs.Contrastive`."""

    temperature: float
    margin: float = 0.0
    decoupled: bool = False
    class_prior: float = 0.0
    hardness: float = 0.0
    ifm_epsilon: float = 0.0
    ifm_alpha: float = 1.0


def contrast(scores: Float[Tensor, "n 1+k"], options: Options) -> Float[Tensor, ""]:
    """The loss that the options name, and its adversarial twin beside it where they ask for implicit modification."""
    loss = _one(scores, options)
    if options.ifm_epsilon == 0 or options.ifm_alpha == 0:
        return loss
    twin = _one(modified(scores, options.ifm_epsilon / options.temperature), options)
    return (loss + options.ifm_alpha * twin) / (1 + options.ifm_alpha)


def info_nce(scores: Float[Tensor, "b k+1"]) -> Float[Tensor, ""]:
    """-log softmax of the positive, which stands first (van den Oord et al. 2018, arXiv:1807.03748, equation 4)."""
    return F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device))


def modified(scores: Float[Tensor, "n 1+k"], step: float) -> Float[Tensor, "n 1+k"]:
    """What the worst change of features by `step` does to similarities: s+ - step, s- + step.

    Implicit feature modification (Robinson et al. 2021, arXiv:2106.11230), with step = epsilon / temperature.
    """
    return torch.cat([scores[:, :1] - step, scores[:, 1:] + step], dim=1)


def margin_info_nce(
    positive: Float[Tensor, "n"], log_negatives: Float[Tensor, "n"], margin: float
) -> Float[Tensor, "n"]:
    """-log(e^s+ / (e^(s+ - margin) + N)), N the mass of the negatives: ε-InfoNCE (Barbano et al. 2023,
    arXiv:2211.05568); InfoNCE with a margin of 0."""
    return torch.logaddexp(positive - margin, log_negatives) - positive


def decoupled(positive: Float[Tensor, "n"], log_negatives: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """-s+ + log N: the positive is not in the denominator (Yeh et al. 2022, arXiv:2110.06848)."""
    return log_negatives - positive


def log_mass(
    positive: Float[Tensor, "n"],
    negative: Float[Tensor, "n k"],
    *,
    class_prior: float = 0.0,
    hardness: float = 0.0,
    temperature: float = 1.0,
) -> Float[Tensor, "n"]:
    """log N, the mass of the negatives: log Σ e^s-, unless they are reweighted.

    With `hardness` β every negative weighs e^(β s-), weights having a mean of 1 (Robinson et al. 2021,
    arXiv:2010.04592). With `class_prior` τ+ the share of positives among them is taken out,
    N = max((Σ e^s- - τ+ k e^s+) / (1 - τ+), k e^(-1/temperature)) (Chuang et al. 2020, arXiv:2007.00224,
    with the one positive that there is).
    """
    count = negative.isfinite().sum(dim=1).clamp(min=1).to(negative.dtype).log()
    mass = negative.logsumexp(dim=1)
    if hardness > 0:
        mass = ((1 + hardness) * negative).logsumexp(dim=1) - (hardness * negative).logsumexp(dim=1) + count
    if class_prior > 0:
        taken, floor = positive + count + math.log(class_prior), count - 1 / temperature
        highest = torch.stack([mass, taken, floor]).amax(dim=0).detach()
        left = ((mass - highest).exp() - (taken - highest).exp()) / (1 - class_prior)
        mass = torch.maximum(left, (floor - highest).exp()).log() + highest
    return mass


def sup_con(scores: Float[Tensor, "n m"], positive: Bool[Tensor, "n m"]) -> Float[Tensor, ""]:
    """-1/|P| Σ_P log(e^s_p / Σ_a e^s_a), a over all candidates (Khosla et al. 2020, arXiv:2004.11362, equation 2).

    Candidates that are not there are -inf. An anchor without a positive costs nothing.
    """
    shares = scores - scores.logsumexp(dim=1, keepdim=True)
    return -_mean_of(shares, positive, positive.sum(dim=1).clamp(min=1)).mean()


def epsilon_sup_info_nce(
    scores: Float[Tensor, "n m"], positive: Bool[Tensor, "n m"], margin: float
) -> Float[Tensor, ""]:
    """-Σ_P log(e^s_p / (e^(s_p - margin) + Σ_N e^s_n)), summed over positives, N all that is no positive.

    ε-SupInfoNCE (Barbano et al. 2023, arXiv:2211.05568), averaged over anchors.
    """
    negatives = scores.masked_fill(positive, -torch.inf).logsumexp(dim=1, keepdim=True)
    shares = scores - torch.logaddexp(scores - margin, negatives)
    return -_mean_of(shares, positive, torch.ones(len(scores), device=scores.device)).mean()


def y_aware(scores: Float[Tensor, "n m"], weights: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """-Σ_k (w_k / Σ_t w_t) log(e^s_k / Σ_t e^s_t) (y-aware InfoNCE, Dufumier et al. 2021, arXiv:2106.08808)."""
    shares = scores - scores.logsumexp(dim=1, keepdim=True)
    return -_mean_of(shares, weights > 0, weights.sum(dim=1), weights).mean()


def y_threshold(scores: Float[Tensor, "n m"], weights: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """-Σ_k (w_k / Σ_t δ[w_t < w_k] w_t) log(e^s_k / Σ_(t ≠ k) δ[w_t < w_k] e^s_t) (Barbano et al. 2023,
    arXiv:2211.08326): k is held against candidates that are less alike. Where these weigh nothing together, k is
    skipped: that of the smallest weight always is.
    """
    there = scores.isfinite()
    rising, order = weights.masked_fill(~there, torch.inf).sort(dim=1)
    less = torch.searchsorted(
        rising, weights.contiguous()
    )  # so many candidates weigh less: sums over t need no (n, k, t)
    against = _log_sums_before(scores.gather(1, order)).gather(1, less)
    lighter = F.pad(rising.masked_fill(rising.isinf(), 0.0).cumsum(dim=1), (1, 0)).gather(1, less)
    counted = there & (lighter > 0)
    share = weights / lighter.where(counted, 1.0)
    return -_mean_of(scores - against, counted, torch.ones(len(scores), device=scores.device), share).mean()


def y_exponential(scores: Float[Tensor, "n m"], weights: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """-(1 / Σ_t w_t) Σ_k w_k log(e^s_k / Σ_(t ≠ k) e^(s_t (1 - w_t))) (Barbano et al. 2023, arXiv:2211.08326).

    Where there is but one candidate, nothing is told.
    """
    there = scores.isfinite()
    repelled = (scores.masked_fill(~there, 0.0) * (1 - weights)).masked_fill(~there, -torch.inf)
    before, after = _log_sums_before(repelled)[:, :-1], _log_sums_before(repelled.flip(1)).flip(1)[:, 1:]
    against = torch.logaddexp(
        before, after
    )  # all but k; the sum less its own part would lose digits where that is large
    counted = there & (weights > 0) & (against > LOWEST)
    return -_mean_of(scores - against, counted, weights.sum(dim=1), weights).mean()


@torch.no_grad()
def gauges(scores: list[Float[Tensor, "b 1+k"]], projections: Float[Tensor, "v b dim"]) -> dict[str, Tensor]:
    """What the loss is to be read by.

    Accuracy of picking the positive; log of the number of candidates, which is the loss of whoever does not look;
    spread of the projections.
    """
    hits = torch.stack([one.argmax(dim=1) == 0 for one in scores])
    candidates = torch.stack([one.isfinite().sum(dim=1) for one in scores])
    return {
        "accuracy": hits.float().mean(),
        "chance": candidates.float().log().mean(),
        "projection_spread": spread_of(projections),
    }


@torch.no_grad()
def spread_of(projections: Float[Tensor, "v b dim"]) -> Float[Tensor, ""]:
    """Spread of unit projections over cells, over the 1/sqrt(dim) of an even one: 0 when they have collapsed."""
    spread: Tensor = projections.std(dim=1, correction=0).mean()
    return spread * math.sqrt(projections.shape[-1])


def _one(scores: Float[Tensor, "n 1+k"], options: Options) -> Float[Tensor, ""]:
    """One member of the family, without its twin; an anchor that has no negatives costs nothing."""
    reweighted = options.class_prior > 0 or options.hardness > 0
    if not (options.margin or options.decoupled or reweighted):
        return info_nce(scores)
    has_negatives = scores[:, 1:].isfinite().any(dim=1)
    positive = scores[:, 0].where(has_negatives, 0.0)
    negative = scores[:, 1:].where(has_negatives[:, None], 0.0)
    negatives = log_mass(
        positive,
        negative,
        class_prior=options.class_prior,
        hardness=options.hardness,
        temperature=options.temperature,
    )
    each = decoupled(positive, negatives) if options.decoupled else margin_info_nce(positive, negatives, options.margin)
    return each.where(has_negatives, 0.0).mean()


def _log_sums_before(scores: Float[Tensor, "n m"]) -> Float[Tensor, "n m+1"]:
    """log Σ_(t < k) e^s_t for every k from 0 to m; at most LOWEST where nobody is there."""
    there = scores.clamp(min=2 * LOWEST)  # of -inf logcumsumexp makes slopes that are no numbers
    return F.pad(there.logcumsumexp(dim=1), (1, 0), value=2 * LOWEST)


def _mean_of(
    values: Float[Tensor, "n m"],
    counted: Bool[Tensor, "n m"],
    total: Tensor,
    weights: Float[Tensor, "n m"] | None = None,
) -> Float[Tensor, "n"]:
    """Σ w v / total over what counts; what does not may be infinite."""
    kept = values.masked_fill(~counted, 0.0)
    return (kept if weights is None else kept * weights.masked_fill(~counted, 0.0)).sum(dim=1) / total
