"""activity: profiles of wells -> how well the replicates of a treatment stand out from the controls, with p-values.

Mean average precision is that of Kalinin et al. 2025, doi:10.1038/s41467-025-60306-2. Its p-value is that of a
permutation test: the labels "treated" and "control" change among the wells of a treatment and the controls, and plates
are centred again on the wells that are controls then. Random ranks, the null of that paper and of copairs 0.5, take the
wells of a treatment as independent, which they are not: all are compared with the same controls, and share the error of
the mean of these.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.stats import false_discovery_control

from cellssl.profiling.activity_comparison import Comparison, with_all, with_controls
from cellssl.profiling.activity_design import ActivityDesign, Reference, smallest_p_value
from cellssl.profiling.finite import check_embeddings
from cellssl.profiling.labels import Labels, codes
from cellssl.profiling.nearness import Similarity
from cellssl.profiling.one_thread import one_thread
from cellssl.profiling.permutation_test import permutation_p_value
from cellssl.profiling.retrieval import ROUNDING, AveragePrecision, mean_average_precision
from cellssl.randomness import generator

Null = Literal["permutation", "random_ranks"]
AGREEMENT_ROUNDING = 1e-9
"""Agreements that differ by less, as a share, are equal."""


@dataclass(frozen=True)
class Activity:
    """How well the replicates of every treatment find each other among the reference wells."""

    treatments: tuple[str, ...]
    """Treatments of wells that are not controls, sorted as text."""
    wells: Int[np.ndarray, "t"]
    """Number of tested wells; 0 where fewer than two can be tested, and then the other numbers are NaN, or 0 draws."""
    mean_average_precision: Float[np.ndarray, "t"]
    p_value: Float[np.ndarray, "t"]
    """Also NaN where no block has both treated and reference wells, so that no label can change."""
    smallest_p_value: Float[np.ndarray, "t"]
    """The smallest p-value that this null can give; 1 where there is no test."""
    draws: Int[np.ndarray, "t"]
    """Number of relabelings, or of random rankings, that the p-value counts."""
    ranked: AveragePrecision
    """Of every well."""


def centred(
    x: Float[np.ndarray, "n d"], plates: Labels, is_control: Bool[np.ndarray, "n"], reference: Reference = "controls"
) -> Float[np.ndarray, "n d"]:
    """Subtract from every well the mean of the reference wells of its plate; NaN on a plate without one."""
    is_reference = is_control if reference == "controls" else np.ones(len(x), bool)
    _, plate = codes(plates)
    found = x.astype(np.float64)
    for number in np.unique(plate):
        here = plate == number
        centre = x[here & is_reference].astype(np.float64)
        found[here] -= centre.mean(axis=0) if len(centre) else np.nan
    return found


def activity(
    x: Float[np.ndarray, "n d"],
    treatments: Labels,
    is_control: Bool[np.ndarray, "n"],
    plates: Labels,
    *,
    blocks: Labels | None = None,
    similarity: Similarity = "cosine",
    controls: Literal["plate", "all"] = "plate",
    null: Null = "permutation",
    null_size: int = 10_000,
    seed: int = 0,
    reference: Reference = "controls",
    scaled: bool = False,
) -> Activity:
    """Return mean average precision and p-value of every treatment.

    `x` are profiles of wells; they are centred on the reference wells of their plate here, so that an offset of a plate
    changes nothing, nor whether they were centred before. Each tested well ranks the other tested wells of its
    treatment against the reference wells of its plate, or of all plates: with reference "all", those of other
    treatments. A plate with fewer than two reference wells has no tested wells. Equally near wells are ranked negatives
    first; profiles that differ by rounding only are equally near.

    If `scaled`, the test of a treatment divides features by their spread among its wells and the controls together: a
    scale that few control wells have set makes these alike, and treated wells not. The mean average precision is that
    of `x` all the same. With reference "all" it is not needed.

    Treated wells must agree: their mean inner product from the centre must be above 0, or the p-value is 1. Of
    relabelings with the mean average precision of the treatment, only those count that agree as much, and of others,
    those that agree at all. (copairs 0.6 counts all of them; with two or three replicates the strongest treatment then
    has the p-value of any wells that are nearest to each other.)

    A permutation changes labels only between wells of one plate that have equal `blocks`; a well in a block without
    reference wells stays treated in all of them. All relabelings are counted where they are `null_size` at most; else
    they are drawn until 100 of them reach the observed value (Besag and Clifford 1991, doi:10.1093/biomet/78.2.301), or
    `null_size` times. The draws of a treatment depend on the seed and its name only.
    """
    check_embeddings(x)
    design = ActivityDesign.of(treatments, is_control, plates, blocks, reference)
    with one_thread():
        ranked, tests = _tested(x, design, similarity, controls == "all", reference, null, null_size, seed, scaled)
    if null == "random_ranks":
        tests = _random_ranks(design, ranked, null_size, seed)
    return Activity(
        treatments=design.names,
        wells=np.array([len(wells) for wells in design.tested], np.int64),
        mean_average_precision=np.array([_mean(ranked.average_precision[wells]) for wells in design.tested], float),
        p_value=np.array([test.p_value for test in tests], float),
        smallest_p_value=np.array([_smallest(design, n, ranked, null, null_size) for n in range(len(tests))], float),
        draws=np.array([test.draws for test in tests], np.int64),
        ranked=ranked,
    )


def q_values(p_values: Float[np.ndarray, "t"]) -> Float[np.ndarray, "t"]:
    """Correct p-values by Benjamini and Hochberg; NaN stays NaN and does not count."""
    known = ~np.isnan(p_values)
    found = np.full(p_values.shape, np.nan)
    if known.any():
        found[known] = false_discovery_control(p_values[known])
    return found


@dataclass(frozen=True)
class _Test:
    p_value: float = np.nan
    draws: int = 0


def _tested(
    x: Float[np.ndarray, "n d"],
    design: ActivityDesign,
    similarity: Similarity,
    all_plates: bool,
    reference: Reference,
    null: Null,
    null_size: int,
    seed: int,
    scaled: bool,
) -> tuple[AveragePrecision, list[_Test]]:
    """Return the average precision of every well, and the permutation test of every treatment where that is asked."""
    if reference == "all":
        compare = in_test = with_all(_around_mean(x, design.plate), design, similarity, all_plates=all_plates)
    else:
        compare = with_controls(x, design, similarity, all_plates=all_plates)
        in_test = with_controls(x, design, similarity, all_plates=all_plates, scaled=True) if scaled else compare
    scores, tests = np.full(len(x), np.nan), []
    positives, pairs = np.zeros((2, len(x)), np.int64)
    for number, (name, wells) in enumerate(zip(design.names, design.tested, strict=True)):
        if not len(wells):
            tests.append(_Test())
            continue
        comparison = compare(number)
        scores[wells] = comparison.ranking.average_precision(comparison.treated[None])[0]
        positives[wells], pairs[wells] = len(wells) - 1, len(wells) - 1 + comparison.negatives
        if null == "permutation":
            tested = comparison if in_test is compare else in_test(number)
            tests.append(_permutation_test(tested, null_size, generator("relabelings", seed, name)))
        else:
            tests.append(_Test())
    return AveragePrecision(scores, positives, pairs), tests


def _permutation_test(comparison: Comparison, null_size: int, rng: np.random.Generator) -> _Test:
    """Return the p-value of the mean average precision of the treated wells."""
    if comparison.relabelings.number == 1:
        return _Test()
    reached_by = _Observed.of(comparison).reached_by
    return _Test(*permutation_p_value(comparison.relabelings, reached_by, null_size, comparison.at_once, rng))


@dataclass(frozen=True)
class _Observed:
    """What the treated wells have reached: their mean average precision, and how much they agree."""

    comparison: Comparison
    precision: float
    agreement: float

    @classmethod
    def of(cls, comparison: Comparison) -> "_Observed":
        """Return what the treated wells have reached."""
        treated = comparison.treated[None]
        precision = _mean(comparison.ranking.average_precision(treated)[0])
        return cls(comparison, precision, float(comparison.agreement(treated)[0]))

    def reached_by(self, draws: Int[np.ndarray, "b k"]) -> Int[np.ndarray, "h"]:
        """Return the draws that are at least as good.

        Wells that do not agree, whose mean inner product is not above 0, are the worst, however they rank: they have
        nothing in common. Others are ordered by rank; of those that rank equally, the ones that agree more are better.
        Few replicates often rank perfectly by chance: of two wells, any two that are nearest to each other do.
        """
        if self.agreement <= 0:
            return np.arange(len(draws))
        precision = self.comparison.ranking.average_precision(draws).mean(axis=1)
        near = np.flatnonzero(precision >= self.precision - ROUNDING)
        agreement = self.comparison.agreement(draws[near])
        is_equal = precision[near] <= self.precision + ROUNDING
        least = np.where(is_equal, self.agreement * (1 - AGREEMENT_ROUNDING), np.nextafter(0, 1))
        return near[agreement >= least]


def _random_ranks(design: ActivityDesign, ranked: AveragePrecision, null_size: int, seed: int) -> list[_Test]:
    """Return the p-values against random rankings, in which all wells are independent."""
    treatment = np.full(len(design.plate), -1)
    for number, wells in enumerate(design.tested):
        treatment[wells] = number
    found = mean_average_precision(pd.DataFrame({"treatment": treatment}), ranked, null_size=null_size, seed=seed)
    p_values = dict(zip(found["treatment"].tolist(), found["p_value"].tolist(), strict=True))
    return [_Test(p_values[n], null_size) if n in p_values else _Test() for n in range(len(design.names))]


def _smallest(design: ActivityDesign, number: int, ranked: AveragePrecision, null: Null, null_size: int) -> float:
    """Return the smallest p-value of a treatment; for random ranks, the chance that all its wells rank perfectly."""
    if null == "permutation":
        return smallest_p_value(design, number, null_size)
    pairs, positives = (each[design.tested[number]].tolist() for each in (ranked.pairs, ranked.positives))
    return max(1 / (null_size + 1) if pairs else 1.0, 1 / math.prod(map(math.comb, pairs, positives)))


def _around_mean(x: Float[np.ndarray, "n d"], plate: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n d"]:
    return centred(x, plate, np.ones(len(x), bool), "all")


def _mean(values: Float[np.ndarray, "k"]) -> float:
    return float(values.mean()) if len(values) else np.nan
