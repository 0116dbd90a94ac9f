"""Predictions equal those of scikit-learn; ties, missing labels and classes without training cells are handled."""

import numpy as np
import pytest
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from cellssl.errors import UsageError
from cellssl.profiling.accuracy import Accuracy, accuracy
from cellssl.profiling.blocks import Block
from cellssl.profiling.classifiers import knn, linear_probe
from cellssl.randomness import generator


def plate(name: str, sizes: tuple[int, ...] = (90, 40, 20)) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings and labels of overlapping classes of unequal size."""
    truth = np.repeat(range(len(sizes)), sizes)
    centres = 1.5 * np.eye(len(sizes), 5)
    names = np.array(["DMSO", "taxol", "nocodazole"], dtype=object)
    return centres[truth] + generator(name).normal(size=(len(truth), 5)), names[truth]


def accuracy_of(classifier, train_x, train_y, test_x, test_y, **settings) -> Accuracy:
    """Return how often a classifier predicts the test cells correctly."""
    return accuracy(test_y, classifier(train_x, train_y, test_x, **settings))


def test_knn_equals_scikit_learn_where_votes_cannot_tie() -> None:
    (train_x, train_y), (test_x, test_y) = plate("train"), plate("test")
    binary_train, binary_test = train_y == "DMSO", test_y == "DMSO"
    predicted = KNeighborsClassifier(15).fit(train_x, binary_train).predict(test_x)
    found = accuracy_of(knn, train_x, binary_train, test_x, binary_test, k=15)
    assert found.plain == pytest.approx(metrics.accuracy_score(binary_test, predicted))
    assert found.balanced == pytest.approx(metrics.balanced_accuracy_score(binary_test, predicted))
    assert np.array_equal(found.confusion, metrics.confusion_matrix(binary_test, predicted))


def test_a_tie_goes_to_the_nearer_neighbours() -> None:
    train_x, train_y = np.array([[0.0], [1.0], [2.0], [10.0]]), ["far", "near", "near", "far"]
    found = accuracy_of(knn, train_x, train_y, np.array([[1.4]]), ["near"], k=4)
    assert found.plain == 1.0
    assert accuracy_of(knn, train_x, train_y, np.array([[-1.0]]), ["far"], k=2).plain == 1.0


def test_two_near_votes_do_not_outweigh_three_far_ones() -> None:
    train_x, train_y = np.array([[0.0], [0.1], [5.0], [6.0], [7.0]]), ["near", "near", "far", "far", "far"]
    assert accuracy_of(knn, train_x, train_y, np.array([[0.0]]), ["far"], k=5).plain == 1.0


def test_per_class_accuracy_is_the_recall() -> None:
    (train_x, train_y), (test_x, test_y) = plate("train"), plate("test")
    found = accuracy_of(knn, train_x, train_y, test_x, test_y, k=5)
    assert found.classes == ("DMSO", "nocodazole", "taxol")
    assert found.confusion.sum(axis=1).tolist() == [90, 20, 40]
    recalls = found.confusion.diagonal() / found.confusion.sum(axis=1)
    assert found.per_class == pytest.approx(dict(zip(found.classes, recalls, strict=True)))
    assert found.balanced == pytest.approx(recalls.mean())


def test_the_order_of_the_training_cells_does_not_matter() -> None:
    (train_x, train_y), (test_x, test_y) = plate("train"), plate("test")
    order = generator("order").permutation(len(train_x))
    one = accuracy_of(knn, train_x, train_y, test_x, test_y)
    two = accuracy_of(knn, train_x[order], train_y[order], test_x, test_y)
    assert np.array_equal(one.confusion, two.confusion)


def test_a_model_trained_on_shuffled_labels_predicts_at_chance_level() -> None:
    (train_x, train_y), (test_x, test_y) = plate("train", (200, 200)), plate("test", (200, 200))
    shuffled = generator("shuffled").permutation(train_y)
    assert accuracy_of(knn, train_x, shuffled, test_x, test_y).balanced == pytest.approx(0.5, abs=0.1)


def test_the_probe_equals_logistic_regression_on_standardised_features() -> None:
    (train_x, train_y), (test_x, test_y) = plate("train"), plate("test")
    train_x, test_x = train_x * [1, 100, 1, 1, 1] + 7, test_x * [1, 100, 1, 1, 1] + 7
    centre, scale = train_x.mean(axis=0), train_x.std(axis=0)
    reference = LogisticRegression(max_iter=1000).fit((train_x - centre) / scale, train_y)
    predicted = reference.predict((test_x - centre) / scale)
    found = accuracy_of(linear_probe, train_x, train_y, test_x, test_y)
    assert found.plain == pytest.approx(metrics.accuracy_score(test_y, predicted))
    assert found.balanced == pytest.approx(metrics.balanced_accuracy_score(test_y, predicted))


@pytest.mark.parametrize("classifier", [knn, linear_probe])
def test_cells_without_a_label_do_not_count(classifier) -> None:
    (train_x, train_y), (test_x, test_y) = plate("train"), plate("test")
    train_known, test_known = generator("gaps").random((2, 150)) < 0.8
    with_gaps = [np.where(known, y, None) for known, y in ((train_known, train_y), (test_known, test_y))]
    gaps = accuracy_of(classifier, train_x, with_gaps[0], test_x, with_gaps[1])
    kept = accuracy_of(classifier, train_x[train_known], train_y[train_known], test_x[test_known], test_y[test_known])
    assert np.array_equal(gaps.confusion, kept.confusion)


def test_a_class_without_training_cells_has_recall_zero() -> None:
    train_x, test_x = np.array([[0.0], [1.0], [9.0]]), np.array([[0.0], [9.0], [20.0]])
    found = accuracy_of(knn, train_x, ["a", "a", "b"], test_x, ["a", "b", "new"], k=1)
    assert found.per_class == {"a": 1.0, "b": 1.0, "new": 0.0}


def test_too_few_labelled_cells_or_classes_are_an_error() -> None:
    x, y = plate("train", (3, 3))
    with pytest.raises(UsageError, match=r"evaluate\.neighbours is 20, but only 6 training cells have a label"):
        knn(x, y, x)
    with pytest.raises(UsageError, match="no training cell has a label"):
        knn(x, [None] * 6, x, k=1)
    with pytest.raises(UsageError, match="all labelled training cells are 'DMSO'"):
        linear_probe(x, ["DMSO"] * 6, x)


def test_a_block_counts_by_its_weight_and_not_by_its_number_of_columns() -> None:
    (train_x, train_y), (test_x, _) = plate("train"), plate("test")

    def predicted(copies: int) -> list[str]:
        (known, new) = (np.hstack([x[:, :2], np.tile(x[:, 2:], copies)]) for x in (train_x, test_x))
        blocks = (Block("narrow", 2), Block("wide", 3 * copies))
        return linear_probe(known, train_y, new, C=5 / known.shape[1], blocks=blocks)  # as strict for all widths

    same = np.array(predicted(copies=1)) == np.array(predicted(copies=7))
    assert same.mean() > 0.98  # the solver stops a little earlier or later


def test_constant_columns_take_nothing_from_the_share_of_a_block() -> None:
    (train_x, train_y), (test_x, _) = plate("train"), plate("test")
    dead = [np.hstack([x[:, :2], np.full((len(x), 90), 0.1), x[:, 2:]]) for x in (train_x, test_x)]
    alive = linear_probe(train_x, train_y, test_x, blocks=(Block("wide", 2), Block("other", 3)))
    assert linear_probe(dead[0], train_y, dead[1], blocks=(Block("wide", 92), Block("other", 3))) == alive
    alone = (Block("wide", 2), Block("dead", 90), Block("other", 3))
    assert linear_probe(dead[0], train_y, dead[1], blocks=alone) == alive


def test_a_vector_that_is_one_block_is_predicted_as_one_without_blocks() -> None:
    (train_x, train_y), (test_x, _) = plate("train"), plate("test")
    in_a_block = linear_probe(train_x, train_y, test_x, blocks=(Block("all", 5, weight=3.0),))
    assert in_a_block == linear_probe(train_x, train_y, test_x)
