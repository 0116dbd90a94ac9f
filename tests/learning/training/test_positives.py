"""Positives from metadata: another cell of the same treatment in another well stands in for a cell's other views."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from learning.conftest import MadeUpCrops, settings_of
from learning.training.test_loop import all_tensors, assert_same_bits
from parts.test_objectives import SMALLER, build, random_input

from cellssl.config import plugins
from cellssl.learning.methods.base import MethodInput
from cellssl.learning.training.loop import Plan, encode_views, train
from cellssl.learning.training.positives import Partners, Positives
from cellssl.learning.training.readers import MemmapReader
from cellssl.learning.training.state import TrainState
from cellssl.learning.training.validation import validation_loss
from cellssl.learning.view import draw_views
from cellssl.randomness import Keys
from cellssl.stages.pretrain.networks import crop_reader, keys_of, prepare

CPU = torch.device("cpu")
TREATMENTS = np.array([3, 3, 3, 3, 3, 3, 5, 5, 5, 7, 7, 9, 9])
WELLS = np.array([0, 0, 0, 1, 1, 2, 3, 4, 4, 5, 5, 6, -1])[:, None]  # treatment 7 has one well; one well is not known
PARTNERS = Partners.of(TREATMENTS, WELLS)
BRANCHES = {"centre": {"positives": {"share": 0.6}}, "context": {"weight": 0.4}}


def keys(count: int, name: str = "test") -> Keys:
    return Keys(torch.arange(count) * 977).fold(name)


def in_training(
    share: float = 0.6, in_background: bool = False, branches: Any = BRANCHES, **given: Any
) -> tuple[TrainState, Plan]:
    """Return a training of 13 cells whose branch `centre` has positives."""
    settings, crops = settings_of(branches, **given), MadeUpCrops(13)
    positives = {"centre": Positives(PARTNERS, share)}
    ids = [f"cell {i}" for i in range(13)]
    state, plan = prepare(settings, crops, ids, 0, CPU, positives=positives)  # type: ignore[arg-type]
    return state, replace(plan, read=MemmapReader(crops.read, CPU)) if in_background else plan


def test_a_partner_has_the_same_treatment_and_another_well() -> None:
    rows = np.repeat(np.arange(13), 200)
    partners = PARTNERS.draw(rows, keys(len(rows)), share=1.0)
    has = partners != rows
    assert (TREATMENTS[rows] == TREATMENTS[partners]).all()
    assert (WELLS[rows] != WELLS[partners])[has].all() and set(np.unique(rows[has])) == set(range(9))
    assert PARTNERS.has_partner.tolist() == [True] * 9 + [False] * 4


def test_each_of_several_columns_must_differ() -> None:
    compound_and_plate = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])  # of one mechanism
    partners = Partners.of(np.zeros(4, np.int64), compound_and_plate)
    assert partners.draw(np.arange(4), keys(4), share=1.0).tolist() == [3, 2, 1, 0]


def test_every_well_counts_equally_however_many_cells_it_has() -> None:
    rows = np.full(4000, 5)  # its partners are three cells of one well and two of another
    partners = PARTNERS.draw(rows, keys(len(rows)), share=1.0)
    assert np.bincount(partners, minlength=5) / len(rows) == pytest.approx(
        [1 / 6, 1 / 6, 1 / 6, 1 / 4, 1 / 4], abs=0.03
    )


def test_a_share_of_the_cells_gets_a_partner_and_the_rest_keep_their_own_views() -> None:
    rows = np.repeat(np.arange(9), 400)
    partners = PARTNERS.draw(rows, keys(len(rows)), share=0.25)
    assert (partners != rows).mean() == pytest.approx(0.25, abs=0.03)


def test_a_partner_follows_from_its_cell_and_not_from_the_others_of_its_batch() -> None:
    rows, drawn = np.arange(13), keys(13)
    whole = PARTNERS.draw(rows, drawn, share=0.7)
    assert PARTNERS.draw(rows[::-1], Keys(drawn.values.flip(0)), share=0.7).tolist() == whole[::-1].tolist()
    assert PARTNERS.draw(rows[4:5], Keys(drawn.values[4:5]), share=0.7).tolist() == whole[4:5].tolist()


def test_the_first_view_is_of_the_cell_and_the_others_are_of_its_partner() -> None:
    _, plan = in_training()
    (views,) = [branch.views for branch in plan.branches if branch.name == "centre"]
    crops, drawn = torch.from_numpy(MadeUpCrops(6).pixels), draw_views(views, [keys(6)], (3, 16, 16), 16, CPU)[0]
    own, mixed = drawn.render(crops)[0], drawn.render(crops, crops.flip(0))[0]
    assert torch.equal(mixed[0], own[0]) and torch.equal(mixed[1], drawn.render(crops.flip(0))[0][1])
    assert not torch.equal(mixed[1], own[1])


def test_moco_leaves_former_keys_of_the_same_treatment_out_of_the_negatives() -> None:
    state, plan = in_training()
    list(train(state, plan))
    (moco,) = [branch.objective for branch in plan.branches if branch.name == "centre"]
    assert set(moco.queue_cells.tolist()) <= set(TREATMENTS.tolist())  # type: ignore[operator, union-attr]
    cells = plan.cell_keys[:4]
    whole = encode_views(state, plan, plan.branches[0], plan.read(np.arange(4)), cells, 0)
    of_treatment = replace(whole, same=torch.from_numpy(TREATMENTS[:4]))
    kept = sum(number != 3 for number in moco.queue_cells.tolist())  # type: ignore[operator, union-attr]
    chance = moco(of_treatment)[1]["chance"]
    assert chance.exp().item() == pytest.approx(1 + kept, rel=1e-4)


@pytest.mark.parametrize(("name", "candidates"), [("simclr", 1 + 2 * 2), ("nnclr", 1 + 2)])
def test_cells_of_the_same_treatment_are_no_negatives_within_a_batch(name: str, candidates: int) -> None:
    objective = build(name)
    given = random_input(objective, cells=4)
    same = MethodInput(given.online, given.momentum, given.cells, same=torch.tensor([1, 1, 2, 2]))
    assert objective(same)[1]["chance"].exp().item() == pytest.approx(candidates, rel=1e-4)


@pytest.mark.parametrize("in_background", [False, True])
def test_a_training_that_is_resumed_draws_the_same_partners(in_background: bool) -> None:
    (state, plan), (whole, same) = in_training(in_background=in_background), in_training()
    list(train(state, replace(plan, steps=4)))
    list(train(state, plan))
    list(train(whole, same))
    assert_same_bits(state, whole)


def test_a_branch_without_positives_is_not_changed_by_one_that_has_them() -> None:
    events = [list(train(*in_training(share))) for share in (0.6, 1.0)]
    first = [each[0].metrics for each in events]
    assert first[0]["context/loss"] == first[1]["context/loss"] and first[0]["centre/loss"] != first[1]["centre/loss"]


def test_the_validation_loss_takes_partners_among_its_own_cells_and_leaves_no_trace() -> None:
    state, plan = in_training()
    next(train(state, plan))
    before, crops = all_tensors(state), MadeUpCrops(13)
    given: Any = {"read": crop_reader(crops, CPU), "cell_keys": keys_of([f"other {i}" for i in range(13)])}  # type: ignore[arg-type]
    positives = {"centre": Positives(PARTNERS, 1.0)}
    first, second, without = (
        validation_loss(state, plan, **given, positives=each) for each in (positives, positives, None)
    )
    assert first == second != without
    assert all(torch.equal(before[name], tensor) for name, tensor in all_tensors(state).items())


@pytest.mark.parametrize(
    "name",
    ["moco", "simclr", "nnclr", "byol", "nnbyol", "simsiam", "ressl", "barlow_twins", "vicreg", "vibcreg", "swav",
     "deepcluster_v2", "dino"],
)  # fmt: skip
def test_every_objective_with_pairs_of_views_trains_with_positives(name: str) -> None:
    known = plugins.load("cellssl.learning.objectives", name).Settings.model_fields
    small = {"name": name, **{key: value for key, value in SMALLER.items() if key in known}}
    state, plan = in_training(branches={"centre": {"positives": {}, "objective": small}}, epochs=1)
    losses = [event.metrics["loss"] for event in train(state, plan)]
    assert np.isfinite(losses).all() and len(set(losses)) == len(losses)
