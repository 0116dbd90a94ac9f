"""rank: the environment variables of torchrun in, the rank of this process among all processes out; needs no torch."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

ASK_EVERY_S = 0.2


@dataclass(frozen=True)
class Rank:
    """The number of this process among `count` processes, as torchrun gives it; 0 of 1 without torchrun."""

    number: int = 0
    count: int = 1
    local_rank: int = 0
    """The number among the processes of the same machine."""

    @classmethod
    def from_environment(cls) -> Rank:
        """Return the rank that torchrun gave, or that of a single process."""
        given = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
        if "MASTER_ADDR" not in os.environ or not all(text.isdecimal() for text in given):
            return cls()
        return cls(*map(int, given))

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.number == 0


def announce(rank: Rank, what: str, *, begins: bool) -> None:
    """Announce once, from the main process, that it begins to make `what`, or that there is nothing to do."""
    if rank.count > 1 and rank.is_main:
        rendezvous_store().set(what, "begins" if begins else "nothing to do")


def wait_for_main(what: str) -> bool:
    """Wait, as long as it takes, for the announcement of the main process; return whether it begins `what`.

    A signal ends the waiting.
    """
    store = rendezvous_store()
    while not store.check([what]):
        time.sleep(ASK_EVERY_S)
    return bool(store.get(what) == b"begins")


@cache
def rendezvous_store() -> Any:
    """Return the key-value store that torchrun keeps for its processes, through which they find each other."""
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(iter(rendezvous("env://")))
    return store
