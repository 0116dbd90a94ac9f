"""What every file of the room `encoders` must do."""

from typing import Any

import pytest
import torch
from torch import nn

from cellssl import rooms
from cellssl.learning.initial import initialise
from cellssl.randomness import generator

ROOM = "cellssl.learning.encoders"
NAMES = rooms.names(ROOM)


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(generator("test", "encoders").random(shape, dtype="float32"))


def built(name: str, channels: int = 3) -> nn.Module:
    settings: Any = rooms.load(ROOM, name).Settings()
    encoder: nn.Module = settings.build(channels)
    initialise(encoder, 0, "encoder")
    return encoder


@pytest.mark.parametrize("name", NAMES)
def test_it_takes_any_number_of_channels_and_says_how_many_numbers_it_gives(name: str) -> None:
    side = rooms.load(ROOM, name).Settings().shortest_side_px()
    for channels in (1, 5):
        encoder = built(name, channels).eval()
        with torch.no_grad():
            seen = encoder(noise(2, channels, side, side))
        assert seen.shape == (2, encoder.out_dim) and seen.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_has_a_rule_and_follows_from_the_seed(name: str) -> None:
    one, other = built(name, 1).state_dict(), built(name, 1).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", NAMES)
def test_cells_do_not_see_each_other_in_evaluation(name: str) -> None:
    encoder = built(name, 1).eval()
    crops = noise(3, 1, 40, 40)
    with torch.no_grad():
        together, alone = encoder(crops)[1:2], encoder(crops[1:2])
    assert (together - alone).abs().max() < 1e-4 * alone.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_its_settings_are_explained_and_survive_json(name: str) -> None:
    model = rooms.load(ROOM, name).Settings
    assert all(field.description for field in model.model_fields.values())
    assert model.model_validate(model().full()) == model()
