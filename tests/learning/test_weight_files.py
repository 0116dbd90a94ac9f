"""Published weights are loaded by name, all or none; the expected values come from torchvision and timm."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models import adapt_input_conv
from torch import nn
from torchvision.transforms.v2.functional import normalize

from cellssl.errors import IntegrityError, UsageError
from cellssl.learning.encoder import EncoderSettings
from cellssl.learning.encoders import resnet18, small, vgg11_bn
from cellssl.learning.encoders.timm import Settings as Timm
from cellssl.learning.weight_files import adapt_first_conv, load_weights, read_tensors, unwrap
from cellssl.learning.weight_init import init_encoder
from cellssl.randomness import generator, torch_seeded
from cellssl.stages.pretrain import initial_weights
from cellssl.stages.pretrain.settings import Settings


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(generator("test", "weights").random(shape, dtype="float32"))


def torchvision_network(name: str) -> nn.Module:
    """Return torchvision's whole network, with running statistics that are not the initial ones."""
    with torch_seeded("test", "torchvision"):
        network = torchvision.models.get_model(name, weights=None).train()
        network(noise(2, 3, 64, 64))
    return network.eval()


def loaded(settings: EncoderSettings, tensors: Any, channels: int = 3, seed: int = 7) -> nn.Module:
    """Return an encoder with these weights."""
    encoder = init_encoder(settings, channels, seed, "encoder")
    load_weights(
        encoder, tensors, settings.tensor_names(encoder), source="a file", encoder_name=settings.display_name()
    )
    return encoder.eval()


def test_torchvision_s_weights_give_torchvision_s_features_of_standardised_pixels(tmp_path: Path) -> None:
    theirs = torchvision_network("resnet18")
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    theirs.fc = nn.Identity()
    ours = loaded(resnet18.Settings(weights="resnet18.pth"), read_tensors(tmp_path / "resnet18.pth"))
    crops = noise(2, 3, 48, 48)
    with torch.no_grad():
        expected = theirs(normalize(crops, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        torch.testing.assert_close(ours(crops), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7])
def test_a_first_convolution_is_adapted_to_other_channels_as_in_timm(channels: int) -> None:
    weight = noise(8, 3, 5, 5)
    torch.testing.assert_close(adapt_first_conv(weight, channels), adapt_input_conv(channels, weight))


def test_grey_crops_give_the_same_output_whatever_the_number_of_channels() -> None:
    grey, weight = noise(2, 1, 9, 9), noise(8, 3, 5, 5)
    outputs = [nn.functional.conv2d(grey.expand(-1, n, -1, -1), adapt_first_conv(weight, n)) for n in (1, 3, 6)]
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(outputs[2], outputs[1])


@pytest.mark.parametrize("model", ["test_efficientnet", "test_vit", "test_convnext", "repvgg_a0"])
@pytest.mark.parametrize("channels", [3, 5])
def test_timm_s_weights_give_timm_s_features(model: str, channels: int, tmp_path: Path) -> None:
    with torch_seeded("test", "timm"):
        whole = timm.create_model(model)
        save_file(whole.state_dict(), tmp_path / "whole.safetensors")
        theirs = timm.create_model(
            model,
            pretrained=True,
            pretrained_cfg_overlay={"file": str(tmp_path / "whole.safetensors")},
            num_classes=0,
            in_chans=channels,
        ).eval()
    settings = Timm(model=model, weights="whole.safetensors", standardise=False)
    ours = loaded(settings, read_tensors(tmp_path / "whole.safetensors"), channels)
    crops = noise(2, channels, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(crops), theirs(crops))


def renamed(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of an EfficientNet-Lite0 file under timm's names; timm has the same ones in the same order."""
    tensors = torch.load(path, weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    return dict(zip(names, tensors.values(), strict=True))


def test_real_imagenet_weights_give_timm_s_features(shared_data: Path) -> None:
    file = shared_data / "weights" / "efficientnet-lite0-57934424.pth"
    if not file.is_file():
        pytest.skip(f"no ImageNet weights at {file}")
    tensors = renamed(file)
    theirs = timm.create_model("tf_efficientnet_lite0").eval()
    theirs.load_state_dict(tensors)
    ours, crops = loaded(Timm(model="tf_efficientnet_lite0", weights="here.pth"), tensors), noise(2, 3, 96, 96)
    with torch.no_grad():
        pooled = theirs.forward_head(theirs.forward_features(crops * 2 - 1), pre_logits=True)  # mean and sd are 0.5
        torch.testing.assert_close(ours(crops), pooled)
    with pytest.raises(UsageError, match=r"does not fit the encoder tf_efficientnet_lite0 of timm: \d+ missing"):
        loaded(Timm(model="tf_efficientnet_lite0"), read_tensors(file))  # they would fit by order, but names decide


def test_the_counter_of_batch_norm_may_be_missing_as_in_torchvision_s_oldest_files() -> None:
    theirs = torchvision_network("vgg11_bn")
    old = {name: tensor for name, tensor in theirs.state_dict().items() if not name.endswith("num_batches_tracked")}
    ours, crops = loaded(vgg11_bn.Settings(), old), noise(2, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(ours(crops), theirs.features(crops).mean(dim=(2, 3)))


def broken_tensors(change: str) -> dict[str, Any]:
    """Return resnet18's tensors with one fault."""
    tensors = dict(torchvision_network("resnet18").state_dict())
    match change:
        case "missing":
            del tensors["layer1.0.conv1.weight"]
        case "unknown":
            tensors["head.weight"] = torch.zeros(3)
        case "misshapen":
            tensors["layer4.1.conv2.weight"] = torch.zeros(512, 512, 1, 1)
        case "renamed":
            tensors = {f"module.{name}": tensor for name, tensor in tensors.items()}
        case "no tensor":
            tensors["conv1.weight"] = "text"
    return tensors


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("missing", "1 missing, layer1.0.conv1.weight$"),
        ("unknown", "1 unknown, head.weight$"),
        ("misshapen", r"1 of another shape, layer4.1.conv2.weight \(512 x 512 x 1 x 1 in place of 512 x 512 x 3 x 3\)"),
        ("renamed", "100 missing, conv1.weight, .* more; 122 unknown, module.conv1.weight, "),
        ("no tensor", r"1 of another shape, conv1.weight \(str in place of 64 x 3 x 7 x 7\)"),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_the_network_is_unchanged(change: str, sentence: str) -> None:
    encoder = init_encoder(resnet18.Settings(), 3, 0, "encoder")
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(UsageError, match=f"a file does not fit the encoder resnet18: {sentence}"):
        load_weights(
            encoder,
            broken_tensors(change),
            resnet18.Settings().tensor_names(encoder),
            source="a file",
            encoder_name="resnet18",
        )
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())


def test_weights_of_another_network_do_not_fit() -> None:
    with pytest.raises(UsageError, match="does not fit the encoder vgg11_bn"):
        loaded(vgg11_bn.Settings(), torchvision_network("resnet18").state_dict())


WRAPPED = {
    "": "{name}",
    "encoder": "{name}",
    "encoder.*": "encoder.{name}",
    "state_dict: module.*": "module.{name}",
    "model: backbone.*": "backbone.{name}",
    "state_dict: module.encoder_q.*": "module.encoder_q.{name}",
    "checkpoint.model: _orig_mod.*": "_orig_mod.{name}",
}


@pytest.mark.parametrize("place", WRAPPED)
def test_weights_are_found_under_the_wrappers_and_prefixes_of_other_tools(place: str) -> None:
    tensors = torchvision_network("resnet18").state_dict()
    content: Any = {WRAPPED[place].format(name=name): tensor for name, tensor in tensors.items()}
    if "*" in place:
        content |= {"projector.0.weight": torch.zeros(2)}
        content |= {f"module.encoder_k.{name}": tensor + 1 for name, tensor in tensors.items() if "encoder_q" in place}
    for entry in reversed(
        [part for part in place.partition(": ")[0].split(".") if part and "*" not in place.partition(": ")[0]]
    ):
        content = {entry: content, "step": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}}
    found = unwrap(content, tensors, "a file")
    assert_equal(dict(found.tensors), dict(tensors))
    assert found.place == place
    assert ("projector.0.weight" in found.words()) == ("*" in place)
    ours, crops = loaded(resnet18.Settings(), found.tensors), noise(2, 3, 64, 64)
    theirs = torchvision_network("resnet18")
    theirs.fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(ours(crops), theirs(crops))


def test_two_networks_that_fit_equally_well_are_an_error_that_names_both() -> None:
    tensors = init_encoder(small.Settings(widths=(4, 6)), 3, 0, "encoder").state_dict()
    with pytest.raises(UsageError, match="holds 2 networks that fit equally well, under left and right"):
        unwrap({"left": tensors, "right": tensors}, tensors, "a file")


def test_weights_for_another_number_of_channels_are_refused_with_that_cure() -> None:
    tensors = init_encoder(small.Settings(widths=(4, 6)), 5, 0, "encoder").state_dict()
    with pytest.raises(UsageError) as caught:
        loaded(small.Settings(widths=(4, 6)), tensors, channels=3)
    assert "they were trained on 5 channels and these cells have 3" in caught.value.hint


class TouchesFile:
    """A pickle that would run code when it is opened."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 half of a zip"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=f"the weights {path} cannot be read: ") as caught:
        read_tensors(path)
    assert "\n" not in caught.value.message


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    tensors = init_encoder(small.Settings(), 3, 0, "encoder").state_dict()
    torch.save(tensors, tmp_path / "whole.pth")
    save_file(tensors, tmp_path / "whole.safetensors")
    for whole in tmp_path.glob("whole.*"):
        half = whole.with_stem("half")
        half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        assert set(read_tensors(whole)) == set(tensors)
        with pytest.raises(IntegrityError, match="cannot be read"):
            read_tensors(half)


def test_code_in_a_file_of_weights_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": TouchesFile()}, tmp_path / "evil.pth")
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_tensors(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_a_file_without_tensor_names_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(IntegrityError, match="it holds a list, not tensors by name"):
        read_tensors(tmp_path / "list.pth")


def assert_equal(one: Any, other: Any) -> None:
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_heads_queues_optimiser_and_step_start_from_scratch(training: Any, tmp_path: Path) -> None:
    (earlier, _), (state, _) = training(seed=1), training(seed=0)
    torch.save({"encoder": earlier.encoder.state_dict()}, tmp_path / "last.ckpt")
    before = {name: tensor.clone() for name, tensor in state.objectives.state_dict().items()}
    settings = Settings(encoder=small.Settings(widths=(4, 6)), init_from=tmp_path / "last.ckpt")
    job: Any = SimpleNamespace(settings=settings, inputs={}, ran={})
    (note,) = initial_weights.load_initial_weights(job, state)
    assert "the encoder was found under encoder" in str(note)
    for encoder in (state.encoder, state.momentum_encoder):
        assert_equal(encoder.state_dict(), earlier.encoder.state_dict())
    assert_equal(before, state.objectives.state_dict())
    assert state.step == 0 and not state.optimizer.state
