"""cluster_scores: labels and cluster assignments -> agreement scores, their chance level and their interval."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn import metrics
from sklearn.metrics.cluster import expected_mutual_information

from cellssl.profiling.group_bootstrap import class_strata, counts_of_groups, drawn_sums
from cellssl.profiling.labels import Labels, codes
from cellssl.randomness import generator

SILHOUETTE_CELLS = 10_000
"""The silhouette compares every pair of cells, so it is computed on a sample of this size if there are more."""
SHUFFLES = 100
DRAWS = 1000
LEVEL = 0.95


class MeanSd(NamedTuple):
    """A mean and its standard deviation."""

    mean: float
    sd: float


class Interval(NamedTuple):
    """An interval with its lower and its upper end."""

    low: float
    high: float


class Comparison(NamedTuple):
    """How well clusters and labels agree, the chance level of that agreement, and its interval."""

    agreement: dict[str, float]
    shuffled: MeanSd
    interval: Interval
    cells: int
    """Number of cells that have a label."""
    classes: int


NAMES = ("ami", "ami_max", "nmi", "ari", "homogeneity")


def compare(labels: Labels, assignment: Int[np.ndarray, "n"], seed: int = 0) -> Comparison:
    """Return `agreement`, `shuffled_ami` and `ami_interval` at once."""
    truth, clusters = _labelled(labels, assignment)
    return Comparison(
        _agreement(truth, clusters),
        _shuffled(truth, clusters, seed, SHUFFLES),
        _interval(truth, clusters, seed, DRAWS, LEVEL),
        len(truth),
        len(np.unique(truth)),
    )


def agreement(labels: Labels, assignment: Int[np.ndarray, "n"]) -> dict[str, float]:
    """Return scikit-learn's scores: `ami` (arithmetic mean), `ami_max` (maximum), `nmi`, `ari`, `homogeneity`.

    Cells without a label are left out. With fewer than two classes all scores are NaN.
    """
    return _agreement(*_labelled(labels, assignment))


def _agreement(truth: Int[np.ndarray, "m"], clusters: Int[np.ndarray, "m"]) -> dict[str, float]:
    if not _two_classes(truth):
        return dict.fromkeys(NAMES, float("nan"))
    return {
        "ami": float(metrics.adjusted_mutual_info_score(truth, clusters, average_method="arithmetic")),
        "ami_max": float(metrics.adjusted_mutual_info_score(truth, clusters, average_method="max")),
        "nmi": float(metrics.normalized_mutual_info_score(truth, clusters)),
        "ari": float(metrics.adjusted_rand_score(truth, clusters)),
        "homogeneity": float(metrics.homogeneity_score(truth, clusters)),
    }


def silhouette(x: Float[np.ndarray, "n d"], assignment: Int[np.ndarray, "n"], seed: int = 0) -> float:
    """Return the mean silhouette (Euclidean) of all cells, or of `SILHOUETTE_CELLS` random cells if there are more.

    NaN where the cells lie in fewer than two clusters, or where every cell has a cluster of its own.
    """
    if len(x) > SILHOUETTE_CELLS:
        drawn = np.sort(generator("silhouette", seed).choice(len(x), SILHOUETTE_CELLS, replace=False))
        x, assignment = x[drawn], assignment[drawn]
    if not 2 <= len(np.unique(assignment)) < len(x):
        return float("nan")
    return float(metrics.silhouette_score(x, assignment))


def shuffled_ami(labels: Labels, assignment: Int[np.ndarray, "n"], seed: int = 0, draws: int = SHUFFLES) -> MeanSd:
    """Return mean and standard deviation of the AMI with shuffled labels, which is about 0.

    Both are NaN with fewer than two classes.
    """
    return _shuffled(*_labelled(labels, assignment), seed, draws)


def _shuffled(truth: Int[np.ndarray, "m"], clusters: Int[np.ndarray, "m"], seed: int, draws: int) -> MeanSd:
    if not _two_classes(truth):
        return MeanSd(float("nan"), float("nan"))
    rng = generator("shuffled labels", seed)
    expected = _expected(_contingency(truth, clusters))  # shuffling does not change the margins
    found = [_ami(_contingency(rng.permutation(truth), clusters), expected) for _ in range(draws)]
    return MeanSd(float(np.mean(found)), float(np.std(found, ddof=1)))


def ami_interval(
    labels: Labels, assignment: Int[np.ndarray, "n"], seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> Interval:
    """Return the bootstrap interval of the AMI over cells, with the clusters fixed; NaN with fewer than two classes.

    Bootstrap draws score higher than the original cells, because a cell that is drawn twice agrees with itself; with
    many classes this bias is larger than the width of the interval. So the percentiles are shifted back by the bias.
    The interval treats cells as independent. Cells of one well are not, so the interval for new wells is wider.
    """
    return _interval(*_labelled(labels, assignment), seed, draws, level)


def _interval(
    truth: Int[np.ndarray, "m"], clusters: Int[np.ndarray, "m"], seed: int, draws: int, level: float
) -> Interval:
    if not _two_classes(truth):
        return Interval(float("nan"), float("nan"))
    table = _contingency(truth, clusters)
    expected = _expected(table)  # the value of each draw would move the ends by less than 0.002, from 60 cells on
    # drawing n cells with replacement is one multinomial draw over the entries of the table
    drawn = generator("bootstrap", seed).multinomial(len(truth), table.ravel() / table.sum(), size=draws)
    found = np.array([_ami(each, expected) for each in drawn.reshape(draws, *table.shape)])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2]) - (found.mean() - _ami(table, expected))
    return Interval(float(low), float(high))


def ami_difference_interval(
    labels: Labels,
    assignment: Int[np.ndarray, "n"],
    other: Int[np.ndarray, "n"],
    groups: Labels,
    seed: int = 0,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Interval:
    """Return the interval of the AMI of `assignment` less that of `other`: a paired bootstrap over groups of cells.

    Both clusterings stay fixed, and every draw has the same cells for both. Where every group has one class, as wells
    have, a group is replaced by one of its class. The percentiles are shifted back by the bias, as in `ami_interval`.
    NaN with fewer than two classes, or where groups of one class are a single one.
    """
    truth, clusters = _labelled(labels, assignment)
    others = _labelled(labels, other)[1]
    group = np.unique(codes(groups)[1][codes(labels)[1] >= 0], return_inverse=True)[1].ravel()
    stratum = class_strata(counts_of_groups(group, truth, int(truth.max(initial=0)) + 1))
    if not _two_classes(truth) or stratum is None:
        return Interval(float("nan"), float("nan"))
    tables = [_contingency(truth, one) for one in (clusters, others)]
    kinds = [truth * table.shape[1] + one for table, one in zip(tables, (clusters, others), strict=True)]
    counts = [counts_of_groups(group, kind, table.size) for kind, table in zip(kinds, tables, strict=True)]
    drawn = np.split(drawn_sums(np.hstack(counts), stratum, draws, seed), [tables[0].size], axis=1)
    expected = [_expected(table) for table in tables]
    of_tables = [
        np.array([_ami(one.reshape(table.shape), mean) for one in sums])
        for table, mean, sums in zip(tables, expected, drawn, strict=True)
    ]
    difference = of_tables[0] - of_tables[1]
    known = _ami(tables[0], expected[0]) - _ami(tables[1], expected[1])
    low, high = np.quantile(difference, [(1 - level) / 2, (1 + level) / 2]) - (difference.mean() - known)
    return Interval(float(low), float(high))


def _labelled(labels: Labels, assignment: Int[np.ndarray, "n"]) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "m"]]:
    _, truth = codes(labels)
    assert len(truth) == len(assignment), f"{len(truth)} labels for {len(assignment)} cells"
    has_label = truth >= 0
    _, clusters = np.unique(assignment[has_label], return_inverse=True)  # numbered without gaps
    return truth[has_label], clusters


def _two_classes(truth: Int[np.ndarray, "n"]) -> bool:
    return len(np.unique(truth)) >= 2


def _contingency(truth: Int[np.ndarray, "n"], clusters: Int[np.ndarray, "n"]) -> Int[np.ndarray, "r c"]:
    """Return the number of cells per class (rows) and cluster (columns)."""
    columns = int(clusters.max()) + 1
    rows = int(truth.max()) + 1
    return np.bincount(truth * columns + clusters, minlength=rows * columns).reshape(rows, columns)


def _ami(table: Int[np.ndarray, "r c"], expected: float) -> float:
    """Return the adjusted mutual information, arithmetic mean (Vinh, Epps and Bailey 2010); equal to scikit-learn's."""
    shares = table / table.sum()
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    average = (_entropy(rows) + _entropy(columns)) / 2
    found = _entropy(rows) + _entropy(columns) - _entropy(shares.ravel())
    room = average - expected
    return (found - expected) / room if abs(room) > np.finfo(float).eps else 0.0


def _entropy(shares: Float[np.ndarray, "_"]) -> float:
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum())


def _expected(table: Int[np.ndarray, "r c"]) -> float:
    """Return the mean mutual information of random tables with these margins."""
    return float(expected_mutual_information(table, int(table.sum())))
