"""rank: the environment that torchrun sets in, the place of this process among several out; needs no torch."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Split = TypeVar("Split", np.ndarray, Tensor)


ASK_EVERY_S = 0.2


@dataclass(frozen=True)
class Rank:
    """Which of how many processes this one is, as torchrun says it; torch is not needed to know."""

    number: int = 0
    count: int = 1
    on_this_machine: int = 0

    @classmethod
    def from_environment(cls) -> Rank:
        """The seat that torchrun gave, or the only one."""
        given = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
        if "MASTER_ADDR" not in os.environ or not all(text.isdecimal() for text in given):
            return cls()
        return cls(*map(int, given))

    @property
    def is_main(self) -> bool:
        """Whether it is the one that writes and speaks."""
        return self.number == 0


def announce(seat: Rank, what: str, *, begins: bool) -> None:
    """Say once that the leader begins to make `what`, or that there is nothing to do."""
    if seat.count > 1 and seat.is_main:
        rendezvous_store().set(what, "begins" if begins else "nothing to do")


def wait_for_main(what: str) -> bool:
    """Wait, for as long as it takes, until the leader has told; a signal ends the waiting."""
    board = rendezvous_store()
    while not board.check([what]):
        time.sleep(ASK_EVERY_S)
    return bool(board.get(what) == b"begins")


@cache
def rendezvous_store() -> Any:
    """The store that torchrun keeps for its processes, and through which they meet."""
    from torch.distributed.rendezvous import rendezvous

    board, _, _ = next(iter(rendezvous("env://")))
    return board
