"""batch_norm: a network in, the same one out, with batch norm statistics of all processes, or of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cellssl.errors import UsageError
from cellssl.learning.training.distributed import Group, all_reduce_sum
from cellssl.learning.training.freezing import is_frozen


def convert_sync_batch_norm(network: nn.Module, group: Group, device: torch.device) -> nn.Module:
    """Replace every batch norm by a synchronised one; names, weights and buffers stay.

    On GPUs this is torch's SyncBatchNorm. It does not run on CPUs, so there the class below is used.

    Raises UsageError for a batch norm of another class, such as timm's, which neither can replace.
    """
    if group.rank.count == 1:
        return network
    for norm in (module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)):
        _check_plain(norm)
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return converted
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, _to_sync_batch_norm(child))
    return network


@contextmanager
def batch_statistics(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let batch norm use the statistics of each batch, as in training, and leave its running statistics as they are.

    With running statistics, the features of a batch differ from those that a queue has kept from training; a
    contrastive loss then tells the two apart instead of the cells, and is far too low in the first epochs.
    """
    found = (norm for module in modules for norm in module.modules())
    norms = [norm for norm in found if isinstance(norm, nn.modules.batchnorm._BatchNorm) and not is_frozen(norm)]
    before = [(norm.training, norm.track_running_stats) for norm in norms]
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm, (training, tracks) in zip(norms, before, strict=True):
            norm.training, norm.track_running_stats = training, tracks


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm (arXiv:1502.03167) with the mean and variance of the batch of all processes."""

    def forward(self, crops: Tensor) -> Tensor:
        """Return the normalised crops; in evaluation, and with one process, the same as torch's batch norm."""
        if not self.training:
            return super().forward(crops)
        pixels = crops.float()
        count = torch.tensor([pixels.numel() / pixels.shape[1]], device=crops.device)
        sums = AllReduceSum.apply(torch.cat([pixels.sum(dim=(0, 2, 3)), count]))
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        centred = pixels - mean[:, None, None]
        variance = AllReduceSum.apply(centred.square().sum(dim=(0, 2, 3))) / count
        if self.track_running_stats:
            self._update_running_statistics(mean.detach(), (variance * count / (count - 1)).detach())
        scale = self.weight / (variance + self.eps).sqrt()
        normalised: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return normalised.to(crops.dtype)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.running_mean.lerp_(mean, self.momentum or 0.1)
        self.running_var.lerp_(variance, self.momentum or 0.1)
        self.num_batches_tracked += 1


class AllReduceSum(torch.autograd.Function):
    """The sum over processes. Every process uses the result, so the gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        """Return the sum of the values of all processes."""
        return all_reduce_sum(own.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the sum of the gradients of all processes."""
        return all_reduce_sum(gradient.clone())


def _check_plain(norm: nn.Module) -> None:
    """Raise UsageError for a norm that does more, such as timm's with its activation: replacing it would lose that."""
    if type(norm) is not nn.BatchNorm2d or not (norm.affine and norm.track_running_stats):
        raise UsageError(
            f"batch norm of the class {type(norm).__name__} cannot be shared between several processes",
            hint="train on one process, or choose another pretrain.encoder",
        )


def _to_sync_batch_norm(norm: nn.BatchNorm2d) -> SyncBatchNorm2d:
    synchronised = SyncBatchNorm2d(norm.num_features, norm.eps, norm.momentum)
    synchronised.load_state_dict(norm.state_dict())
    synchronised.requires_grad_(norm.weight.requires_grad)
    return synchronised
