"""stage_work: a planned stage in; its work, as a process of its own can do it, out."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cellssl.artifacts.hash_cache import FOLDER, HashCache
from cellssl.artifacts.locks import LockHolder
from cellssl.artifacts.store import Artifact, Store
from cellssl.device import granted_cores
from cellssl.engine.build import RunContext
from cellssl.engine.event_process import Outside
from cellssl.events import Event, Note
from cellssl.pipeline.execute import make
from cellssl.pipeline.planned import Planned
from cellssl.pipeline.pointers import Pointer


@dataclass(frozen=True)
class StageWork:
    """The making of one planned stage, with all that another process needs to know of it."""

    planned: Planned
    pointer: Pointer
    cores: int
    root: Path
    upstreams: tuple[Path, ...]
    trusts_hashes: bool
    device: str
    threads: int | None
    wait: bool
    force: bool
    refused: Mapping[str, str] | None

    @classmethod
    def of(cls, planned: Planned, pointer: Pointer, context: RunContext, cores: int) -> StageWork:
        """Return the work of a stage on `cores` cores; its pointer is left before the lock is released."""
        store = context.store
        return cls(
            planned.for_another_process(),
            pointer,
            cores,
            store.root,
            store.upstreams,
            store.hashes.trusted,
            context.device,
            context.threads,
            context.wait,
            context.force,
            context.refused,
        )

    def __call__(self, outside: Outside) -> Generator[Event, None, str]:
        """Find or make the stage; return the fingerprint of its artifact."""
        shown = partial(_show_reading, outside)
        store = Store(
            self.root,
            self.upstreams,
            HashCache(self.root.absolute() / FOLDER, trusted=self.trusts_hashes, shown=shown),
        )
        context = RunContext(
            store,
            device=self.device,
            threads=self.threads,
            wait=self.wait,
            force=self.force,
            waiting=_Waiting(outside),
            finished=partial(self.pointer.leave_to_made, store),
            refused=self.refused,
        )
        with granted_cores(self.cores):
            made: Artifact = yield from make(self.planned, context)
        return made.fingerprint


class _Waiting:
    """Says once of a process that it makes the same, and stops the waiting where it is asked to."""

    def __init__(self, outside: Outside) -> None:
        self._outside, self._named = outside, set[str]()

    def __call__(self, holder: LockHolder) -> None:
        if holder.token not in self._named:
            self._named.add(holder.token)
            self._outside.show(Note(says_waiting(holder)))
        self._outside.raise_if_stopped()


def says_waiting(holder: LockHolder) -> str:
    """Return the line that says which process the work waits for."""
    return f"waiting for process {holder.pid} on {holder.host}, which makes the same"


def _show_reading(outside: Outside, events: Iterable[Event]) -> None:
    for event in events:
        outside.show(event)
        outside.raise_if_stopped()
