"""batch_norm: a network in, the same network out, whose batch norm sees the cells of all processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cellssl.errors import UsageError
from cellssl.learning.training.distributed import Group, add


def shared(network: nn.Module, group: Group, device: torch.device) -> nn.Module:
    """Put synchronised batch norm in the place of every other; names, weights and buffers stay.

    On GPUs it is torch's, which has no way for CPUs; there it is the one below. UsageError for a batch norm of
    another make, such as timm's, which neither can take the place of.
    """
    if group.seat.count == 1:
        return network
    for norm in (each for each in network.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)):
        _check_plain(norm)
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return converted
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, _synchronised(child))
    return network


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm (arXiv:1502.03167) whose mean and variance are those of the batch of all processes."""

    def forward(self, crops: Tensor) -> Tensor:
        """In evaluation, and on one process, the same as torch's."""
        if not self.training:
            return super().forward(crops)
        pixels = crops.float()
        count = torch.tensor([pixels.numel() / pixels.shape[1]], device=crops.device)
        places = Summed.apply(torch.cat([pixels.sum(dim=(0, 2, 3)), count]))
        mean, count = places[:-1] / places[-1], places[-1].detach()
        centred = pixels - mean[:, None, None]
        variance = Summed.apply(centred.square().sum(dim=(0, 2, 3))) / count
        self._remember(mean.detach(), (variance * count / (count - 1)).detach())
        scale = self.weight / (variance + self.eps).sqrt()
        normalised: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return normalised.to(crops.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.running_mean.lerp_(mean, self.momentum or 0.1)
        self.running_var.lerp_(variance, self.momentum or 0.1)
        self.num_batches_tracked += 1


class Summed(torch.autograd.Function):
    """The sum over processes; each one's result reaches back to all, so the slopes are summed too."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        """Sum of everyone's."""
        return add(own.clone())

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        """Sum of everyone's slopes."""
        return add(slope.clone())


def _check_plain(norm: nn.Module) -> None:
    """A norm that does more, such as timm's with its activation, would lose that when another takes its place."""
    if type(norm) is not nn.BatchNorm2d or not (norm.affine and norm.track_running_stats):
        raise UsageError(
            f"several processes cannot share a batch norm of the kind {type(norm).__name__}",
            hint="train on one process, or choose another pretrain.encoder",
        )


def _synchronised(norm: nn.BatchNorm2d) -> SharedBatchNorm:
    ours = SharedBatchNorm(norm.num_features, norm.eps, norm.momentum)
    ours.load_state_dict(norm.state_dict())
    ours.requires_grad_(norm.weight.requires_grad)
    return ours
