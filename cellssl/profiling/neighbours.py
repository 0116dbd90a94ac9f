"""neighbours: embeddings of labelled cells, train and test -> how often the label of a test cell can be told."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cellssl.errors import DataError
from cellssl.profiling.labels import Labels, codes, known
from cellssl.profiling.normalise import check_embeddings

PROBE_ROUNDS = 2000


@dataclass(frozen=True)
class Accuracy:
    """How often the label was told; cells without a label do not count."""

    plain: float
    """Share of test cells told rightly."""
    balanced: float
    """The mean over the classes in the test set, so that a rare one counts as much as a frequent one."""
    per_class: dict[str, float]
    """Share told rightly, of each class in the test set."""
    classes: tuple[str, ...]
    """Names along both axes of `confusion`."""
    confusion: Int[np.ndarray, "c c"]
    """Test cells by their label (rows) and the label told (columns)."""


def knn_accuracy(
    train_x: Float[np.ndarray, "n d"], train_y: Labels, test_x: Float[np.ndarray, "m d"], test_y: Labels, k: int = 20
) -> Accuracy:
    """Vote of the `k` nearest training cells (Euclidean); a tie goes to the class whose neighbours rank nearer."""
    known_x, classes, truth, asked_x, asked = _joined(train_x, train_y, test_x, test_y)
    if k > len(known_x):
        raise DataError(
            f"{k} neighbours were asked of {len(known_x)} labelled training cells",
            hint="lower k, or give more labelled cells",
        )
    _, rows = NearestNeighbors(n_neighbors=k).fit(known_x).kneighbors(asked_x)
    return _accuracy(classes, asked, _vote(truth[rows], len(classes)))


def linear_probe(
    train_x: Float[np.ndarray, "n d"],
    train_y: Labels,
    test_x: Float[np.ndarray, "m d"],
    test_y: Labels,
    strength: float = 1.0,
) -> Accuracy:
    """Logistic regression on features standardised by the training cells; `strength` is scikit-learn's C."""
    known_x, classes, truth, asked_x, asked = _joined(train_x, train_y, test_x, test_y)
    if len(np.unique(truth)) < 2:
        raise DataError(
            f"all labelled training cells are {classes[truth[0]]!r}", hint="a probe needs two classes to tell apart"
        )
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=PROBE_ROUNDS))
    return _accuracy(classes, asked, probe.fit(known_x, truth).predict(asked_x))


def _joined(
    train_x: Float[np.ndarray, "n d"], train_y: Labels, test_x: Float[np.ndarray, "m d"], test_y: Labels
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
    """Labelled cells only, with one numbering of the classes for both."""
    train_y, test_y = list(train_y), list(test_y)
    of_train, of_test = known(train_y), known(test_y)
    if not of_train.any() or not of_test.any():
        empty = "training" if not of_train.any() else "test"
        raise DataError(f"no {empty} cell has a label", hint="name the label column in the recipe's [split]")
    check_embeddings(train_x)
    check_embeddings(test_x)
    names, both = codes([*train_y, *test_y])
    truth, asked = both[: len(train_y)][of_train], both[len(train_y) :][of_test]
    return train_x[of_train], tuple(names), truth, test_x[of_test], asked


def _vote(votes: Int[np.ndarray, "m k"], classes: int) -> Int[np.ndarray, "m"]:
    """The class with most votes; the ranks add up to less than one vote, so they decide ties only."""
    k = votes.shape[1]
    weights = 1 + np.arange(k, 0, -1) / (k * (k + 1))
    ballots = np.stack([((votes == each) * weights).sum(axis=1) for each in range(classes)], axis=1)
    return np.asarray(ballots.argmax(axis=1))


def _accuracy(classes: tuple[str, ...], asked: Int[np.ndarray, "m"], told: Int[np.ndarray, "m"]) -> Accuracy:
    count = len(classes)
    confusion = np.bincount(asked * count + told, minlength=count * count).reshape(count, count)
    there = confusion.sum(axis=1) > 0
    recall = confusion.diagonal()[there] / confusion.sum(axis=1)[there]
    names = [name for name, some in zip(classes, there, strict=True) if some]
    return Accuracy(
        plain=float((asked == told).mean()),
        balanced=float(recall.mean()),
        per_class={name: float(share) for name, share in zip(names, recall, strict=True)},
        classes=classes,
        confusion=confusion,
    )
