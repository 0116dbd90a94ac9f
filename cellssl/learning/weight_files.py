"""weight_files: a file of tensors in, a network with these weights out; matched by name, either all tensors or none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch import Tensor, nn

from cellssl.bounded import open_regular
from cellssl.disk import raise_fault
from cellssl.errors import IntegrityError, UsageError
from cellssl.learning.encoder import TensorNames

if TYPE_CHECKING:
    from jaxtyping import Float

MAX_NAMED = 3
"""How many tensors an error names; the others are counted."""
COUNTER = ".num_batches_tracked"
"""A counter of batch norm. Old files lack it, and no result depends on it."""


def read_tensors(path: Path) -> dict[str, Any]:
    """Read a .safetensors file, or one written by torch.save; code in the file is never run.

    Raises IntegrityError where it is neither, or is broken.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        _check_unpacked(path)
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with path.open("rb") as file:  # given a path, torch hides why it cannot be read
            content = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(content, Mapping):
            raise TypeError(f"it holds a {type(content).__name__}, not tensors by name")
        return dict(content)
    except UnpicklingError as error:
        raise IntegrityError(
            f"the weights {path} cannot be read: it is not a plain state dict of tensors",
            hint="give a .safetensors file, or save the state dict alone: torch.save(network.state_dict(), path)",
        ) from error
    except (
        SafetensorError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, EOFError, OSError,
        MemoryError, OverflowError, BadZipFile, RecursionError, NotImplementedError, ArithmeticError,
    ) as error:  # fmt: skip
        raise_fault(error, path)
        raise IntegrityError(
            f"the weights {path} cannot be read: {_first_line(error)}",
            hint="give a complete .safetensors file, or a state dict written by torch.save; this one may be truncated",
        ) from error


def _check_unpacked(path: Path) -> None:
    """Raise ValueError where a file is no file, or an archive whose members are packed, which torch never does.

    A few packed bytes could stand for more than the memory holds.
    """
    with open_regular(path) as file:
        if file.read(4) != b"PK\x03\x04":
            return
        with ZipFile(file) as archive:
            packed = [member.filename for member in archive.infolist() if member.compress_type != ZIP_STORED]
    if packed:
        raise ValueError(f"its member {packed[0]} is packed, and torch.save does not pack")


def encoder_tensors(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the encoder's tensors: the entry "encoder", the names that begin with "encoder.", or all tensors."""
    alone = content.get("encoder")
    if isinstance(alone, Mapping):
        return alone
    prefixed = {
        name.removeprefix("encoder."): tensor for name, tensor in content.items() if str(name).startswith("encoder.")
    }
    return prefixed or content


def load_weights(
    network: nn.Module, tensors: Mapping[str, Any], names: TensorNames, *, source: str, encoder_name: str
) -> None:
    """Copy tensors into a network by name; only tensors of the classifier may be left over.

    `source` says in errors where the tensors come from, `encoder_name` which network it is. Raises UsageError, and
    leaves the network unchanged, where a tensor is missing, unknown or of another shape.
    """
    expected = network.state_dict()
    given = {name: tensor for name, tensor in tensors.items() if not _is_within(str(name), names.classifier)}
    for first in names.first:
        name = f"{first}.weight"
        if name in expected and _reads_rgb(given.get(name)):
            given[name] = adapt_first_conv(given[name], expected[name].shape[1])
    given |= {name: expected[name] for name in expected.keys() - given.keys() if name.endswith(COUNTER)}
    faults = mismatches(given, expected)
    if faults:
        raise UsageError(
            f"{source} does not fit the encoder {encoder_name}: {'; '.join(faults)}",
            hint="give weights of exactly this network with its own names, or choose the encoder that they belong to",
        )
    network.load_state_dict(given)


def adapt_first_conv(weight: Float[Tensor, "out 3 y x"], channels: int) -> Float[Tensor, "out channels y x"]:
    """Return the weights of a first convolution for another number of channels, as timm does it.

    The input channels are repeated in turn and scaled so that their sum stays the same; a single channel gets the sum.
    """
    given = weight.shape[1]
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    return weight[:, torch.arange(channels) % given] * (given / channels)


def mismatches(given: Mapping[str, Any], expected: Mapping[str, Tensor]) -> list[str]:
    """Return in words why tensors do not fit a network; empty where they fit."""
    missing = [name for name in expected if name not in given]
    unknown = [str(name) for name in given if name not in expected]
    misshapen = [
        f"{name} ({_shape(given[name])} in place of {_shape(tensor)})"
        for name, tensor in expected.items()
        if name in given and _shape(given[name]) != _shape(tensor)
    ]
    kinds = {"missing": missing, "unknown": unknown, "of another shape": misshapen}
    return [f"{len(found)} {kind}, {_first_names(found)}" for kind, found in kinds.items() if found]


def _is_within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{module}.") for module in modules)


def _reads_rgb(weight: Any) -> bool:
    return isinstance(weight, Tensor) and weight.ndim == 4 and weight.shape[1] == 3


def _shape(tensor: Any) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number" if isinstance(tensor, Tensor) else type(tensor).__name__


def _first_names(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
