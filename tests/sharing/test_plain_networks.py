"""The network of every encoder, written as plain torch and as ONNX, gives the vectors of the network itself."""

import ast
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cellssl.config import plugins
from cellssl.learning.weight_init import init_encoder
from cellssl.randomness import generator
from cellssl.sharing.model_network import plain_network
from cellssl.sharing.model_onnx import converted

FOLDER = "cellssl.learning.encoders"
NAMES = plugins.names(FOLDER)
REQUIRED = {"timm": {"model": "test_efficientnet"}}
"""Settings without a default."""
QUICK = ("small", "resnet18")
WAYS = [{}, {"standardise": True}, {"channels": "each", "standardise": True}]
"""How crops enter a network."""


def cases(quick: tuple[str, ...]) -> list[Any]:
    """Every encoder with every way that it has; only the quick ones are not left to the long tests."""
    found = []
    for name in NAMES:
        known = plugins.load(FOLDER, name).Settings.model_fields
        for way in WAYS:
            if way.keys() <= known.keys():
                marks = () if name in quick and not way else pytest.mark.soak
                found.append(pytest.param(name, way, marks=marks, id=f"{name} {' '.join(map(str, way.values()))}"))
    return found


def network_of(name: str, way: dict[str, Any], channels: int) -> tuple[nn.Module, int]:
    """An encoder with drawn weights, in evaluation mode, and the side of crops that it takes."""
    settings = plugins.load(FOLDER, name).Settings(**REQUIRED.get(name, {}), **way)
    return init_encoder(settings, channels, 0, "encoder").eval(), max(37, settings.min_side_px()) // 8 * 8


def crops_of(cells: int, channels: int, side_px: int) -> torch.Tensor:
    return torch.from_numpy(generator("test", "shared").random((cells, channels, side_px, side_px), dtype="float32"))


@pytest.mark.parametrize(("name", "way"), cases(QUICK))  # the long ones take 2 min
def test_plain_torch_computes_what_the_network_computes_for_any_number_of_crops(name: str, way: dict[str, Any]) -> None:
    network, side_px = network_of(name, way, 2)
    plain = plain_network(network, 2, side_px, "test")
    imports = [node for node in ast.walk(ast.parse(plain.text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {alias.name for node in imports for alias in node.names} == {"torch", "torch.nn.functional"}
    read: dict[str, Any] = {}
    exec(plain.text, read)
    weights = {**network.state_dict(), **plain.constants}
    for cells in (1, 3):
        crops = crops_of(cells, 2, side_px)
        with torch.inference_mode():
            torch.testing.assert_close(read["forward"](weights, crops), network(crops), atol=1e-5, rtol=1e-5)


@pytest.mark.soak  # 3 min
@pytest.mark.parametrize(("name", "way"), cases(()))
def test_onnxruntime_computes_what_torch_computes_for_any_number_of_crops(name: str, way: dict[str, Any]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network, side_px = network_of(name, way, 2)
    content = converted(network, 2, side_px).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for cells in (1, 3):
        crops = crops_of(cells, 2, side_px)
        (vectors,) = session.run(["vectors"], {"crops": crops.numpy()})
        with torch.inference_mode():
            expected = network(crops).numpy()
        # vectors of a deep network that is not trained reach 400, where neighbouring float32 numbers lie 3e-5 apart
        assert np.abs(vectors - expected).max() < max(1e-4, 1e-5 * np.abs(expected).max())


def test_an_earlier_tensor_is_kept_as_long_as_it_is_needed() -> None:
    class Skips(nn.Module):
        out_dim = 3

        def forward(self, crops: torch.Tensor) -> torch.Tensor:
            first = crops.mean((2, 3))
            second = nn.functional.dropout(first, 0.5, training=False)
            third = second.sin()
            return first + third * second.cos() + first.sigmoid()

    read: dict[str, Any] = {}
    exec(plain_network(Skips(), 3, 8, "test").text, read)
    crops = crops_of(4, 3, 8)
    assert torch.equal(read["forward"]({}, crops), Skips()(crops))
