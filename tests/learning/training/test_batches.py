"""The cells and the learning rate of a step follow from the number of the step alone."""

import math
from collections import Counter

import numpy as np
import pytest

from cellssl.errors import UsageError
from cellssl.learning.training.batches import Batches
from cellssl.learning.training.schedule import learning_rate


@pytest.mark.parametrize(("cells", "size"), [(13, 4), (12, 4), (5, 5), (101, 32)])
def test_every_cell_is_seen_equally_often(cells: int, size: int) -> None:
    batches = Batches(cells, size, seed=0)
    seen = Counter(np.concatenate([batches.rows(step) for step in range(size * 3)]).tolist())  # 3 * size * size places
    whole, rest = divmod(3 * size * size, cells)
    assert set(seen) == set(range(cells))
    assert set(seen.values()) <= ({whole, whole + 1} if rest else {whole})


def test_every_batch_is_full_and_every_epoch_a_permutation() -> None:
    batches = Batches(cells=13, size=4, seed=3)
    rows = [batches.rows(step) for step in range(26)]
    assert {len(some) for some in rows} == {4}
    epochs = np.concatenate(rows).reshape(8, 13)
    assert (np.sort(epochs, axis=1) == np.arange(13)).all()
    assert len({tuple(epoch) for epoch in epochs}) == 8


def test_a_batch_follows_from_its_step_alone() -> None:
    forward = [Batches(13, 4, seed=1).rows(step).tolist() for step in range(20)]
    batches = Batches(13, 4, seed=1)
    backward = [batches.rows(step).tolist() for step in reversed(range(20))]
    assert forward == backward[::-1]


def test_another_seed_gives_another_order() -> None:
    assert Batches(100, 50, seed=1).rows(0).tolist() != Batches(100, 50, seed=2).rows(0).tolist()


@pytest.mark.parametrize(("epochs", "steps"), [(0, 0), (1, 4), (3, 10), (0.5, 2), (4, 13)])
def test_the_steps_of_some_epochs_show_every_cell_at_least_that_often(epochs: float, steps: int) -> None:
    assert Batches(cells=13, size=4, seed=0).steps(epochs) == steps == math.ceil(epochs * 13 / 4)


def test_a_batch_larger_than_the_training_set_is_an_error_with_a_hint() -> None:
    with pytest.raises(UsageError, match="a batch of 14 is larger than the 13 training cells") as caught:
        Batches(cells=13, size=14, seed=0)
    assert caught.value.hint == "set pretrain.batch to 13 or less"


def rates(shape: str, total: int = 100, warmup: int = 10) -> np.ndarray:
    return np.array([learning_rate(s, total, peak=0.5, shape=shape, warmup_steps=warmup) for s in range(total)])  # type: ignore[arg-type]


def test_the_learning_rate_rises_linearly_to_its_peak() -> None:
    for shape in ("constant", "cosine"):
        np.testing.assert_allclose(rates(shape)[:10], 0.05 * np.arange(1, 11))
        assert rates(shape)[10] == 0.5


def test_the_cosine_schedule_equals_its_closed_form() -> None:
    after = rates("cosine")[10:]
    np.testing.assert_allclose(after, 0.5 * np.cos(np.pi * np.arange(90) / 180) ** 2, atol=1e-12)
    assert after[45] == pytest.approx(0.25) and after[-1] < 0.001


def test_the_constant_schedule_is_constant_and_without_warm_up_a_schedule_starts_at_its_peak() -> None:
    assert (rates("constant")[10:] == 0.5).all()
    assert rates("cosine", warmup=0)[0] == 0.5
    assert rates("cosine", total=1, warmup=0).tolist() == [0.5]
