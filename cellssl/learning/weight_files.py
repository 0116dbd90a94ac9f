"""weight_files: a file of tensors in, a network that starts from them out; by name, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cellssl.errors import IntegrityError, UsageError
from cellssl.learning.encoder import Names

if TYPE_CHECKING:
    from jaxtyping import Float

SHOWN = 3
"""Tensors that an error names; the rest is counted."""
COUNTER = ".num_batches_tracked"
"""Of batch norm; files older than it lack it, and no result depends on it."""


def read(path: Path) -> dict[str, Any]:
    """What a .safetensors file, or one of torch.save's, holds; nothing in it is run.

    Raises IntegrityError where it is neither, or is broken.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, Mapping):
            raise TypeError(f"it holds a {type(content).__name__}, not tensors by name")
        return dict(content)
    except UnpicklingError as error:
        raise IntegrityError(
            f"the weights {path} cannot be read: it is no state dict of tensors alone",
            hint="give a .safetensors file, or save the state dict alone: torch.save(network.state_dict(), path)",
        ) from error
    except (
        SafetensorError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, EOFError, OSError,
    ) as error:  # fmt: skip
        raise IntegrityError(
            f"the weights {path} cannot be read: {_first_line(error)}",
            hint="give a .safetensors file, or a state dict that torch.save wrote; this one may be half of one",
        ) from error


def encoder_in(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The encoder of a checkpoint ("encoder"), of a state dict of several networks ("encoder."), or the only one."""
    alone = content.get("encoder")
    if isinstance(alone, Mapping):
        return alone
    among = {
        name.removeprefix("encoder."): tensor for name, tensor in content.items() if str(name).startswith("encoder.")
    }
    return among or content


def start_from(network: nn.Module, tensors: Mapping[str, Any], names: Names, *, source: str, whose: str) -> None:
    """Give a network the tensors of the same names.

    Only the classifier may be left over. `source` and `whose` say in an error what the tensors are, and of what the
    network is. Raises UsageError, and leaves the network as it was, where anything is missing, unknown or of another
    shape.
    """
    there = network.state_dict()
    given = {name: tensor for name, tensor in tensors.items() if not _within(str(name), names.classifier)}
    for first in names.first:
        name = f"{first}.weight"
        if name in there and _sees_photographs(given.get(name)):
            given[name] = seeing(given[name], there[name].shape[1])
    given |= {name: there[name] for name in there.keys() - given.keys() if name.endswith(COUNTER)}
    faults = differences(given, there)
    if faults:
        raise UsageError(
            f"{source} does not fit the encoder {whose}: {'; '.join(faults)}",
            hint="give weights of this very network under its own names, or choose the encoder that they are of",
        )
    network.load_state_dict(given)


def seeing(weight: Float[Tensor, "out 3 y x"], channels: int) -> Float[Tensor, "out channels y x"]:
    """A first convolution for another number of channels, as timm does it.

    The input channels are repeated in turn and scaled, so that the sum stays; a single channel gets their sum.
    """
    given = weight.shape[1]
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    return weight[:, torch.arange(channels) % given] * (given / channels)


def differences(given: Mapping[str, Any], there: Mapping[str, Tensor]) -> list[str]:
    """In words, what keeps tensors from being those of a network; empty where nothing does."""
    missing = [name for name in there if name not in given]
    unknown = [str(name) for name in given if name not in there]
    misshapen = [
        f"{name} ({_shape(given[name])} in place of {_shape(tensor)})"
        for name, tensor in there.items()
        if name in given and _shape(given[name]) != _shape(tensor)
    ]
    kinds = {"missing": missing, "unknown": unknown, "of another shape": misshapen}
    return [f"{len(found)} {kind}, {_some(found)}" for kind, found in kinds.items() if found]


def _within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{module}.") for module in modules)


def _sees_photographs(weight: Any) -> bool:
    return isinstance(weight, Tensor) and weight.ndim == 4 and weight.shape[1] == 3


def _shape(tensor: Any) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number" if isinstance(tensor, Tensor) else type(tensor).__name__


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
