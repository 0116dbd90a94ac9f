"""The contract of all encoders: every file of the folder `encoders` must pass these tests."""

from typing import Any

import pytest
import torch
from torch import nn

from cellssl.config import plugins
from cellssl.learning.embedding_layers import flattened_encoder
from cellssl.learning.weight_init import init_encoder
from cellssl.randomness import generator

FOLDER = "cellssl.learning.encoders"
NAMES = plugins.names(FOLDER)
REQUIRED = {"timm": {"model": "test_efficientnet"}}
"""Settings without a default."""
FOR_THE_MAP = {name: {"pool": "mean"} for name in ("dinov2_small", "dinov3_small")}
"""Settings under which the representation is the average of the feature map, and not a token of its own."""


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(generator("test", "encoders").random(shape, dtype="float32"))


def settings_of(name: str, **changes: Any) -> Any:
    return plugins.load(FOLDER, name).Settings(**REQUIRED.get(name, {}), **changes)


def build(name: str, channels: int = 3, seed: int = 0) -> nn.Module:
    return init_encoder(settings_of(name), channels, seed, "encoder")


@pytest.mark.parametrize("name", NAMES)
def test_it_takes_any_number_of_channels_and_out_dim_is_right(name: str) -> None:
    side = max(16, settings_of(name).min_side_px())
    for channels in (1, 5):
        encoder = build(name, channels).eval()
        with torch.no_grad():
            output = encoder(noise(2, channels, side, side))
        assert output.shape == (2, encoder.out_dim) and output.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_follows_from_the_seed_and_torch_s_generator_does_not_change(name: str) -> None:
    torch.rand(1)  # advances the generator
    before = torch.get_rng_state()
    one = build(name, 1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    other, another = build(name, 1).state_dict(), build(name, 1, seed=1).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert any(not torch.equal(one[key], another[key]) for key in one)


@pytest.mark.parametrize("name", NAMES)
def test_its_feature_map_averages_to_its_representation_with_standardised_pixels_too(name: str) -> None:
    changes = {"standardise": True} if "standardise" in plugins.load(FOLDER, name).Settings.model_fields else {}
    settings = settings_of(name, **changes, **FOR_THE_MAP.get(name, {}))
    encoder, crops = init_encoder(settings, 3, 0, "encoder").eval(), noise(2, 3, 64, 64)
    with torch.no_grad():
        pooled = encoder(crops)
        flat = flattened_encoder(settings, encoder)(crops).reshape(*pooled.shape, -1)
    torch.testing.assert_close(flat.mean(dim=2), pooled, atol=1e-5, rtol=1e-4)
    assert flat.shape[2] > 1


@pytest.mark.parametrize("name", NAMES)
def test_a_crop_that_is_large_enough_is_not_refused(name: str) -> None:
    settings = settings_of(name)
    settings.check_installed()
    settings.check_side(max(16, settings.min_side_px()))


@pytest.mark.parametrize("name", NAMES)
def test_cells_do_not_affect_each_other_in_evaluation(name: str) -> None:
    encoder = build(name, 1).eval()
    crops = noise(3, 1, 40, 40)
    with torch.no_grad():
        together, alone = encoder(crops)[1:2], encoder(crops[1:2])
    assert (together - alone).abs().max() < 1e-4 * alone.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_its_settings_have_texts_and_survive_json(name: str) -> None:
    model = plugins.load(FOLDER, name).Settings
    assert model.__doc__ and all(model.descriptions().values())
    default = settings_of(name)
    assert model.model_validate(default.all_values()) == default


@pytest.mark.parametrize(
    "name", [name for name in NAMES if "weights" in plugins.load(FOLDER, name).Settings.model_fields]
)
def test_an_encoder_with_a_file_of_weights_is_built_from_its_settings_alone(name: str) -> None:
    settings = settings_of(name, weights="gone.pth")
    again = type(settings).model_validate(settings.all_values())
    assert again.standardises() and {"pixel_mean", "pixel_spread"} <= dict(again.build(3).named_buffers()).keys()
    assert again.build(3).state_dict().keys() == settings_of(name).build(3).state_dict().keys()
