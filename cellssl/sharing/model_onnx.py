"""model_onnx: an encoder in; the same network as an ONNX file, for programs without torch, out."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from typing import TYPE_CHECKING

from cellssl.artifacts.store import Artifact
from cellssl.errors import UsageError, reason_of
from cellssl.sharing.model_network import EXAMPLE_CELLS, INPUT
from cellssl.stages.shared.card_shapes import pretrain_metrics

if TYPE_CHECKING:
    import onnx
    from torch import nn

OPSET = 18
"""The version of ONNX's operators: the first that can average while it resizes, which transformers of timm need."""
OUTPUT = "vectors"
LIBRARIES = ("onnx", "onnxscript")
LARGEST_BYTES = 2**31 - 1
"""A file of ONNX in one piece cannot be larger."""


def check_installed() -> None:
    """Raise UsageError where a library for ONNX is missing; imports none."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise UsageError(f"--format onnx needs the library {missing[0]}", hint='pip install "cellssl[onnx]"')


def onnx_bytes(network: nn.Module, model: Artifact) -> bytes:
    """Return the ONNX file of an encoder: crops (n, channels, side, side) in [0, 1] to vectors (n, features).

    Raises UsageError where ONNX lacks an operation of the network, or the file would be too large.
    """
    import onnx

    found = pretrain_metrics(model)
    proto = converted(network, len(found.channels), found.input_px)
    _forget_where_it_was_made(proto)
    facts = {
        "fingerprint": model.fingerprint,
        "channels": ", ".join(found.channels),
        "input_px": str(found.input_px),
        "crop_px": str(found.crop_px),
    }
    onnx.helper.set_model_props(proto, facts)
    if proto.ByteSize() > LARGEST_BYTES:
        raise UsageError(
            "the network is too large for one ONNX file, which holds 2 GB at most", hint="leave out --format onnx"
        )
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True))


def converted(network: nn.Module, channels: int, side_px: int) -> onnx.ModelProto:
    """Return the network in ONNX, as torch writes it; UsageError where ONNX lacks an operation of it."""
    import torch
    from torch.onnx import OnnxExporterError

    example = torch.zeros(EXAMPLE_CELLS, channels, side_px, side_px)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), torch.no_grad():  # it reports as it goes
            program = torch.onnx.export(
                network.eval(),
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("cells", min=1)},),
                verbose=False,
            )
    except OnnxExporterError as error:
        raise UsageError(
            f"the network cannot be written as ONNX: {reason_of(error)}",
            hint="leave out --format onnx: network.py has the same network for torch",
        ) from error
    assert program is not None
    return program.model_proto


def _forget_where_it_was_made(proto: onnx.ModelProto) -> None:
    """Remove the paths and lines of source that torch writes beside every node: they name folders of this machine."""
    graphs = [proto.graph, *proto.functions]
    for part in graphs:
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
        for node in part.node:
            node.ClearField("doc_string")
            node.ClearField("metadata_props")
        for value in part.value_info:
            value.ClearField("doc_string")
            value.ClearField("metadata_props")
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        value.ClearField("doc_string")
        value.ClearField("metadata_props")
    proto.ClearField("doc_string")
    proto.ClearField("metadata_props")
