"""Initial weights follow from seed and name, and have the distributions of the papers."""

import copy

import pytest
import torch
from torch import nn

from cellssl.learning.encoders.small import Settings as Small
from cellssl.learning.encoders.vgg11_bn import Settings as Vgg
from cellssl.learning.weight_init import init_encoder, init_weights, unit_columns


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Linear(100, 200), nn.Conv2d(64, 64, 3, bias=False))


def initialised(seed: int = 0, name: str = "encoder", of: nn.Module | None = None) -> nn.Module:
    module = of or network()
    init_weights(module, seed, name)
    return module


def test_the_same_seed_and_name_give_the_same_bits_whatever_the_state_of_torch_s_generator() -> None:
    torch.rand(3)  # advances the generator
    one, other = initialised().state_dict(), initialised().state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("other", [{"seed": 1}, {"name": "momentum"}])
def test_another_seed_or_name_gives_other_weights(other: dict[str, object]) -> None:
    ours, theirs = initialised(), initialised(**other)  # type: ignore[arg-type]
    assert not any(torch.equal(ours[i].weight, theirs[i].weight) for i in (0, 2, 3))  # type: ignore[index]


def test_the_weights_of_a_tensor_do_not_depend_on_other_tensors() -> None:
    longer = nn.Sequential(*copy.deepcopy(network()), nn.Linear(7, 7))
    assert torch.equal(initialised(of=longer)[2].weight, initialised()[2].weight)  # type: ignore[index]


def test_a_longer_network_starts_with_the_same_first_layers() -> None:
    short, long = initialised(of=Small(widths=(8, 16)).build(3)), initialised(of=Small(widths=(8, 16, 32)).build(3))
    shared = short.state_dict()
    assert shared and all(torch.equal(shared[name], long.state_dict()[name]) for name in shared)


def test_convolutions_are_he_normal_over_fan_out() -> None:
    weight = initialised(of=nn.Sequential(nn.Conv2d(32, 128, 3)))[0].weight  # type: ignore[index]
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert weight.mean().item() == pytest.approx(0, abs=0.001)


def test_linear_layers_are_uniform_within_one_over_root_of_fan_in() -> None:
    weight = initialised()[2].weight  # type: ignore[index]
    assert weight.abs().max() <= 0.1 and weight.abs().max() > 0.0995
    assert weight.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.02)


def test_every_tensor_of_a_network_is_set() -> None:
    filled = Vgg().build(2)
    for tensor in filled.state_dict().values():
        tensor.fill_(99)
    after = initialised(of=filled).state_dict()
    assert [name for name, tensor in after.items() if (tensor == 99).any()] == []


def test_a_layer_without_a_rule_is_an_error() -> None:
    with pytest.raises(NotImplementedError, match="no rule for the initial weights of 1, a PReLU"):
        init_weights(nn.Sequential(nn.Linear(2, 2), nn.PReLU()), 0, "encoder")


def test_an_encoder_has_the_initial_weights_of_its_layers() -> None:
    one, other = init_encoder(Small(), 3, 5, "encoder").state_dict(), initialised(5, of=Small().build(3)).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_columns_have_unit_length_and_follow_from_their_name() -> None:
    columns = unit_columns(16, 50, 0, "centre.queue0")
    torch.testing.assert_close(columns.norm(dim=0), torch.ones(50))
    assert torch.equal(columns, unit_columns(16, 50, 0, "centre.queue0"))
    assert not torch.equal(columns, unit_columns(16, 50, 0, "centre.queue1"))
