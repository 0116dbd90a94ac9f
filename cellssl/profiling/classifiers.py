"""classifiers: embeddings of labelled training cells and of test cells -> a predicted label for each test cell."""

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

PROBE_MAX_ITER = 2000

Classifier = Callable[[np.ndarray, Labels, np.ndarray], list[str]]
"""Embeddings and labels of training cells, embeddings of test cells -> a predicted label for each test cell."""


def knn(train_x: Float[np.ndarray, "n d"], train_y: Labels, x: Float[np.ndarray, "m d"], *, k: int = 20) -> list[str]:
    """Predict by a vote of the `k` nearest labelled training cells (Euclidean distance).

    A tie goes to the class whose neighbours rank nearer. Raises UsageError where fewer than `k` training cells have a
    label.
    """
    known_x, classes, truth = _labelled(train_x, train_y)
    check_embeddings(x)
    if k > len(known_x):
        raise UsageError(
            f"evaluate.neighbours is {k}, but only {len(known_x)} training cells have a label",
            hint="lower evaluate.neighbours, or add labelled training cells",
        )
    _, rows = NearestNeighbors(n_neighbors=k).fit(known_x).kneighbors(x)
    return [classes[winner] for winner in _vote(truth[rows], len(classes))]


def linear_probe(
    train_x: Float[np.ndarray, "n d"],
    train_y: Labels,
    x: Float[np.ndarray, "m d"],
    *,
    C: float = 1.0,  # noqa: N803 - scikit-learn's name
) -> list[str]:
    """Predict by logistic regression on features standardised by the training cells; `C` is scikit-learn's C.

    Raises UsageError where all labelled training cells belong to one class.
    """
    known_x, classes, truth = _labelled(train_x, train_y)
    check_embeddings(x)
    if len(classes) < 2:
        raise UsageError(
            f"all labelled training cells are {classes[0]!r}",
            hint="a linear probe needs training cells of at least two classes",
        )
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=PROBE_MAX_ITER))
    # one thread: for thousands of small solves, starting and joining threads takes longer than the work itself
    with threadpool_limits(limits=1):
        return [classes[predicted] for predicted in probe.fit(known_x, truth).predict(x)]


def _labelled(
    x: Float[np.ndarray, "n d"], y: Labels
) -> tuple[Float[np.ndarray, "m d"], list[str], Int[np.ndarray, "m"]]:
    """Return the cells that have a label, the names of the classes, and the class number of each of these cells."""
    classes, numbers = codes(y)
    if not classes:
        raise UsageError("no training cell has a label", hint="name the label column in evaluate.label")
    check_embeddings(x)
    return x[numbers >= 0], classes, numbers[numbers >= 0]


def _vote(votes: Int[np.ndarray, "m k"], classes: int) -> Int[np.ndarray, "m"]:
    """Return the class with the most votes; the rank weights add up to less than one vote, so they decide ties only."""
    k = votes.shape[1]
    weights = 1 + np.arange(k, 0, -1) / (k * (k + 1))
    ballots = np.stack([((votes == each) * weights).sum(axis=1) for each in range(classes)], axis=1)
    return np.asarray(ballots.argmax(axis=1))
