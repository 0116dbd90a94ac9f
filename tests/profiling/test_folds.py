from collections import Counter

import numpy as np
import pytest

from cellssl.errors import UsageError
from cellssl.profiling.folds import at_most, iter_folds, leave_one_out, shuffled


def test_every_cell_is_told_once_and_by_other_wells_only() -> None:
    wells = np.array(["B02", "C03", "B02", "D04", "C03", "D04", "D04"], dtype=object)
    told = np.zeros(len(wells), dtype=int)
    for side in iter_folds(leave_one_out(wells, most=20)):
        assert len(set(wells[side.test])) == 1
        assert not set(wells[side.test]) & set(wells[side.train])
        told += side.test
    assert (told == 1).all()


def test_many_wells_are_left_out_several_at_a_time_in_even_folds() -> None:
    wells = [f"well {number % 50}" for number in range(500)]
    fold = leave_one_out(wells, most=10)
    assert Counter(fold.tolist()) == dict.fromkeys(range(10), 50)
    assert all(len(set(fold[np.array(wells) == well])) == 1 for well in set(wells))


def test_cells_that_only_teach_are_never_told() -> None:
    only = list(iter_folds(np.array([-1, -1, 0, 0])))
    assert [(side.train.tolist(), side.test.tolist()) for side in only] == [
        ([True, True, False, False], [False, False, True, True])
    ]


def test_one_plate_cannot_be_left_out() -> None:
    with pytest.raises(UsageError, match="there is only P1"):
        leave_one_out(["P1"] * 5, most=20)


def test_shuffling_keeps_how_many_there_are_of_each() -> None:
    labels = np.repeat(["a", "b"], [30, 10])
    one, again, other = (shuffled(labels, number).tolist() for number in (1, 1, 2))
    assert Counter(one) == Counter(labels.tolist())
    assert one == again != other


def test_of_too_many_cells_some_are_drawn_in_their_order() -> None:
    rows = np.arange(100, 1100)
    drawn = at_most(rows, 50, "test")
    assert len(set(drawn.tolist())) == 50 and (np.diff(drawn) > 0).all() and set(drawn.tolist()) <= set(rows.tolist())
    assert at_most(rows, 1000) is rows
