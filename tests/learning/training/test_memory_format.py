"""Convolutions get weights and pixels with channels last, as a GPU needs them."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from learning.conftest import MadeUpCrops, settings_of
from learning.training.test_loop import all_tensors
from parts.test_objectives import NAMES, prepare_small, small_settings

from cellssl.learning.training.loop import Plan, encode_views, train
from cellssl.learning.training.memory_format import not_channels_last
from cellssl.learning.training.state import TrainState
from cellssl.stages.pretrain.networks import prepare

CHANNELS_LAST = torch.channels_last


class ChannelsFirst(torch.nn.Module):
    """A layer that gives pixels another order."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.contiguous()


def prepared(encoder: Any, side: int) -> tuple[TrainState, Plan]:
    """Return a training with one branch, on crops of two channels."""
    crops: Any = MadeUpCrops(13, channels=2, side=side)
    settings = settings_of({"centre": {}}, encoder=encoder, input_px=side)
    return prepare(settings, crops, [f"cell {i}" for i in range(13)], 0, torch.device("cpu"))


@pytest.mark.parametrize(
    ("encoder", "side"),
    [("small", 16), ("resnet18", 32), ("vgg11", 32), ("vgg11_bn", 32), ({"name": "vit", "dim": 8, "depth": 1}, 16)],
    ids=str,
)
def test_weights_and_inputs_of_every_encoder_have_channels_last(encoder: Any, side: int) -> None:
    assert not_channels_last(*prepared(encoder, side)) == []


def test_a_decoder_gets_its_input_as_its_weights_are() -> None:
    crops: Any = MadeUpCrops(13)
    settings = small_settings("denoising").model_copy(update={"input_px": 32})
    state, plan = prepare(settings, crops, [f"cell {i}" for i in range(13)], 0, torch.device("cpu"))
    assert all(name.startswith("objectives.") for name in not_channels_last(state, plan))  # on a CPU they are not
    state.objectives.to(memory_format=CHANNELS_LAST)
    assert not_channels_last(state, plan) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_check_passes_every_objective_and_changes_no_state(name: str) -> None:
    state, plan = prepare_small(name)
    before = all_tensors(state)
    found = not_channels_last(state, plan)
    assert all(name.startswith("objectives.branch_b-denoising") for name in found)
    assert [key for key, value in all_tensors(state).items() if not torch.equal(value, before[key])] == []
    following = [event.metrics for event in train(state, replace(plan, steps=2))]
    assert following == [event.metrics for event in train(*short(name))]


def short(name: str) -> tuple[TrainState, Plan]:
    """Return a training of two steps that was not checked."""
    state, plan = prepare_small(name)
    return state, replace(plan, steps=2)


def test_both_kinds_of_fault_are_found_and_nothing_of_the_state_changes() -> None:
    state, plan = prepare_small("byol")
    before = {name: value.clone() for name, value in state.encoder.state_dict().items()}
    state.encoder.features[0].weight.data = state.encoder.features[0].weight.data.contiguous()
    state.momentum_encoder.features.insert(3, ChannelsFirst())
    assert not_channels_last(state, plan) == ["encoder.features.0", "momentum_encoder.features.4"]
    assert all(torch.equal(value, before[name]) for name, value in state.encoder.state_dict().items())
    rows = plan.batches.rows(0)
    encode_views(state, plan, plan.branches[0], plan.read(rows), plan.cell_keys[rows], 0)  # no hook is left behind
    assert all(not layer._forward_pre_hooks for layer in state.encoder.modules())
