"""Encoders are torchvision's and timm's networks without the classifier: same names of tensors, same features."""

import copy
import itertools
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
from cellssl.learning.embedding_layers import flattened_encoder
from cellssl.learning.encoders import (
    convnext_tiny,
    dinov2_small,
    dinov3_small,
    efficientnet_b0,
    efficientnet_lite0,
    resnet18,
    vgg11,
    vgg11_bn,
)
from cellssl.learning.encoders.timm import Settings as Timm
from cellssl.learning.training.loop import train
from cellssl.learning.weight_files import load_weights
from cellssl.learning.weight_init import init_encoder
from cellssl.randomness import generator, hash64

FOLDER = "cellssl.learning.encoders"
TORCHVISION_NAMES = [
    name for name in plugins.names(FOLDER) if name.startswith(("vgg", "resnet", "convnext", "efficientnet_b"))
]


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


@pytest.mark.parametrize("name", ["vgg13", "vgg13_bn", "convnext_tiny", "efficientnet_b0"])
def test_a_network_gives_the_mean_of_torchvision_s_features(name: str) -> None:
    ours = build(plugins.load(FOLDER, name).Settings())
    slow = {"init_weights": False} if name.startswith("vgg") else {}
    theirs = torchvision.models.get_model(name, weights=None, **slow).eval()
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


# Networks of timm with names of their own.


@pytest.mark.parametrize("settings", [dinov2_small.Settings(), dinov3_small.Settings()], ids=["dinov2", "dinov3"])
def test_a_dino_network_gives_timm_s_class_token(settings: Any) -> None:
    ours, side = build(settings), 4 * settings.patch_px
    theirs = timm.create_model(settings.timm_name(), num_classes=0, dynamic_img_size=True, global_pool="token").eval()
    theirs.load_state_dict(ours.state_dict())
    crops = noise(2, 3, side, side)
    with torch.no_grad():
        assert torch.equal(ours(crops), theirs(crops))


def test_a_dino_network_resizes_crops_to_the_next_multiple_of_its_patch() -> None:
    encoder, crops = build(dinov2_small.Settings()), noise(1, 3, 68, 68)
    with torch.no_grad():
        filled = nn.functional.interpolate(crops, size=(70, 70), mode="bilinear", antialias=True)
        torch.testing.assert_close(encoder(crops), encoder(filled))


def test_the_mean_of_a_dino_network_is_that_of_the_patches_without_the_class_token() -> None:
    by_class, by_mean = dinov3_small.Settings(), dinov3_small.Settings(pool="mean")
    one, other = build(by_class), build(by_mean)
    assert one.state_dict().keys() == other.state_dict().keys()
    with torch.no_grad():
        torch.testing.assert_close(
            by_class.feature_map(one)(noise(1, 3, 32, 32)).mean((2, 3)), other(noise(1, 3, 32, 32))
        )


def test_a_crop_smaller_than_two_patches_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot take crops of 27 px") as caught:
        dinov2_small.Settings().check_side(27)
    assert caught.value.hint == "use 28 px or more"


def test_a_file_of_efficientnet_with_the_names_of_the_first_port_fits_tensor_by_tensor(shared_data: Path) -> None:
    file = shared_data / "weights" / "efficientnet-lite0-57934424.pth"
    if not file.is_file():
        pytest.skip(f"no weights at {file}")
    theirs = torch.load(file, weights_only=True)
    renamed = efficientnet_lite0.Settings().renamed(theirs)
    assert list(renamed) == list(timm.create_model("tf_efficientnet_lite0").state_dict())
    assert all(one is other for one, other in zip(renamed.values(), theirs.values(), strict=True))
    assert efficientnet_lite0.Settings().renamed(renamed) is renamed


@pytest.mark.parametrize(
    ("settings", "licence"),
    [
        (dinov2_small.Settings(), "Apache-2.0"),
        (dinov3_small.Settings(), "DINOv3 License"),
        (efficientnet_lite0.Settings(), "Apache-2.0"),
        (efficientnet_b0.Settings(), "BSD-3-Clause (torchvision"),
        (Timm(model="convnextv2_nano.fcmae"), "CC BY-NC 4.0 (not for commercial use)"),
    ],
    ids=str,
)
def test_the_licence_of_published_weights_is_known(settings: Any, licence: str) -> None:
    assert settings.published_licence().name.startswith(licence)
    assert settings.published_licence().source


# How channels enter.


@pytest.mark.parametrize("settings", [resnet18.Settings, efficientnet_lite0.Settings], ids=["resnet18", "lite0"])
@pytest.mark.parametrize("standardise", [False, True])
def test_each_channel_by_itself_is_a_grey_photograph(settings: Any, standardise: bool) -> None:
    photographs = build(settings(standardise=standardise), 3)
    each = build(settings(standardise=standardise, channels="each"), 2)
    each.load_state_dict(photographs.state_dict())
    crops = noise(3, 2, 64, 64)
    with torch.no_grad():
        expected = [photographs(crops[:, [channel] * 3]) for channel in (0, 1)]
        torch.testing.assert_close(each(crops), torch.cat(expected, dim=1))
    assert each.out_dim == 2 * photographs.out_dim


def test_the_map_of_each_channel_averages_to_the_vector_of_each_channel() -> None:
    settings = resnet18.Settings(channels="each")
    encoder, crops = build(settings, 2), noise(3, 2, 64, 64)
    with torch.no_grad():
        pooled = encoder(crops)
        flat = flattened_encoder(settings, encoder)(crops).reshape(*pooled.shape, -1)
    torch.testing.assert_close(flat.mean(dim=2), pooled)


def test_together_three_channels_are_red_green_and_blue() -> None:
    theirs = torchvision.models.resnet18(weights=None).eval()
    ours = build(resnet18.Settings(weights="f.pth"), 3)
    load_weights(ours, theirs.state_dict(), resnet18.Settings().tensor_names(ours), source="f", encoder_name="resnet18")
    assert torch.equal(ours.conv1.weight, theirs.conv1.weight)
    assert ours.pixel_mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_a_network_that_sees_each_channel_is_trained(training: Any) -> None:
    state, plan = training(encoder={"name": "resnet18", "channels": "each"}, input_px=32, epochs=1)
    before = state.encoder.conv1.weight.clone()
    losses = [step.metrics["loss"] for step in train(state, plan)]
    assert torch.tensor(losses).isfinite().all() and not torch.equal(before, state.encoder.conv1.weight)


# Frozen parts.


PARTS = [convnext_tiny, efficientnet_b0, efficientnet_lite0, dinov2_small, dinov3_small, resnet18, vgg11, vgg11_bn]


@pytest.mark.parametrize("module", PARTS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_the_parts_of_a_network_hold_every_parameter_once_in_the_order_of_the_crop(module: Any) -> None:
    settings = module.Settings()
    with torch.device("meta"):
        network = settings.build(3)
    names, count = [name for name, _ in network.named_parameters()], len(settings.parts(network))
    frozen = [settings.model_copy(update={"frozen_parts": k}).frozen_parameters(network) for k in range(count)]
    assert frozen[0] == () and all(set(few) < set(more) for few, more in itertools.pairwise(frozen))
    last = [
        name for name in names if any(name == one or name.startswith(f"{one}.") for one in settings.parts(network)[-1])
    ]
    assert sorted([*frozen[-1], *last]) == sorted(names)


def test_frozen_parts_keep_weights_and_statistics_in_both_encoders_and_the_others_learn(training: Any) -> None:
    state, plan = training(encoder={"name": "resnet18", "frozen_parts": 2}, input_px=32, epochs=1)
    networks = {"query": state.encoder, "key": state.momentum_encoder}
    before = {name: copy.deepcopy(network.state_dict()) for name, network in networks.items()}
    list(train(state, plan))
    for name, network in networks.items():
        changed = {
            key.partition(".")[0]
            for key, now in network.state_dict().items()
            if not torch.equal(now, before[name][key])
        }
        assert changed == {"layer2", "layer3", "layer4"}, name


def test_a_network_of_which_nothing_would_learn_is_refused(training: Any) -> None:
    with pytest.raises(UsageError, match="has 5 parts, and one must be trained") as caught:
        training(encoder={"name": "resnet18", "frozen_parts": 5}, input_px=32)
    assert caught.value.hint.startswith("set it to 4 or less")


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
    assert len(blocks) == 6
    assert [name for name in plugins.names(FOLDER) if f"`{name.removesuffix('_bn')}`" not in page] == []
