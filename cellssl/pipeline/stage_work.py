"""stage_work: a planned stage in; its work, as a process of its own can do it, out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
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
            waiting=while_waiting(lambda text: outside.send(Note(text)), outside.raise_if_stopped),
            finished=partial(self.pointer.leave_to_made, store),
            refused=self.refused,
        )
        with granted_cores(self.cores):
            made: Artifact = yield from make(self.planned, context)
        return made.fingerprint


def while_waiting(say: Callable[[str], None], raise_if_stopped: Callable[[], None]) -> Callable[[LockHolder], None]:
    """Return what is called while another process makes the same: it says so once, and lets a stop through."""
    named: set[str] = set()

    def waiting(holder: LockHolder) -> None:
        if holder.token not in named:
            named.add(holder.token)
            say(f"waiting for process {holder.pid} on {holder.host}, which makes the same")
        raise_if_stopped()

    return waiting


def _show_reading(outside: Outside, events: Iterable[Event]) -> None:
    for event in events:
        outside.send(event)
        outside.raise_if_stopped()
