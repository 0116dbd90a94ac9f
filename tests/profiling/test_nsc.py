import numpy as np
import pandas as pd
import pytest

from cellssl.errors import UsageError
from cellssl.profiling.nsc import NearestTreatment, accuracy_by_moa, not_same_compound, not_same_compound_or_batch
from cellssl.randomness import generator


def treatments(count: int = 40, dim: int = 6) -> tuple[pd.DataFrame, np.ndarray]:
    """Four mechanisms of three compounds each, in three batches; profiles that follow the mechanism somewhat."""
    chance = generator("treatments")
    compound = chance.integers(12, size=count)
    table = pd.DataFrame(
        {
            "compound": [f"drug {number}" for number in compound],
            "moa": [f"mechanism {number % 4}" for number in compound],
            "batch": [f"week {number}" for number in chance.integers(3, size=count)],
        }
    )
    return table, np.eye(4, dim)[compound % 4] + 0.5 * chance.normal(size=(count, dim))


def by_loops(table: pd.DataFrame, x: np.ndarray, apart: tuple[str, ...]) -> list[bool]:
    """Whether the nearest treatment that differs in all of `apart` has the mechanism, one by one."""
    right = []
    for one in range(len(table)):
        best, answer = -2.0, None
        for other in range(len(table)):
            if all(table[name][one] != table[name][other] for name in apart):
                cosine = x[one] @ x[other] / np.sqrt((x[one] @ x[one]) * (x[other] @ x[other]))
                if cosine > best:
                    best, answer = cosine, other
        right.append(answer is not None and table["moa"][answer] == table["moa"][one])
    return right


def right(table: pd.DataFrame, nearest: NearestTreatment) -> list[bool]:
    moa = table["moa"].to_numpy()
    return (moa[nearest.asked] == moa[nearest.neighbour]).tolist()


def test_both_equal_a_search_by_loops() -> None:
    table, x = treatments()
    assert right(table, not_same_compound(table, x)) == by_loops(table, x, ("compound",))
    assert right(table, not_same_compound_or_batch(table, x)) == by_loops(table, x, ("compound", "batch"))
    assert 0 < sum(by_loops(table, x, ("compound",))) < len(table)


def test_the_length_of_a_profile_does_not_matter() -> None:
    table, x = treatments()
    longer = x * generator("length").uniform(0.1, 9, (len(x), 1))
    assert not_same_compound(table, x).neighbour.tolist() == not_same_compound(table, longer).neighbour.tolist()


def test_a_mechanism_of_one_compound_or_one_batch_neither_asks_nor_answers() -> None:
    table = pd.DataFrame(
        {
            "compound": ["a", "b", "c", "d", "lonely", "local", "also local"],
            "moa": ["one", "one", "two", "two", "three", "four", "four"],
            "batch": ["w1", "w2", "w1", "w2", "w3", "w3", "w3"],
        }
    )
    x = np.ones((7, 2)) + generator("lonely").normal(scale=1e-3, size=(7, 2))
    assert not_same_compound(table, x).asked.tolist() == [0, 1, 2, 3, 5, 6]
    nearest = not_same_compound_or_batch(table, x)
    assert nearest.asked.tolist() == [0, 1, 2, 3] and set(nearest.neighbour) <= {0, 1, 2, 3}


def test_shares_are_listed_by_mechanism_with_the_sum_at_the_end() -> None:
    table, x = treatments()
    nearest = not_same_compound(table, x)
    shares = accuracy_by_moa(table["moa"], nearest)
    assert shares["moa"].tolist() == [f"mechanism {number}" for number in range(4)] + ["all"]
    assert shares["right"].iloc[:-1].sum() == shares["right"].iloc[-1] == sum(right(table, nearest))
    assert shares["treatments"].iloc[-1] == len(table)


def test_what_cannot_be_asked_is_said() -> None:
    table, x = treatments()
    with pytest.raises(UsageError, match="no mechanism has treatments of two compounds"):
        not_same_compound(table.assign(moa=table["compound"]), x)
    with pytest.raises(UsageError, match="not every treatment has a batch"):
        not_same_compound_or_batch(table.drop(columns="batch"), x)
    with pytest.raises(UsageError, match="in two batches"):
        not_same_compound_or_batch(table.assign(batch="w1"), x)


def test_a_profile_of_zeros_is_near_to_nothing() -> None:
    table, x = treatments()
    x[3] = 0
    nearest = not_same_compound(table, x)
    assert nearest.cosine[nearest.asked == 3] == 0.0
