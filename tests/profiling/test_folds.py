"""Folds keep groups whole and test every cell once; shuffling and sampling keep what they should."""

from collections import Counter

import numpy as np
import pytest

from cellssl.errors import UsageError
from cellssl.profiling.folds import iter_folds, leave_one_group_out, sample_rows, shuffle_labels


def test_every_cell_is_tested_once_and_trained_on_other_wells_only() -> None:
    wells = np.array(["B02", "C03", "B02", "D04", "C03", "D04", "D04"], dtype=object)
    tested = np.zeros(len(wells), dtype=int)
    for split in iter_folds(leave_one_group_out(wells, max_folds=20)):
        assert len(set(wells[split.test])) == 1
        assert not set(wells[split.test]) & set(wells[split.train])
        tested += split.test
    assert (tested == 1).all()


def test_many_wells_are_left_out_several_at_a_time_in_even_folds() -> None:
    wells = [f"well {number % 50}" for number in range(500)]
    fold = leave_one_group_out(wells, max_folds=10)
    assert Counter(fold.tolist()) == dict.fromkeys(range(10), 50)
    assert all(len(set(fold[np.array(wells) == well])) == 1 for well in set(wells))


def test_cells_of_fold_minus_one_are_never_tested() -> None:
    folds = list(iter_folds(np.array([-1, -1, 0, 0])))
    assert [(split.train.tolist(), split.test.tolist()) for split in folds] == [
        ([True, True, False, False], [False, False, True, True])
    ]


def test_one_plate_cannot_be_left_out() -> None:
    with pytest.raises(UsageError, match="there is only one group, P1"):
        leave_one_group_out(["P1"] * 5, max_folds=20)


def test_shuffling_keeps_the_number_of_cells_per_class() -> None:
    labels = np.repeat(["a", "b"], [30, 10])
    one, again, other = (shuffle_labels(labels, number).tolist() for number in (1, 1, 2))
    assert Counter(one) == Counter(labels.tolist())
    assert one == again != other


def test_too_many_cells_are_sampled_in_their_order() -> None:
    rows = np.arange(100, 1100)
    drawn = sample_rows(rows, 50, "test")
    assert len(set(drawn.tolist())) == 50 and (np.diff(drawn) > 0).all() and set(drawn.tolist()) <= set(rows.tolist())
    assert sample_rows(rows, 1000) is rows
