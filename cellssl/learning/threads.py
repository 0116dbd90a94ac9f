"""threads: a network and the side of its input in, the number of threads that it trains with out.

The order in which gradients are added up depends on the number of threads, and with it the last bits of all weights. So
the number is part of the work: it is chosen once per training, and kept when the training is resumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellssl.device import allowed_threads, granted_cores

if TYPE_CHECKING:
    from torch import nn

SMALL_NETWORK = 10_000_000
"""Multiply-adds per image. A smaller network trains in minutes on one thread, and so has the same bits on machines with
any number of cores. On two idle cores a second thread makes a step of `small` faster by 8 % at 0.7 million, by 30 % at
4 million, by 45 % at 8.5 million (the demo), by 60 to 70 % at 20 million and more; a whole training by less, and beside
other work the second thread makes it slower. Another training on that core does twice the work."""


def threads_for(multiply_adds: int, allowed: int) -> int:
    """Return 1 for a small network, and all allowed threads for a larger one."""
    return 1 if multiply_adds < SMALL_NETWORK else allowed


@dataclass(frozen=True)
class NetworkSize:
    """What a network does to one image."""

    multiply_adds: int
    """Those of all convolutions and linear layers, as papers describe a network."""
    outputs: int
    """Numbers that all layers give out; a training keeps most of them for its backward pass."""


def network_size(network: nn.Module, channels: int, side_px: int) -> NetworkSize:
    """Return what a network does to one image, by letting it see a black one.

    torch's own counter of multiply-adds loads its compiler, which takes seconds.
    """
    import torch
    from torch import Tensor, nn

    products: list[int] = []
    outputs: list[int] = []

    def count(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append(output.numel() if isinstance(output, Tensor) else 0)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            products.append(layer.weight.numel() * output.numel() // layer.weight.shape[0])

    hooks = [layer.register_forward_hook(count) for layer in network.modules() if not list(layer.children())]
    was_training, device = network.training, next(network.parameters()).device
    with torch.no_grad():
        network.eval()(torch.zeros(1, channels, side_px, side_px, device=device))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return NetworkSize(sum(products), sum(outputs))


def multiply_adds(network: nn.Module, channels: int, side_px: int) -> int:
    """Return the multiply-adds of all convolutions and linear layers for one image."""
    return network_size(network, channels, side_px).multiply_adds


def threads_of(network: nn.Module, channels: int, side_px: int, asked: int | None = None) -> int:
    """Return the threads of a network on this machine; `asked` are those of --threads, which come first."""
    return asked or threads_for(multiply_adds(network, channels, side_px), allowed_threads())


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch, and the views of cells, use `count` threads.

    More than there are cores compute the same bits, only slower.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with granted_cores(count):
            yield
    finally:
        torch.set_num_threads(before)
