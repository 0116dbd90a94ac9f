"""Encoders are torchvision's and timm's networks without the classifier: same names of tensors, same features."""

import copy
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from conftest import REPOSITORY
from pydantic import ValidationError
from torch import nn
from torchvision.transforms.v2.functional import normalize

from cellssl.config import plugins
from cellssl.config.recipe import from_table
from cellssl.errors import UsageError
from cellssl.learning.encoders import resnet18, vgg11, vgg13, vgg13_bn
from cellssl.learning.encoders.timm import Settings as Timm
from cellssl.learning.weight_init import init_encoder
from cellssl.randomness import generator, hash64

FOLDER = "cellssl.learning.encoders"
TORCHVISION_NAMES = [name for name in plugins.names(FOLDER) if name.startswith(("vgg", "resnet"))]


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(generator("test", "encoders").random(shape, dtype="float32"))


def build(settings: Any, channels: int = 3) -> nn.Module:
    return init_encoder(settings, channels, 0, "encoder").eval()


@pytest.mark.parametrize("name", TORCHVISION_NAMES)
def test_weights_load_by_name_into_torchvision_s_network(name: str) -> None:
    with torch.device("meta"):  # names and shapes are enough, and a VGG's classifier is half a gigabyte
        ours, theirs = plugins.load(FOLDER, name).Settings().build(3), torchvision.models.get_model(name, weights=None)
    expected = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    found = {key: tensor.shape for key, tensor in ours.state_dict().items()}
    assert found == {key: shape for key, shape in expected.items() if not key.startswith(("classifier", "fc"))}
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False, assign=True)
    assert unexpected == [] and {key.partition(".")[0] for key in missing} <= {"classifier", "fc"}


@pytest.mark.parametrize("settings", [vgg13.Settings(), vgg13_bn.Settings()], ids=["vgg13", "vgg13_bn"])
def test_a_vgg_gives_the_mean_of_torchvision_s_features(settings: Any) -> None:
    ours = build(settings)
    theirs = torchvision.models.get_model(settings.architecture, weights=None, init_weights=False).eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    crops = noise(2, 3, 68, 68)
    with torch.no_grad():
        torch.testing.assert_close(ours(crops), theirs.features(crops).mean(dim=(2, 3)))


def test_the_small_stem_keeps_the_size_of_an_image_and_the_rest_is_torchvision_s() -> None:
    small = build(resnet18.Settings(stem="small"))
    with torch.no_grad():
        assert small.relu(small.bn1(small.conv1(noise(1, 3, 32, 32)))).shape == (1, 64, 32, 32)
        assert small.maxpool(noise(1, 64, 32, 32)).shape == (1, 64, 32, 32)
        assert resnet18.Settings(stem="small").feature_map(small)(noise(1, 3, 32, 32)).shape == (1, 512, 4, 4)
    theirs = torchvision.models.resnet18(weights=None).state_dict()
    ours = {name: values for name, values in small.state_dict().items() if name != "conv1.weight"}
    assert {name: values.shape for name, values in ours.items()} == {
        name: values.shape for name, values in theirs.items() if name in ours
    }
    with pytest.raises(ValidationError, match="belong to the stem"):
        resnet18.Settings(stem="small", weights="imagenet")


def test_a_resnet_gives_the_input_of_torchvision_s_classifier() -> None:
    settings = plugins.load(FOLDER, "resnet18").Settings()
    ours, theirs = build(settings), torchvision.models.resnet18(weights=None).eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    before_fc: list[torch.Tensor] = []
    theirs.fc.register_forward_pre_hook(lambda _, given: before_fc.append(given[0]))
    crops = noise(2, 3, 50, 50)
    with torch.no_grad():
        theirs(crops)
        torch.testing.assert_close(ours(crops), before_fc[0])


def test_another_number_of_channels_changes_the_first_convolution_only() -> None:
    three, five = (build(vgg11.Settings(), channels).state_dict() for channels in (3, 5))
    differing = {name for name in three if three[name].shape != five[name].shape}
    assert differing == {"features.0.weight"}
    assert all(torch.equal(three[name], five[name]) for name in three if name not in differing)


def test_a_width_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        plugins.load(FOLDER, "small").Settings(widths=(8, 0))


def test_a_crop_too_small_for_the_network_is_refused_with_the_cure(training: Any) -> None:
    with pytest.raises(UsageError, match="vgg11 cannot take crops of 31 px") as caught:
        training(encoder="vgg11", input_px=31)
    assert caught.value.hint == "use 32 px or more"


# Pixel statistics of the published weights.


@pytest.mark.parametrize("name", TORCHVISION_NAMES)
def test_pixel_statistics_and_url_are_those_of_torchvision(name: str) -> None:
    transforms = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].transforms()  # type: ignore[index]
    settings = plugins.load(FOLDER, name).Settings()
    assert settings.pixel_statistics(nn.Identity()) == (tuple(transforms.mean), tuple(transforms.std))
    assert settings.url().endswith(".pth")


@pytest.mark.parametrize(
    ("channels", "mean", "sd"), [(3, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), (5, [0.449] * 5, [0.226] * 5)]
)
def test_standardising_equals_torchvision_s_normalize_with_grey_values_for_stains(
    channels: int, mean: list[float], sd: list[float]
) -> None:
    plain, standardised = (build(resnet18.Settings(standardise=choice), channels) for choice in (False, True))
    crops = noise(2, channels, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(standardised(crops), plain(normalize(crops, mean, sd)))
    assert plain.state_dict().keys() == standardised.state_dict().keys()


def test_the_copy_of_a_standardising_encoder_standardises_too() -> None:
    encoder = build(resnet18.Settings(standardise=True))
    duplicate, crops = copy.deepcopy(encoder), noise(2, 3, 40, 40)
    duplicate.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(duplicate(crops), encoder(crops))
        encoder.pixel_mean.fill_(9)  # of the original, not of the copy
        assert not torch.equal(duplicate(crops), encoder(crops))


@pytest.mark.parametrize(
    ("given", "standardises"),
    [
        ({}, False),
        ({"weights": "imagenet"}, True),
        ({"weights": "f.pth"}, True),
        ({"weights": "imagenet", "standardise": False}, False),
        ({"standardise": True}, True),
    ],
)
def test_pixels_are_standardised_with_weights_unless_set_otherwise(given: dict[str, Any], standardises: bool) -> None:
    settings = resnet18.Settings.model_validate(given)
    assert settings.standardises() is standardises
    explicit = settings.model_copy(update={"standardise": standardises})
    assert explicit.non_default() == settings.non_default()


# timm


SMALL = ["test_efficientnet", "test_convnext", "test_vit", "test_mambaout", "mobilenetv3_small_050", "ghostnet_050"]


@pytest.mark.parametrize("model", SMALL)
def test_a_timm_encoder_has_the_tensor_names_and_features_of_timm_s_network(model: str) -> None:
    ours, theirs = build(Timm(model=model), 4), timm.create_model(model, num_classes=0, in_chans=4).eval()
    theirs.load_state_dict(ours.state_dict())
    crops = noise(2, 4, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(crops), theirs(crops)) and ours(crops).shape == (2, ours.out_dim)


def test_initial_weights_of_a_timm_encoder_are_those_that_timm_draws() -> None:
    ours = build(Timm(model="test_vit")).state_dict()
    with torch.random.fork_rng():
        torch.manual_seed(hash64("weights", 0, "encoder"))
        theirs = timm.create_model("test_vit", num_classes=0).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("model", ["ghostnet_050", "focalnet_tiny_srf"])
def test_a_timm_encoder_is_deterministic_in_training_mode(model: str) -> None:
    encoder, crops = init_encoder(Timm(model=model), 3, 0, "encoder").train(), noise(4, 3, 64, 64)
    assert torch.equal(encoder(crops), encoder(crops))
    theirs = timm.create_model(model, num_classes=0).train()
    assert not torch.equal(theirs(crops), theirs(crops))


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "a mistyped model": (
        {"model": "tf_eficientnet_lite0"},
        "timm has no model",
        "did you mean 'tf_efficientnet_lite0'?",
    ),
    "a mistyped tag": ({"model": "resnet50.a1_in1"}, "timm has no weights", "did you mean 'resnet50.a1_in1k'?"),
    "a model from elsewhere": ({"model": "hf-hub:timm/x"}, "timm has no model", "there are|did you mean"),
    "an unknown option": (
        {"model": "test_vit", "options": {"dpeth": 3}},
        "unexpected keyword argument 'dpeth'",
        "options",
    ),
    "a side between two patches": ({"model": "test_vit"}, "cannot take crops of 50 px: .*divisible", "input_px"),
    "a side that is fixed": ({"model": "swin_tiny_patch4_window7_224"}, r"doesn't match model \(224\)", "input_px"),
    "no pooling": ({"model": "test_resnet", "options": {"global_pool": ""}}, "not one vector", "global_pool"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_timm_cannot_do_is_an_error_with_a_cure(case: str) -> None:
    settings, sentence, cure = WRONG[case]
    with pytest.raises(UsageError, match=sentence) as caught:
        Timm(**settings).check_side(50)
    assert any(word in caught.value.hint for word in cure.split("|"))


@pytest.mark.parametrize(
    ("option", "sentence"),
    [("in_chans", "follows from the crops"), ("drop_path_rate", "randomness within the network is off")],
)
def test_reserved_options_are_refused(option: str, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Timm(model="test_vit", options={option: 1})


def test_a_vit_takes_crops_of_any_side_that_its_patches_fill() -> None:
    vit = Timm(model="vit_tiny_patch16_224", options={"dynamic_img_size": True})
    vit.check_side(48)
    with pytest.raises(UsageError, match="cannot take crops of 48 px"):
        Timm(model="vit_tiny_patch16_224").check_side(48)


def test_without_timm_the_cure_is_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match="needs the library timm") as caught:
        Timm(model="test_vit").check_installed()
    assert caught.value.hint == 'pip install "cellssl[timm]"'


def test_docs_encoders_names_all_encoders_and_shows_valid_settings() -> None:
    page = (REPOSITORY / "docs" / "encoders.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    for block in blocks:
        from_table({"name": "page", **tomllib.loads(block)}, Path(), "page").check()
    assert len(blocks) == 4
    assert [name for name in plugins.names(FOLDER) if f"`{name.removesuffix('_bn')}`" not in page] == []
