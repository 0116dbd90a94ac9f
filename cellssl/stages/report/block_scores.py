"""block_scores: clusters and an evaluation in; what each block of joined vectors adds to every score, out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cellssl.stages.cluster.metrics import ClusterMetrics
from cellssl.stages.evaluate.metrics import CLASSIFIERS, SCHEMES, EvaluationMetrics
from cellssl.stages.shared.block_gains import BlockGain

CLUSTERS, AMI = "clusters", "ami"
"""Scheme and score of clusters, where those of classifiers have a scheme of training and testing, and a classifier."""


@dataclass(frozen=True)
class DroppedBlocks:
    """What each block adds to one score of one run."""

    scheme: str
    score: str
    whole: float
    """The score of all blocks together."""
    gains: Mapping[str, BlockGain]
    resampled: str
    groups: int


def dropped_blocks(clusters: ClusterMetrics, evaluation: EvaluationMetrics | None) -> list[DroppedBlocks]:
    """Return what each block adds to every score of a run: classifiers first, then clusters."""
    found = []
    for name in SCHEMES:
        scheme = evaluation.schemes.get(name) if evaluation else None
        if scheme is None or scheme.block_gains is None:
            continue
        who = scheme.block_gains
        for classifier in CLASSIFIERS:
            whole = scheme.classifiers[classifier].balanced_accuracy
            found.append(DroppedBlocks(name, classifier, whole, who.gains[classifier], who.resampled, who.groups))
    label, of_clusters = clusters.scores.label, clusters.block_gains
    if label is not None and of_clusters is not None:
        gains = of_clusters.gains[AMI]
        found.append(DroppedBlocks(CLUSTERS, AMI, label.ami, gains, of_clusters.resampled, of_clusters.groups))
    return found


def block_scores(clusters: ClusterMetrics, evaluation: EvaluationMetrics | None) -> dict[str, float]:
    """Return the scores of one run without each block and of each alone, by their columns in scores.csv.

    Those of classifiers are of the first scheme that drops blocks, such as `linear_without_features`.
    """
    found: dict[str, float] = {}
    for each in dropped_blocks(clusters, evaluation):
        for block, gain in each.gains.items():
            found.setdefault(f"{each.score}_without_{block}", gain.without)
            found.setdefault(f"{each.score}_only_{block}", gain.alone)
            found.setdefault(f"{each.score}_added_by_{block}", gain.difference)
    return found
