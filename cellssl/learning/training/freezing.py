"""freezing: a network and names of parameters in; the network out, of which a training leaves these as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from torch import nn


def freeze(network: nn.Module, names: Collection[str]) -> None:
    """Let a network train without the named parameters; modules of whose own all are named stay in evaluation mode.

    A copy of the network, such as the momentum encoder, has the same frozen modules.
    """
    frozen = frozenset(names)
    for name, parameter in network.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    for path, module in network.named_modules():
        own = [f"{path}.{name}" if path else name for name, _ in module.named_parameters(recurse=False)]
        if own and frozen.issuperset(own):
            module.is_frozen = True


def frozen_modules(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the frozen modules: batch norm among them uses its running statistics, and leaves them as they are."""
    return (module for module in network.modules() if is_frozen(module))


def is_frozen(module: nn.Module) -> bool:
    """Return whether a training leaves this module as it is."""
    return bool(getattr(module, "is_frozen", False))
