"""Encoders are torchvision's networks without their classifier: same tensors by name, same features."""

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from cellssl import rooms
from cellssl.errors import UsageError
from cellssl.learning.encoders import vgg11, vgg13, vgg13_bn
from cellssl.learning.initial import initialise
from cellssl.randomness import generator

ROOM = "cellssl.learning.encoders"
OF_TORCHVISION = [name for name in rooms.names(ROOM) if name.startswith(("vgg", "resnet"))]


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(generator("test", "encoders").random(shape, dtype="float32"))


def built(settings: Any, channels: int = 3) -> nn.Module:
    encoder: nn.Module = settings.build(channels)
    initialise(encoder, 0, "encoder")
    return encoder.eval()


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_weights_load_by_name_into_torchvision_s_network(name: str) -> None:
    with torch.device("meta"):  # names and shapes are enough, and a VGG's classifier is half a gigabyte
        ours, theirs = rooms.load(ROOM, name).Settings().build(3), torchvision.models.get_model(name, weights=None)
    there = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    here = {key: tensor.shape for key, tensor in ours.state_dict().items()}
    assert here == {key: shape for key, shape in there.items() if not key.startswith(("classifier", "fc"))}
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False, assign=True)
    assert unexpected == [] and {key.partition(".")[0] for key in missing} <= {"classifier", "fc"}


@pytest.mark.parametrize("settings", [vgg13.Settings(), vgg13_bn.Settings()], ids=["vgg13", "vgg13_bn"])
def test_a_vgg_gives_the_mean_of_torchvision_s_features(settings: Any) -> None:
    ours = built(settings)
    theirs = torchvision.models.get_model(settings.architecture, weights=None, init_weights=False).eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    crops = noise(2, 3, 68, 68)
    with torch.no_grad():
        torch.testing.assert_close(ours(crops), theirs.features(crops).mean(dim=(2, 3)))


def test_a_resnet_gives_what_torchvision_s_classifier_would_see() -> None:
    settings = rooms.load(ROOM, "resnet18").Settings()
    ours, theirs = built(settings), torchvision.models.resnet18(weights=None).eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    before_fc: list[torch.Tensor] = []
    theirs.fc.register_forward_pre_hook(lambda _, given: before_fc.append(given[0]))
    crops = noise(2, 3, 50, 50)
    with torch.no_grad():
        theirs(crops)
        torch.testing.assert_close(ours(crops), before_fc[0])


def test_another_number_of_channels_changes_the_first_convolution_only() -> None:
    three, five = (built(vgg11.Settings(), channels).state_dict() for channels in (3, 5))
    differing = {name for name in three if three[name].shape != five[name].shape}
    assert differing == {"features.0.weight"}
    assert all(torch.equal(three[name], five[name]) for name in three if name not in differing)


def test_a_width_of_nought_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        rooms.load(ROOM, "small").Settings(widths=(8, 0))


def test_a_crop_too_small_for_the_network_is_refused_with_the_cure(training: Any) -> None:
    with pytest.raises(UsageError, match="vgg11 cannot see crops of 31 px") as caught:
        training(encoder="vgg11", input_px=31)
    assert caught.value.hint == "use 32 px or more"
