"""distributed: one process of several that train one network in; shares of a batch, and sums over all processes, out.

Every process represents its share of the batch and shows its features to all others, so that every objective sees
the whole batch, and each process computes the same loss. The gradient of the encoder is then the sum over processes.
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

MEET_S = 300.0
"""How long the processes wait for each other once the first has said that it begins."""


@dataclass(frozen=True)
class Group:
    """The processes that train together; alone, nothing is shared and nothing is sent."""

    seat: Rank = Rank()  # noqa: RUF009 - a frozen value

    def share(self, batch: Split) -> Split:
        """This process' part of a batch; parts differ by one cell at most."""
        return batch[self._part(len(batch))]

    def gather(self, own: Float[Tensor, "v own dim"], cells: int) -> Float[Tensor, "v b dim"]:
        """The features of the whole batch, with a gradient to one's own."""
        if self.seat.count == 1:
            return own
        whole: Tensor = _gathering()(own, self._part(cells), cells)
        return whole

    def all_reduce_gradients(self, encoder: nn.Module, objectives: nn.Module) -> None:
        """Sum the encoder's gradient over processes; that of the heads is the same everywhere, up to rounding."""
        if self.seat.count == 1:
            return
        import torch

        slopes = [weight.grad for weight in encoder.parameters() if weight.grad is not None]
        shared = [weight.grad for weight in objectives.parameters() if weight.grad is not None]
        flat = torch.cat(
            [slope.flatten() for slope in slopes] + [slope.flatten() / self.seat.count for slope in shared]
        )
        add(flat)
        pieces = flat.split([slope.numel() for slope in (*slopes, *shared)])
        for slope, piece in zip((*slopes, *shared), pieces, strict=True):
            slope.copy_(piece.view_as(slope))

    def broadcast_continue(self, leader_goes_on: bool) -> bool:
        """What the leader says: whether there is a next step. Whoever does not lead waits for its word."""
        if self.seat.count == 1:
            return leader_goes_on
        import torch

        word = torch.tensor(float(leader_goes_on and self.seat.is_main))
        add(word)
        return bool(word.item())

    def _part(self, cells: int) -> slice:
        number, count = self.seat.number, self.seat.count
        return slice(cells * number // count, cells * (number + 1) // count)


SINGLE_PROCESS = Group()


@contextmanager
def together(seat: Rank, device: torch.device) -> Iterator[Group]:
    """Meet the other processes; part again at the end."""
    if seat.count == 1:
        yield SINGLE_PROCESS
        return
    import torch.distributed as dist

    backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(
        backend, store=rendezvous_store(), rank=seat.number, world_size=seat.count, timeout=timedelta(seconds=MEET_S)
    )
    try:
        yield Group(seat)
    finally:
        dist.destroy_process_group()


def check_batch(cells: int, seat: Rank) -> None:
    """Raise UsageError where some process would have nothing to do."""
    if cells < seat.count:
        raise UsageError(
            f"a batch of {cells} cells cannot be shared among {seat.count} processes",
            hint=f"start {cells} processes or fewer, or raise pretrain.batch",
        )


def add(values: Tensor) -> Tensor:
    """Sum over all processes, in place.

    FailedError where one of them is gone.
    """
    import torch.distributed as dist

    try:
        dist.all_reduce(values)
    except RuntimeError as error:
        raise FailedError(
            f"one of the {dist.get_world_size()} processes that train together is gone",
            hint="look for its own error above; the same command goes on from the last checkpoint",
        ) from error
    return values


def _gathering() -> Any:
    import torch

    class Gather(torch.autograd.Function):
        """Every process' rows put together; everyone computes the same loss of all, so one's own slope is a slice."""

        @staticmethod
        def forward(ctx: Any, own: Tensor, part: slice, cells: int) -> Tensor:
            ctx.part = part
            whole = own.new_zeros(own.shape[0], cells, own.shape[2])
            whole[:, part] = own
            return add(whole)  # 0 + x is x: shares of unequal length need no other kind of exchange

        @staticmethod
        def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
            return slope[:, ctx.part], None, None

    return Gather.apply
