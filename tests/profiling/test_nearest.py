"""The nearest treatments are those of a naive search among other compounds."""

import numpy as np
import pandas as pd
from scipy.spatial.distance import cosine

from cellssl.profiling.nearest import nearest_treatments
from cellssl.randomness import generator

TREATMENTS = pd.DataFrame({"compound": [f"drug {row // 2}" for row in range(20)]})


def test_neighbours_are_the_most_similar_treatments_of_other_compounds() -> None:
    x = generator("neighbours").normal(size=(20, 6))
    found = nearest_treatments(TREATMENTS, x)
    for row in range(20):
        others = [other for other in range(20) if other // 2 != row // 2]
        expected = sorted(others, key=lambda other: cosine(x[row], x[other]))[:5]
        here = found[found["row"] == row]
        assert here["neighbour"].tolist() == expected
        assert here["rank"].tolist() == [1, 2, 3, 4, 5]
        np.testing.assert_allclose(here["similarity"], [1 - cosine(x[row], x[other]) for other in expected])


def test_without_other_compounds_there_are_none() -> None:
    assert nearest_treatments(pd.DataFrame({"compound": ["a", "a", "a"]}), np.ones((3, 2))).empty


def test_a_profile_of_zeros_is_nothing_to_be_near_to() -> None:
    x = np.array([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0], [np.nan, 1.0]])
    found = nearest_treatments(pd.DataFrame({"compound": ["a", "b", "c", "d"]}), x)
    assert found[["row", "neighbour"]].to_numpy().tolist() == [[0, 2], [2, 0]]
