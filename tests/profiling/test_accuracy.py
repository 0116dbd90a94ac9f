"""Accuracies equal scikit-learn's, and bootstrap intervals over wells cover the truth as often as they should."""

import numpy as np
import pytest
from sklearn import metrics

from cellssl.errors import UsageError
from cellssl.profiling.accuracy import accuracy, intervals
from cellssl.randomness import generator


def predictions(wells: int = 40, cells: int = 25, spread: float = 0.2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, predictions and wells; the accuracy of a well differs between wells by `spread`."""
    rng = generator("told", wells, cells)
    of_well = np.repeat(np.arange(wells), cells)
    label = np.where(of_well % 2 == 0, "DMSO", "taxol")
    sure = (0.7 + spread * rng.choice([-1, 1], wells))[of_well]
    other = np.where(label == "DMSO", "taxol", "DMSO")
    return label, np.where(rng.random(len(label)) < sure, label, other), of_well.astype(str)


def test_accuracies_equal_scikit_learns() -> None:
    label, predicted, _ = predictions()
    found = accuracy(label, predicted)
    assert found.plain == pytest.approx(metrics.accuracy_score(label, predicted))
    assert found.balanced == pytest.approx(metrics.balanced_accuracy_score(label, predicted))
    assert np.array_equal(found.confusion, metrics.confusion_matrix(label, predicted))


def test_an_interval_over_wells_equals_one_by_a_loop_over_drawn_wells() -> None:
    label, predicted, well = predictions()
    rng, correct = generator("loop"), label == predicted
    rows = {name: np.flatnonzero(well == name) for name in np.unique(well)}
    of = {kind: [one for one in rows if label[rows[one][0]] == kind] for kind in ("DMSO", "taxol")}
    naive = []
    for _ in range(2000):
        recalls = [correct[np.concatenate([rows[w] for w in rng.choice(one, len(one))])].mean() for one in of.values()]
        naive.append(np.mean(recalls))
    found = intervals(label, predicted, well, draws=4000).balanced
    assert found == pytest.approx(np.quantile(naive, [0.025, 0.975]), abs=0.008)


def test_an_interval_over_cells_is_that_of_the_binomial() -> None:
    label, predicted = np.repeat(["DMSO"], 400), np.repeat(["DMSO", "taxol"], [300, 100])
    found = intervals(label, predicted, [None] * 400, draws=20_000).plain
    reach = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert found == pytest.approx([0.75 - reach, 0.75 + reach], abs=0.003)


def test_wells_that_differ_make_the_interval_wider_than_cells_would() -> None:
    label, predicted, well = predictions()
    by_well, by_cell = (intervals(label, predicted, groups).balanced for groups in (well, [None] * len(label)))
    assert by_well.high - by_well.low > 2 * (by_cell.high - by_cell.low)


def test_an_interval_over_wells_covers_the_truth_about_nineteen_times_in_twenty() -> None:
    covered = 0
    for plate in range(200):
        rng = generator("plate", plate)
        label = np.repeat(["a", "b"], 20 * 10)
        of_well = np.repeat(np.arange(40), 10)
        correct = rng.random(400) < (0.6 + 0.3 * rng.random(40))[of_well]
        low, high = intervals(label, np.where(correct, label, "c"), of_well, draws=300).balanced
        covered += low <= 0.75 <= high
    assert 0.88 * 200 <= covered <= 0.99 * 200


def test_a_class_with_only_one_well_has_no_interval() -> None:
    label, well = ["a", "a", "b", "b", "b"], ["1", "1", "2", "3", "3"]
    found = intervals(label, ["a", "b", "b", "a", "b"], well)
    assert found.balanced is None and found.plain is None
    assert found.per_class["a"] is None and found.per_class["b"] is not None


def test_cells_without_a_label_count_nowhere() -> None:
    label, predicted, well = predictions()
    gaps = np.where(generator("gaps").random(len(label)) < 0.3, None, label)
    known = gaps != None  # noqa: E711
    assert accuracy(gaps, predicted).balanced == accuracy(label[known], predicted[known]).balanced
    assert intervals(gaps, predicted, well) == intervals(label[known], predicted[known], well[known])


def test_cells_without_any_label_are_an_error() -> None:
    with pytest.raises(UsageError, match="no test cell has a label"):
        accuracy([None, None], ["a", "b"])
