"""replicate_retrieval: profiles of treated wells -> how often replicates find each other, where they must differ.

A well finds its replicates among wells of other treatments by what the treatment did, but also by plate, batch and
position. Rules leave out all wells that share one of these with the query, replicates and others alike, as in
MorphoHELM (arXiv:2605.15383), which holds out the position on the plate.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from cellssl.profiling.finite import check_embeddings
from cellssl.profiling.labels import Labels, codes
from cellssl.profiling.nearness import Similarity, distance_steps, typical_squared_length
from cellssl.profiling.one_thread import one_thread
from cellssl.profiling.retrieval_rules import RULES, Rule, places_of, rules_of
from cellssl.randomness import generator

AT_ONCE = 4_000_000
"""How many similarities are held at a time."""
SHUFFLES = 10
"""How often treatments are shuffled."""


@dataclass(frozen=True)
class RuleRetrieval:
    """How often a well finds its replicates under one rule."""

    queries: int
    """Wells that have a replicate, and a well of another compound, under this rule."""
    pairs: int
    """Pairs of replicates that are left."""
    recall_at_1: float
    """Share of queries whose nearest well is a replicate; of equally near ones, the share that are replicates."""
    chance: float
    """This share for a random order: the mean over queries of replicates / all wells that are left."""
    mean_average_precision: float
    """Mean over queries; where a replicate and another well are equally near, the other one comes first."""
    shuffled_recall_at_1: float
    """Recall where treatments are shuffled among the treated wells of every plate; NaN where no replicates are left."""
    cell_count_recall_at_1: float | None
    """Recall where only the number of cells of a well is known; None where it is not."""


@dataclass(frozen=True)
class ReplicateRetrieval:
    """The retrieval of replicates under every rule that the wells allow."""

    rules: Mapping[str, RuleRetrieval]
    not_computed: Mapping[str, str]
    """Rule -> the reason why these wells do not allow it."""


def replicate_retrieval(
    x: Float[np.ndarray, "n d"],
    treatments: Labels,
    is_control: Bool[np.ndarray, "n"],
    plates: Labels,
    wells: Labels,
    *,
    compounds: Labels | None = None,
    batches: Labels | None = None,
    sources: Labels | None = None,
    cell_counts: Float[np.ndarray, "n"] | None = None,
    similarity: Similarity = "cosine",
    seed: int = 0,
) -> ReplicateRetrieval:
    """Return the retrieval of replicates among treated wells, under the rules of `retrieval_rules.RULES`.

    `x` are centred profiles of wells. Control wells and wells without a treatment do not take part. A query is not
    compared with wells of its own compound in another treatment, that is at another dose: to find them is no mistake.
    `cell_counts` are compared by their difference; those of different plates are comparable as ratios to the control
    wells of the plate.
    A well without a position takes no part in rules about positions.
    """
    _, treatment = codes(treatments)
    rows = np.flatnonzero((treatment >= 0) & ~is_control)
    places = {kind: number[rows] for kind, number in places_of(plates, wells, batches, sources).items()}
    rules, reasons = rules_of(places)
    x, treatment = x[rows], treatment[rows]
    compound = treatment if compounds is None else codes(compounds)[1][rows]
    pairs_left = {name: _pairs(treatment, rule) for name, rule in rules.items()}
    reasons |= {name: _no_pairs(name, treatment) for name, pairs in pairs_left.items() if not len(pairs)}
    rules = {name: rule for name, rule in rules.items() if len(pairs_left[name])}
    if not rules:
        return ReplicateRetrieval({}, reasons)
    check_embeddings(x)
    shuffled = _shuffled(treatment, places["plate"], seed)
    with one_thread():
        found = _found(x, treatment, compound, rules, similarity)
        alone = [name for name, each in found.items() if np.isnan(each.recall).all()]
        reasons |= dict.fromkeys(alone, "no well of another compound is left to compare with")
        rules = {name: rule for name, rule in rules.items() if name not in alone}
        by_count = None
        if cell_counts is not None and np.isfinite(cell_counts[rows]).all():
            counts = cell_counts[rows, None].astype(np.float64)
            by_count = _found(counts, treatment, compound, rules, "euclidean")
    results = {
        name: _summary(
            found[name],
            len(pairs_left[name]) // 2,
            _shuffled_recall(found[name].nearest, shuffled, rule),
            float(np.nanmean(by_count[name].recall)) if by_count else None,
        )
        for name, rule in rules.items()
    }
    return ReplicateRetrieval(results, reasons)


@dataclass(frozen=True)
class _Found:
    """What every well finds under one rule; NaN where no replicate is left."""

    recall: Float[np.ndarray, "n"]
    chance: Float[np.ndarray, "n"]
    average_precision: Float[np.ndarray, "n"]
    nearest: Int[np.ndarray, "n"]
    """The nearest well, or the first of equally near ones; -1 where no well is left."""

    @classmethod
    def nothing(cls, n: int) -> "_Found":
        """Return what is found before anything was searched."""
        return cls(np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan), np.full(n, -1))


def _found(
    x: Float[np.ndarray, "n d"],
    treatment: Int[np.ndarray, "n"],
    compound: Int[np.ndarray, "n"],
    rules: Mapping[str, Rule],
    similarity: Similarity,
) -> dict[str, _Found]:
    """Let every well rank all others, once for all rules."""
    n = len(x)
    found = {name: _Found.nothing(n) for name in rules}
    for row, steps in enumerate(_steps(x, similarity)):
        steps[row] = np.iinfo(np.int64).max >> 1
        is_replicate = treatment == treatment[row]
        # the last bit says that a well is a replicate, so that replicates come last among equals
        order = np.argsort(2 * steps + is_replicate, kind="stable")[:-1]
        is_candidate = is_replicate | (compound != compound[row])
        for name, rule in rules.items():
            left = order[(rule.allowed_for(row) & is_candidate)[order]]
            if len(left):
                _note(found[name], row, left, steps[left], is_replicate[left])
    return found


def _note(
    found: _Found,
    row: int,
    left: Int[np.ndarray, "m"],
    steps: Int[np.ndarray, "m"],
    is_replicate: Bool[np.ndarray, "m"],
) -> None:
    """Write down what one well finds among those that are left, the nearest first."""
    found.nearest[row] = left[0]
    places = np.flatnonzero(is_replicate) + 1
    if 0 < len(places) < len(left):  # without other wells, every order is right
        nearest = np.searchsorted(steps, steps[0], side="right")
        found.recall[row] = is_replicate[:nearest].mean()
        found.chance[row] = len(places) / len(left)
        found.average_precision[row] = (np.arange(1, len(places) + 1) / places).mean()


def _steps(x: Float[np.ndarray, "n d"], similarity: Similarity) -> Iterator[Int[np.ndarray, "n"]]:
    """Yield the distances of every well from all wells."""
    x = x.astype(np.float64)
    squared = np.einsum("nd,nd->n", x, x)
    typical = typical_squared_length(squared)
    at_once = max(1, AT_ONCE // len(x))
    for begin in range(0, len(x), at_once):
        rows = slice(begin, begin + at_once)
        yield from distance_steps(x[rows] @ x.T, squared[rows, None], squared, typical, similarity)


def _pairs(treatment: Int[np.ndarray, "n"], rule: Rule) -> Int[np.ndarray, "pairs 2"]:
    """Return the replicates that are left by a rule: every pair twice, as well and replicate."""
    pairs = [np.zeros((0, 2), np.int64)]
    order = np.argsort(treatment, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(treatment[order])) + 1):
        one, other = (each.ravel() for each in np.meshgrid(members, members, indexing="ij"))
        left = (one != other) & rule.allowed(one, other)
        pairs.append(np.stack([one[left], other[left]], axis=1))
    return np.concatenate(pairs)


def _shuffled(treatment: Int[np.ndarray, "n"], plate: Int[np.ndarray, "n"], seed: int) -> Int[np.ndarray, "shuffles n"]:
    """Return treatments shuffled among the wells of every plate."""
    rng = generator("shuffled wells", seed)
    found = np.tile(treatment, (SHUFFLES, 1))
    for number in np.unique(plate):
        here = np.flatnonzero(plate == number)
        found[:, here] = rng.permuted(found[:, here], axis=1)
    return found


def _shuffled_recall(nearest: Int[np.ndarray, "n"], shuffled: Int[np.ndarray, "shuffles n"], rule: Rule) -> float:
    """Return the mean recall over shuffles; the nearest well is the same in all, its treatment is not."""
    recalls = []
    for treatment in shuffled:
        queries = np.unique(_pairs(treatment, rule)[:, 0])
        if len(queries):
            recalls.append((treatment[nearest[queries]] == treatment[queries]).mean())
    return float(np.mean(recalls)) if recalls else np.nan


def _summary(found: _Found, pairs: int, shuffled: float, by_count: float | None) -> RuleRetrieval:
    return RuleRetrieval(
        queries=int((~np.isnan(found.recall)).sum()),
        pairs=pairs,
        recall_at_1=float(np.nanmean(found.recall)),
        chance=float(np.nanmean(found.chance)),
        mean_average_precision=float(np.nanmean(found.average_precision)),
        shuffled_recall_at_1=shuffled,
        cell_count_recall_at_1=by_count,
    )


def _no_pairs(name: str, treatment: Int[np.ndarray, "n"]) -> str:
    """Return why no pair of replicates is left."""
    if len(np.unique(treatment)) == len(treatment):
        return "no treatment has two wells"
    return f"no two replicates differ in {' and '.join(RULES[name]).replace('_', ' ')}"
