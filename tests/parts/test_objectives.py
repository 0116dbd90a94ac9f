"""What every file of the room `objectives` must do."""

import copy
from typing import Any

import pytest
import torch

from cellssl import rooms
from cellssl.errors import UsageError
from cellssl.learning.objective import Objective, Seen
from cellssl.randomness import generator

ROOM = "cellssl.learning.objectives"
NAMES = rooms.names(ROOM)
DIM = 10


def built(name: str, seed: int = 0, branch: str = "centre") -> Objective:
    settings: Any = rooms.load(ROOM, name).Settings()
    objective: Objective = settings.build(DIM, seed, branch)
    return objective


def seen(objective: Objective, cells: int = 6, number: int = 0) -> Seen:
    chance = generator("test", "objectives", number)
    online, momentum = (
        torch.from_numpy(chance.standard_normal((len(views), cells, DIM), dtype="float32"))
        for views in (objective.online_views, objective.momentum_views)
    )
    return Seen(online.requires_grad_(), momentum, torch.arange(cells))


def steps(objective: Objective, numbers: range) -> list[float]:
    optimizer = torch.optim.SGD([weight for weight in objective.parameters() if weight.requires_grad], lr=0.1)
    losses = []
    for number in numbers:
        optimizer.zero_grad()
        loss, _ = objective(seen(objective, number=number))
        loss.backward()
        optimizer.step()
        objective.after_step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", NAMES)
def test_the_views_it_looks_at_are_views_it_asks_for(name: str) -> None:
    objective = built(name)
    assert set(objective.online_views) | set(objective.momentum_views) == set(range(objective.views))
    assert 0 <= objective.momentum < 1


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_one_finite_number_that_teaches_the_encoder(name: str) -> None:
    objective = built(name)
    batch = seen(objective)
    loss, gauges = objective(batch)
    loss.backward()
    assert loss.shape == () and loss.isfinite()
    assert batch.online.grad is not None and batch.online.grad.abs().sum() > 0
    assert all(value.shape == () and value.isfinite() for value in gauges.values())


@pytest.mark.parametrize("name", NAMES)
def test_all_that_it_remembers_is_in_its_state_dict(name: str) -> None:
    going_on = built(name)
    steps(going_on, range(3))
    taken_up = built(name, seed=9)
    taken_up.load_state_dict(copy.deepcopy(going_on.state_dict()))
    assert steps(taken_up, range(3, 6)) == steps(going_on, range(3, 6))


@pytest.mark.parametrize("name", NAMES)
def test_its_start_follows_from_seed_and_branch(name: str) -> None:
    start = built(name).state_dict()
    again = built(name).state_dict()
    assert all(torch.equal(start[key], again[key]) for key in start)
    for other in (built(name, seed=1).state_dict(), built(name, branch="context").state_dict()):
        assert any(not torch.equal(start[key], other[key]) for key in start)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_cells_in_a_batch_does_not_matter(name: str) -> None:
    objective = built(name)
    batch = seen(objective)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    turned = Seen(batch.online[:, order], batch.momentum[:, order], batch.cells[order])
    torch.testing.assert_close(objective(turned)[0], objective(batch)[0])


def test_a_queue_that_would_hold_every_cell_is_refused_with_the_cure() -> None:
    with pytest.raises(UsageError, match="a queue of 13 keys is not smaller than the 13 training cells") as caught:
        rooms.load(ROOM, "moco").Settings(queue=13).check(13)
    assert "mask_same_cell = true" in caught.value.hint and "below 13" in caught.value.hint
    rooms.load(ROOM, "moco").Settings(queue=12).check(13)
    rooms.load(ROOM, "moco").Settings(queue=13, mask_same_cell=True).check(13)
