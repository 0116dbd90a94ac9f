"""NSC and NSCB equal a search by loops, and mechanisms without a possible neighbour are left out."""

import numpy as np
import pandas as pd
import pytest

from cellssl.errors import UsageError
from cellssl.profiling.nsc import NearestTreatment, accuracy_by_moa, not_same_compound, not_same_compound_or_batch
from cellssl.randomness import generator


def treatments(count: int = 40, dim: int = 6) -> tuple[pd.DataFrame, np.ndarray]:
    """Return four mechanisms of three compounds each, in three batches, and profiles that depend partly on them."""
    rng = generator("treatments")
    compound = rng.integers(12, size=count)
    table = pd.DataFrame(
        {
            "compound": [f"drug {number}" for number in compound],
            "moa": [f"mechanism {number % 4}" for number in compound],
            "batch": [f"week {number}" for number in rng.integers(3, size=count)],
        }
    )
    return table, np.eye(4, dim)[compound % 4] + 0.5 * rng.normal(size=(count, dim))


def by_loops(table: pd.DataFrame, x: np.ndarray, different: tuple[str, ...]) -> list[bool]:
    """Return for each treatment whether the nearest one that differs in all of `different` has the same mechanism."""
    correct = []
    for one in range(len(table)):
        best, nearest = -2.0, None
        for other in range(len(table)):
            if all(table[name][one] != table[name][other] for name in different):
                cosine = x[one] @ x[other] / np.sqrt((x[one] @ x[one]) * (x[other] @ x[other]))
                if cosine > best:
                    best, nearest = cosine, other
        correct.append(nearest is not None and table["moa"][nearest] == table["moa"][one])
    return correct


def is_correct(table: pd.DataFrame, nearest: NearestTreatment) -> list[bool]:
    moa = table["moa"].to_numpy()
    return (moa[nearest.query] == moa[nearest.neighbour]).tolist()


def test_nsc_and_nscb_equal_a_search_by_loops() -> None:
    table, x = treatments()
    assert is_correct(table, not_same_compound(table, x)) == by_loops(table, x, ("compound",))
    assert is_correct(table, not_same_compound_or_batch(table, x)) == by_loops(table, x, ("compound", "batch"))
    assert 0 < sum(by_loops(table, x, ("compound",))) < len(table)


def test_the_length_of_a_profile_does_not_matter() -> None:
    table, x = treatments()
    longer = x * generator("length").uniform(0.1, 9, (len(x), 1))
    assert not_same_compound(table, x).neighbour.tolist() == not_same_compound(table, longer).neighbour.tolist()


def test_a_mechanism_of_one_compound_or_one_batch_is_neither_query_nor_neighbour() -> None:
    table = pd.DataFrame(
        {
            "compound": ["a", "b", "c", "d", "lonely", "local", "also local"],
            "moa": ["one", "one", "two", "two", "three", "four", "four"],
            "batch": ["w1", "w2", "w1", "w2", "w3", "w3", "w3"],
        }
    )
    x = np.ones((7, 2)) + generator("lonely").normal(scale=1e-3, size=(7, 2))
    assert not_same_compound(table, x).query.tolist() == [0, 1, 2, 3, 5, 6]
    nearest = not_same_compound_or_batch(table, x)
    assert nearest.query.tolist() == [0, 1, 2, 3] and set(nearest.neighbour) <= {0, 1, 2, 3}


def test_accuracies_are_listed_by_mechanism_with_the_total_at_the_end() -> None:
    table, x = treatments()
    nearest = not_same_compound(table, x)
    table_by_moa = accuracy_by_moa(table["moa"], nearest)
    assert table_by_moa["moa"].tolist() == [f"mechanism {number}" for number in range(4)] + ["all"]
    assert table_by_moa["right"].iloc[:-1].sum() == table_by_moa["right"].iloc[-1] == sum(is_correct(table, nearest))
    assert table_by_moa["treatments"].iloc[-1] == len(table)


def test_tables_without_a_possible_neighbour_are_an_error() -> None:
    table, x = treatments()
    with pytest.raises(UsageError, match="no mechanism has treatments of two compounds"):
        not_same_compound(table.assign(moa=table["compound"]), x)
    with pytest.raises(UsageError, match="some treatments have no batch"):
        not_same_compound_or_batch(table.drop(columns="batch"), x)
    with pytest.raises(UsageError, match="in two batches"):
        not_same_compound_or_batch(table.assign(batch="w1"), x)


def test_a_profile_of_zeros_has_cosine_zero() -> None:
    table, x = treatments()
    x[3] = 0
    nearest = not_same_compound(table, x)
    assert nearest.cosine[nearest.query == 3] == 0.0
