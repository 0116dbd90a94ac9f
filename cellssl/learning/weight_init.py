"""weight_init: a network and a seed in, the same network with initial weights drawn by name out.

The initial values of a tensor depend on the seed and its name only. A second branch, or another head, thus does not
change the initial values of any other tensor.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from cellssl.learning.encoder import EncoderSettings
from cellssl.randomness import hash64, torch_seeded


def init_encoder(settings: EncoderSettings, channels: int, seed: int, name: str) -> nn.Module:
    """Build an encoder with initial weights that follow from seed and name.

    The state of torch's own generator does not change.
    """
    with torch_seeded("weights", seed, name):
        encoder = settings.build(channels)
    if not settings.draws_weights:
        init_weights(encoder, seed, name)
    return encoder


def init_weights(network: nn.Module, seed: int, name: str) -> None:
    """Draw all weights in place: He normal (arXiv:1502.01852) for convolutions, uniform for linear layers."""
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
                    raise NotImplementedError(f"no rule for the initial weights of {path}, a {type(module).__name__}")


def unit_columns(rows: int, columns: int, seed: int, name: str) -> torch.Tensor:
    """Return a matrix whose columns are random unit vectors: the initial content of a queue."""
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
