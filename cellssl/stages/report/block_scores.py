"""block_scores: an evaluation in; what each block of joined vectors adds in it, one by one and as scores, out."""

from __future__ import annotations

from collections.abc import Iterator

from cellssl.stages.evaluate.block_gains import BlockGain
from cellssl.stages.evaluate.metrics import CLASSIFIERS, SCHEMES, EvaluationMetrics

Gain = tuple[str, str, float, BlockGain]
"""Classifier, block, balanced accuracy of all blocks, and what this one adds."""


def each_gain(evaluation: EvaluationMetrics | None) -> Iterator[tuple[str, Gain, str, int]]:
    """Yield the scheme, every gain under it, what was resampled, and how many of these there are."""
    for scheme in SCHEMES:
        found = evaluation.schemes.get(scheme) if evaluation else None
        if found is None or found.block_gains is None:
            continue
        for classifier in CLASSIFIERS:
            whole = found.classifiers[classifier].balanced_accuracy
            for block, gain in found.block_gains.gains[classifier].items():
                yield scheme, (classifier, block, whole, gain), found.block_gains.resampled, found.block_gains.groups


def block_scores(evaluation: EvaluationMetrics | None) -> dict[str, float]:
    """Return the scores of one run without each block and of each alone, by their columns in scores.csv.

    They are those of the first scheme that drops blocks, such as `linear_without_features`.
    """
    found: dict[str, float] = {}
    first = next(iter(each_gain(evaluation)), None)
    for scheme, (classifier, block, _, gain), *_ in each_gain(evaluation):
        if first is not None and scheme == first[0]:
            found |= {
                f"{classifier}_without_{block}": gain.without,
                f"{classifier}_only_{block}": gain.alone,
                f"{classifier}_added_by_{block}": gain.difference,
            }
    return found
