"""classifiers: embeddings of labelled cells, and of others -> the label that a simple classifier tells of each other."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from cellssl.errors import UsageError
from cellssl.profiling.labels import Labels, codes
from cellssl.profiling.normalise import check_embeddings

PROBE_ROUNDS = 2000

Classifier = Callable[[np.ndarray, Labels, np.ndarray], list[str]]
"""Embeddings and labels to learn from, embeddings to tell -> a label for each of those."""


def knn(train_x: Float[np.ndarray, "n d"], train_y: Labels, x: Float[np.ndarray, "m d"], *, k: int = 20) -> list[str]:
    """Vote of the `k` nearest labelled cells (Euclidean); a tie goes to the class whose neighbours rank nearer.

    Raises UsageError where fewer than `k` cells have a label.
    """
    known_x, classes, truth = _labelled(train_x, train_y)
    check_embeddings(x)
    if k > len(known_x):
        raise UsageError(
            f"{k} neighbours were asked of {len(known_x)} labelled training cells",
            hint="lower evaluate.neighbours, or give more labelled cells",
        )
    _, rows = NearestNeighbors(n_neighbors=k).fit(known_x).kneighbors(x)
    return [classes[told] for told in _vote(truth[rows], len(classes))]


def linear_probe(
    train_x: Float[np.ndarray, "n d"],
    train_y: Labels,
    x: Float[np.ndarray, "m d"],
    *,
    C: float = 1.0,  # noqa: N803 - scikit-learn's name
) -> list[str]:
    """Logistic regression on features standardised by the training cells; `C` is scikit-learn's C.

    Raises UsageError where the labelled cells are of one class only.
    """
    known_x, classes, truth = _labelled(train_x, train_y)
    check_embeddings(x)
    if len(classes) < 2:
        raise UsageError(
            f"all labelled training cells are {classes[0]!r}", hint="a probe needs two classes to tell apart"
        )
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=PROBE_ROUNDS))
    # thousands of small solves: threads that numpy and scipy start for each wait longer for each other than they work
    with threadpool_limits(limits=1):
        return [classes[told] for told in probe.fit(known_x, truth).predict(x)]


def _labelled(
    x: Float[np.ndarray, "n d"], y: Labels
) -> tuple[Float[np.ndarray, "m d"], list[str], Int[np.ndarray, "m"]]:
    """The cells that have a label, the names of the classes, and the number of each cell's."""
    classes, numbers = codes(y)
    if not classes:
        raise UsageError("no training cell has a label", hint="name the label column in evaluate.label")
    check_embeddings(x)
    return x[numbers >= 0], classes, numbers[numbers >= 0]


def _vote(votes: Int[np.ndarray, "m k"], classes: int) -> Int[np.ndarray, "m"]:
    """The class with most votes; the ranks add up to less than one vote, so they decide ties only."""
    k = votes.shape[1]
    weights = 1 + np.arange(k, 0, -1) / (k * (k + 1))
    ballots = np.stack([((votes == each) * weights).sum(axis=1) for each in range(classes)], axis=1)
    return np.asarray(ballots.argmax(axis=1))
