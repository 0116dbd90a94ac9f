"""distributed: the rank of one process of several in, its share of a batch and sums over all processes out.

Every process computes the features of its share of the batch and sends them to all others. So every objective sees the
whole batch, and each process computes the same loss. The gradient of the encoder is then the sum over processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from cellssl.errors import FailedError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from jaxtyping import Float
    from torch import Tensor, nn

    Split = TypeVar("Split", np.ndarray, Tensor)
from cellssl.rank import Rank, rendezvous_store

TIMEOUT_S = 300.0
"""How long the processes wait for each other once the main process has announced the training."""


@dataclass(frozen=True)
class Group:
    """The processes that train together; with one process nothing is split and nothing is sent."""

    rank: Rank = Rank()  # noqa: RUF009 - a frozen value

    def share(self, batch: Split) -> Split:
        """Return this process' share of a batch; the shares differ by one cell at most."""
        return batch[self._slice(len(batch))]

    def gather(self, own: Float[Tensor, "v own dim"], cells: int) -> Float[Tensor, "v b dim"]:
        """Return the features of the whole batch; gradients flow back to this process' own features."""
        if self.rank.count == 1:
            return own
        whole: Tensor = _gather_function()(own, self._slice(cells), cells)
        return whole

    def all_reduce_gradients(self, encoder: nn.Module, objectives: nn.Module) -> None:
        """Sum the encoder's gradient over processes; the heads' is equal in all, up to rounding, and is averaged."""
        if self.rank.count == 1:
            return
        import torch

        of_encoder = [weight.grad for weight in encoder.parameters() if weight.grad is not None]
        of_heads = [weight.grad for weight in objectives.parameters() if weight.grad is not None]
        flat = torch.cat(
            [gradient.flatten() for gradient in of_encoder]
            + [gradient.flatten() / self.rank.count for gradient in of_heads]
        )
        all_reduce_sum(flat)
        summed = flat.split([gradient.numel() for gradient in (*of_encoder, *of_heads)])
        for gradient, values in zip((*of_encoder, *of_heads), summed, strict=True):
            gradient.copy_(values.view_as(gradient))

    def broadcast(self, number: int) -> int:
        """Return the number that the main process gives; the other processes wait here for it."""
        if self.rank.count == 1:
            return number
        import torch

        return int(all_reduce_sum(torch.tensor(number if self.rank.is_main else 0)).item())

    def broadcast_continue(self, main_continues: bool) -> bool:
        """Return whether the main process does another step; the other processes wait here for its answer."""
        if self.rank.count == 1:
            return main_continues
        import torch

        answer = torch.tensor(float(main_continues and self.rank.is_main))
        all_reduce_sum(answer)
        return bool(answer.item())

    def _slice(self, cells: int) -> slice:
        number, count = self.rank.number, self.rank.count
        return slice(cells * number // count, cells * (number + 1) // count)


SINGLE_PROCESS = Group()


@contextmanager
def process_group(rank: Rank, device: torch.device) -> Iterator[Group]:
    """Join the process group, and leave it at the end."""
    if rank.count == 1:
        yield SINGLE_PROCESS
        return
    import torch.distributed as dist

    backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(
        backend, store=rendezvous_store(), rank=rank.number, world_size=rank.count, timeout=timedelta(seconds=TIMEOUT_S)
    )
    try:
        yield Group(rank)
    finally:
        dist.destroy_process_group()


def check_batch(cells: int, rank: Rank) -> None:
    """Raise UsageError where a process would get no cell of the batch."""
    if cells < rank.count:
        raise UsageError(
            f"a batch of {cells} cells cannot be shared among {rank.count} processes",
            hint=f"start {cells} processes or fewer, or raise pretrain.batch",
        )


def all_reduce_sum(values: Tensor) -> Tensor:
    """Sum over all processes, in place.

    Raises FailedError where one of the processes has ended.
    """
    import torch.distributed as dist

    try:
        dist.all_reduce(values)
    except RuntimeError as error:
        raise FailedError(
            f"one of the {dist.get_world_size()} processes that train together has ended",
            hint="see its own error above; the same command continues from the last checkpoint",
        ) from error
    return values


def _gather_function() -> Any:
    import torch

    class Gather(torch.autograd.Function):
        """The rows of all processes. All compute the same loss of all rows, so the own gradient is a slice of it."""

        @staticmethod
        def forward(ctx: Any, own: Tensor, part: slice, cells: int) -> Tensor:
            ctx.part = part
            whole = own.new_zeros(own.shape[0], cells, own.shape[2])
            whole[:, part] = own
            return all_reduce_sum(whole)  # 0 + x is x: shares of unequal length need no other kind of exchange

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
            return gradient[:, ctx.part], None, None

    return Gather.apply
