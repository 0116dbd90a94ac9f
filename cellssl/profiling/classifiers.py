"""classifiers: embeddings of labelled training cells and of test cells -> a predicted label for each test cell."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from cellssl.errors import UsageError
from cellssl.profiling.blocks import Blocks
from cellssl.profiling.finite import check_embeddings
from cellssl.profiling.labels import Labels, codes
from cellssl.profiling.one_thread import one_thread

PROBE_MAX_ITER = 2000

Classifier = Callable[[np.ndarray, Sequence[Labels], np.ndarray], list[list[str]]]
"""Embeddings of training cells, several labellings of them, embeddings of test cells -> for each labelling a predicted
label for each test cell."""


def knn(train_x: Float[np.ndarray, "n d"], train_y: Labels, x: Float[np.ndarray, "m d"], *, k: int = 20) -> list[str]:
    """Predict by a vote of the `k` nearest labelled training cells (Euclidean distance).

    A tie goes to the class whose neighbours rank nearer. Raises UsageError where fewer than `k` training cells have a
    label.
    """
    return knn_of_each(train_x, [train_y], x, k=k)[0]


def knn_of_each(
    train_x: Float[np.ndarray, "n d"], labellings: Sequence[Labels], x: Float[np.ndarray, "m d"], *, k: int = 20
) -> list[list[str]]:
    """Predict as `knn` for several labellings of the same cells; their neighbours are found once."""
    check_embeddings(x)
    predicted = []
    for known_x, those in _labelled(train_x, labellings):
        if k > len(known_x):
            raise UsageError(
                f"evaluate.neighbours is {k}, but only {len(known_x)} training cells have a label",
                hint="lower evaluate.neighbours, or add labelled training cells",
            )
        _, rows = NearestNeighbors(n_neighbors=k).fit(known_x).kneighbors(x)
        for classes, truth in those:
            predicted.append([classes[winner] for winner in _vote(truth[rows], len(classes))])
    return predicted


def linear_probe(
    train_x: Float[np.ndarray, "n d"],
    train_y: Labels,
    x: Float[np.ndarray, "m d"],
    *,
    C: float = 1.0,  # noqa: N803 - scikit-learn's name
    blocks: Blocks = (),
) -> list[str]:
    """Predict by logistic regression on features standardised by the training cells; `C` is scikit-learn's C.

    Every one of the `blocks` of joined vectors then has its share of the variance, and not a share by its number of
    columns. Raises UsageError where all labelled training cells belong to one class.
    """
    return linear_probe_of_each(train_x, [train_y], x, C=C, blocks=blocks)[0]


def linear_probe_of_each(
    train_x: Float[np.ndarray, "n d"],
    labellings: Sequence[Labels],
    x: Float[np.ndarray, "m d"],
    *,
    C: float = 1.0,  # noqa: N803 - scikit-learn's name
    blocks: Blocks = (),
) -> list[list[str]]:
    """Predict as `linear_probe` for several labellings of the same cells, which are standardised once."""
    check_embeddings(x)
    predicted = []
    # one thread: for thousands of small solves, starting and joining threads takes longer than the work itself
    with one_thread():
        for known_x, those in _labelled(train_x, labellings):
            scaler = StandardScaler()
            standard, standard_test = scaler.fit_transform(known_x), scaler.transform(x)
            if blocks:
                scale = _scale_of_blocks(blocks, standard)
                standard, standard_test = standard * scale, standard_test * scale
            for classes, truth in those:
                if len(classes) < 2:
                    raise UsageError(
                        f"all labelled training cells are {classes[0]!r}",
                        hint="a linear probe needs training cells of at least two classes",
                    )
                probe = LogisticRegression(C=C, max_iter=PROBE_MAX_ITER).fit(standard, truth)
                predicted.append([classes[number] for number in probe.predict(standard_test)])
    return predicted


def _scale_of_blocks(blocks: Blocks, standard: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d"]:
    """Return what standardised columns are multiplied by, so that each block has its share of their variance.

    Columns that are constant in the training cells have no variance, and a block of them alone no share. The variance
    of all columns together stays their number without these, so that the regularisation means the same.
    """
    dims = np.array([block.dim for block in blocks])
    varies = standard.var(axis=0) > 0.5  # standardised, it is 1 or nearly 0
    varying = np.array([part.sum() for part in np.split(varies, np.cumsum(dims)[:-1])])
    weights = np.array([block.weight for block in blocks]) * (varying > 0)
    if not varying.any():
        return np.ones(dims.sum())
    return np.repeat(np.sqrt(weights / weights.sum() * varying.sum() / np.maximum(varying, 1)), dims)


Labelling = tuple[list[str], Int[np.ndarray, "m"]]
"""The names of the classes, and the class number of each cell that has a label."""


def _labelled(
    x: Float[np.ndarray, "n d"], labellings: Sequence[Labels]
) -> Iterator[tuple[Float[np.ndarray, "m d"], list[Labelling]]]:
    """Yield the cells that have a label, with their labels; successive labellings of the same cells come together."""
    check_embeddings(x)
    for _, together in groupby(map(codes, labellings), lambda found: (found[1] >= 0).tobytes()):
        those = list(together)
        if not those[0][0]:
            raise UsageError("no training cell has a label", hint="name the label column in evaluate.label")
        rows = those[0][1] >= 0
        yield x[rows], [(classes, numbers[rows]) for classes, numbers in those]


def _vote(votes: Int[np.ndarray, "m k"], classes: int) -> Int[np.ndarray, "m"]:
    """Return the class with the most votes; the rank weights add up to less than one vote, so they decide ties only."""
    k = votes.shape[1]
    weights = 1 + np.arange(k, 0, -1) / (k * (k + 1))
    ballots = np.stack([((votes == each) * weights).sum(axis=1) for each in range(classes)], axis=1)
    return np.asarray(ballots.argmax(axis=1))
