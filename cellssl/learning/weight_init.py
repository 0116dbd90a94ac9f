"""weight_init: a network and a seed in, the same network with weights drawn by name out.

A tensor's weights depend on the seed and its name only, so that a second branch, or another head, changes no other
tensor's start.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from cellssl.learning.encoder import EncoderSettings
from cellssl.randomness import hash64, torch_seeded


def begun(settings: EncoderSettings, channels: int, seed: int, name: str) -> nn.Module:
    """An encoder by its settings, whose first weights follow from seed and name; torch's generator stays as it was."""
    with torch_seeded("weights", seed, name):
        encoder = settings.build(channels)
    if not settings.draws_weights:
        initialise(encoder, seed, name)
    return encoder


def initialise(network: nn.Module, seed: int, name: str) -> None:
    """Draw every weight anew, in place: He normal (arXiv:1502.01852) for convolutions, uniform for linear layers."""
    with torch.no_grad():
        for path, module in network.named_modules():
            match module:
                case nn.Conv2d():
                    fan_out = module.out_channels * math.prod(module.kernel_size) // module.groups
                    module.weight.copy_(_normal(module.weight, seed, f"{name}.{path}.weight") * math.sqrt(2 / fan_out))
                    _zero(module.bias)
                case nn.Linear():
                    bound = 1 / math.sqrt(module.in_features)
                    module.weight.copy_(_uniform(module.weight, bound, seed, f"{name}.{path}.weight"))
                    if module.bias is not None:
                        module.bias.copy_(_uniform(module.bias, bound, seed, f"{name}.{path}.bias"))
                case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.SyncBatchNorm() | nn.LayerNorm():
                    module.reset_parameters()
                case _ if next(module.parameters(recurse=False), None) is not None:
                    raise NotImplementedError(f"no rule for the first weights of {path}, a {type(module).__name__}")


def unit_columns(rows: int, columns: int, seed: int, name: str) -> torch.Tensor:
    """Random unit vectors as the columns of a matrix: the first content of a queue."""
    return nn.functional.normalize(torch.randn(rows, columns, generator=_generator(seed, name)), dim=0)


def _normal(like: torch.Tensor, seed: int, name: str) -> torch.Tensor:
    return torch.randn(like.shape, generator=_generator(seed, name))


def _uniform(like: torch.Tensor, bound: float, seed: int, name: str) -> torch.Tensor:
    return torch.rand(like.shape, generator=_generator(seed, name)) * (2 * bound) - bound


def _generator(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(hash64("weights", seed, name))


def _zero(bias: torch.Tensor | None) -> None:
    if bias is not None:
        bias.zero_()
