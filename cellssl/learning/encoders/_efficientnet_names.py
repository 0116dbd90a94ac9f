"""_efficientnet_names: tensors of an EfficientNet under names of other libraries in; the same under timm's names out.

Published files of EfficientNet (and of its Lite variants) often have the names of the first port to PyTorch, such as
`_blocks.3._depthwise_conv.weight`; the tensors are those of timm, which numbers blocks by stage.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
WITHOUT_EXPANSION = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
WITH_EXPANSION = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
}
EXCITATION = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
BLOCK = re.compile(r"_blocks\.(\d+)\.([^.]+)\.(.+)")


def timm_names(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the tensors under timm's names; unchanged where they are not under the names of that port."""
    places = _places(tensors)
    if "_conv_stem.weight" not in tensors or not places:
        return tensors
    return {_renamed(str(name), places): tensor for name, tensor in tensors.items()}


def _renamed(name: str, places: Mapping[int, tuple[int, int]]) -> str:
    found = BLOCK.fullmatch(name)
    if found is None:
        layer, _, rest = name.partition(".")
        return f"{OUTSIDE.get(layer, layer)}.{rest}"
    block, layer, rest = int(found[1]), found[2], found[3]
    stage, place = places[block]
    layers = (WITH_EXPANSION if stage else WITHOUT_EXPANSION) | EXCITATION
    return f"blocks.{stage}.{place}.{layers.get(layer, layer)}.{rest}"


def _places(tensors: Mapping[str, Any]) -> dict[int, tuple[int, int]]:
    """Return block -> its stage, and its place there; {} where a block lacks a convolution.

    Within a stage all blocks have outputs of one size, and one size of kernel.
    """
    places: dict[int, tuple[int, int]] = {}
    stage, place = -1, 0
    before: tuple[int, int] | None = None
    for block in sorted({int(found[1]) for name in tensors if (found := BLOCK.fullmatch(str(name)))}):
        kernel, projection = (
            list(getattr(tensors.get(f"_blocks.{block}.{layer}.weight"), "shape", ()))
            for layer in ("_depthwise_conv", "_project_conv")
        )
        if len(kernel) != 4 or len(projection) != 4:
            return {}
        now = (projection[0], kernel[-1])
        stage, place = (stage, place + 1) if now == before else (stage + 1, 0)
        places[block], before = (stage, place), now
    return places
