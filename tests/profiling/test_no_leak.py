"""Controls and treated cells of one distribution stay alike: no classifier tells them apart after any chain."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cellssl.profiling.chain import fit_chain
from cellssl.profiling.frames import Frames, cross_fitted, whole_plates
from cellssl.profiling.normaliser import chain
from cellssl.randomness import generator

DIM = 256
"""Many more features than the 20 controls of a plate."""
POOLED = ("center_plate", "scale_pooled", "l2")
PROFILES = ("percentile", {"name": "sphering", "method": "PCA", "variance": 0.9})
CHAINS: list[tuple[Any, ...]] = [
    POOLED,
    ("center_plate", "pca"),
    ("robust_z",),
    PROFILES,
    ("center_plate", "sphering"),
    ("tvn",),
    ("zscore", "l2"),
    ("zscore", "l2", "center_plate"),
    ("l2", "center_plate"),
]
CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "kNN": lambda: KNeighborsClassifier(5),
    "linear": lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)),
}
PLATES = np.repeat(["P1", "P2", "P3", "P4"], 40)
WELLS = np.tile(np.repeat([f"{kind}{well}" for kind in "ct" for well in range(5)], 4), 4)
CONTROL = np.char.startswith(WELLS, "c")
TESTS = {
    "plates": [plate == PLATES for plate in np.unique(PLATES)],
    "wells": [np.isin(WELLS, [f"c{well}", f"t{well}"]) for well in range(5)],
}
"""Test cells of every fold: a plate that is new, or a control well and a treated one of every plate."""


def null_data(draw: int) -> np.ndarray:
    """Four plates, each with an offset; controls and treated cells do not differ."""
    rng = generator("null data", draw)
    return rng.normal(size=(160, DIM)) + 2 * rng.normal(size=(4, DIM)).repeat(40, axis=0) + 3


def in_one_frame(test: np.ndarray) -> tuple[Frames, np.ndarray]:
    """What a leak looks like: all controls fit, also those of test."""
    return whole_plates(PLATES, CONTROL), np.ones(160, bool)


def in_frames(test: np.ndarray) -> tuple[Frames, np.ndarray]:
    return cross_fitted(PLATES, WELLS, CONTROL, held_out=test), ~test


def correct(
    links: tuple[Any, ...], frames_of: Callable[[np.ndarray], tuple[Frames, np.ndarray]], split: str, draws: int
) -> dict[str, np.ndarray]:
    """Whether each classifier said rightly of every test cell that it is a control, or that it is none."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in CLASSIFIERS}
    for draw in range(draws):
        x = null_data(draw)
        for test in TESTS[split]:
            frames, reference = frames_of(test)
            normal = fit_chain(chain(*links), x, reference, PLATES, CONTROL, frames)[1]
            for name, make in CLASSIFIERS.items():
                predicted = make().fit(normal[~test], CONTROL[~test]).predict(normal[test])
                found[name].append(predicted == CONTROL[test])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def deviation(hits: np.ndarray) -> float:
    """How many standard deviations of a binomial distribution the accuracy lies above chance, which is 1/2."""
    return float((hits.mean() - 0.5) / (0.5 / len(hits) ** 0.5))


@pytest.mark.parametrize("split", TESTS)
@pytest.mark.parametrize("links", CHAINS, ids=str)
def test_accuracy_is_chance_where_controls_and_treated_cells_do_not_differ(links: tuple[Any, ...], split: str) -> None:
    for name, hits in correct(links, in_frames, split, draws=8).items():
        assert abs(deviation(hits)) < 3.5, f"{name}: {hits.mean():.3f} of {len(hits)}"


@pytest.mark.parametrize(
    ("links", "split", "classifier"),
    [
        (POOLED, "wells", "kNN"),
        (("center_plate", "pca"), "plates", "linear"),
        (("center_plate", "sphering"), "wells", "linear"),
        (("tvn",), "wells", "linear"),
    ],
    ids=str,
)
def test_accuracy_is_more_than_chance_where_controls_of_test_fit(
    links: tuple[Any, ...], split: str, classifier: str
) -> None:
    hits = correct(links, in_one_frame, split, draws=8)[classifier]
    assert deviation(hits) > 3.5, f"{hits.mean():.3f}: the test above could not fail"


UNEVEN = np.repeat(["c0", "c1", "c2", "c3", "t0", "t1"], [16, 2, 1, 1, 10, 10])
"""Wells of a plate whose controls are nearly all in one well."""


def mean_lengths(make: Callable[[np.ndarray], Frames], draws: int = 300) -> np.ndarray:
    """The mean squared length of controls less that of treated cells after center_plate, in units of its error."""
    control = np.char.startswith(UNEVEN, "c")
    found = []
    for draw in range(draws):
        x = generator("uneven wells", draw).normal(size=(40, 64))
        normal = fit_chain(chain("center_plate"), x, np.ones(40, bool), ["P"] * 40, control, make(control))[1]
        squared = np.square(normal).sum(axis=1)
        found.append(squared[control].mean() - squared[~control].mean())
    return np.mean(found) / (np.std(found) / draws**0.5)


def test_lengths_are_alike_where_control_wells_have_very_different_numbers_of_cells() -> None:
    plates = ["P"] * 40
    assert abs(mean_lengths(lambda control: cross_fitted(plates, UNEVEN, control))) < 4
    assert mean_lengths(lambda control: whole_plates(plates, control)) < -10, "controls are nearer to their own mean"
