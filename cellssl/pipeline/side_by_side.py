"""side_by_side: planned stages in; those that can begin, and those that are made at once, each in a process, out."""

from __future__ import annotations

import bisect
import multiprocessing.connection
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from cellssl.engine.event_process import EventProcess
from cellssl.errors import CellsslError
from cellssl.events import Event, Waiting
from cellssl.pipeline.needs import Needs
from cellssl.pipeline.planned import Planned

LOOK_EVERY_S = 0.2
"""Longest time without an event; a signal is looked for after each."""
WORTH_S = 6.0
"""Time that must be saved: further processes load libraries for some seconds before they begin."""
MEMORY_SHARE = 0.9
"""Share of the free memory that is given to stages."""


class Schedule:
    """The stages of a plan that are yet to be made, and which of them have all that they stand on."""

    def __init__(self, planned: Sequence[Planned]) -> None:
        """Take the stages in an order in which each comes after those that it stands on.

        A stage that several arms share is there for each of them; the later ones wait for the first.
        """
        self._planned = planned
        self._left = len(planned)
        self._awaited = [0] * len(planned)
        """How many stages each one waits for."""
        self._behind: list[list[int]] = [[] for _ in planned]
        """The stages that wait for each one."""
        made_by: dict[tuple[str, str], int] = {}
        for number, one in enumerate(planned):
            own = _key(one)
            before = {made_by[key] for key in (own, *map(_key, one.upstream.values())) if key in made_by}
            for other in before:
                self._behind[other].append(number)
            self._awaited[number] = len(before)
            made_by.setdefault(own, number)
        self._ready = [number for number, count in enumerate(self._awaited) if not count]

    def __bool__(self) -> bool:
        """Return whether any stage is left."""
        return self._left > 0

    def ready(self) -> list[tuple[int, Planned]]:
        """Return the stages that can begin now, with their numbers, in the order of the plan."""
        return [(number, self._planned[number]) for number in self._ready]

    def begin(self, number: int) -> None:
        """Take a stage out of those that can begin."""
        self._ready.remove(number)

    def finish(self, number: int) -> None:
        """Let the stages that waited for this one alone begin."""
        self._left -= 1
        for other in self._behind[number]:
            self._awaited[other] -= 1
            if not self._awaited[other]:
                bisect.insort(self._ready, other)


def _key(planned: Planned) -> tuple[str, str]:
    return planned.stage, planned.fingerprint


@dataclass(frozen=True)
class Running:
    """A stage that is being made in a process of its own."""

    number: int
    planned: Planned
    needs: Needs
    process: EventProcess


@dataclass
class SideBySide:
    """The stages that are being made at once: no more than there are jobs, cores and memory for."""

    jobs: int
    cores: int
    memory_mb: float
    """Free memory before the first of them has begun."""
    running: list[Running] = field(default_factory=list)

    def has_room(self, needs: Needs) -> bool:
        """Return whether a further stage can begin; a single one always can."""
        if not self.running:
            return True
        threads = sum(one.needs.threads or 1 for one in self.running) + (needs.threads or 1)
        memory_mb = sum(one.needs.memory_mb for one in self.running) + needs.memory_mb
        return len(self.running) < self.jobs and threads <= self.cores and memory_mb <= MEMORY_SHARE * self.memory_mb

    def events(self) -> Iterator[tuple[Running, Event]]:
        """Wait for a moment, and yield what has happened; stages that have ended are in `take_ended` afterwards."""
        pipes = {one.process.pipe: one for one in self.running}
        happened = multiprocessing.connection.wait(list(pipes), LOOK_EVERY_S)
        for pipe in happened:
            one = pipes[pipe]  # type: ignore[index]
            event = one.process.receive()
            yield one, event or Waiting()
        if not happened:
            yield self.running[0], Waiting()

    def take_ended(self) -> list[Running]:
        """Return the stages that have ended since the last call, which are not among the running ones any more."""
        ended = [one for one in self.running if one.process.outcome is not None]
        self.running = [one for one in self.running if one.process.outcome is None]
        return ended

    def stop(self, show: Callable[[Running, Event], None]) -> None:
        """Ask all stages to save what they must and to end; wait until they have ended, and show what happens."""
        for one in self.running:
            one.process.ask_to_stop()
        for one in self.running:
            while one.process.outcome is None:
                if (event := one.process.receive()) is not None:
                    show(one, event)

    def kill(self) -> None:
        """End the processes of all stages at once."""
        for one in self.running:
            one.process.kill()
        self.running = []


def are_worth_processes(needs: Sequence[Needs]) -> bool:
    """Return whether making these stages at once saves more time than starting processes takes."""
    seconds = [one.seconds for one in needs]
    return len(seconds) > 1 and sum(seconds) - max(seconds) >= WORTH_S


def fault_of(ended: Running) -> Exception | None:
    """Return what a stage that has ended raised, with the name of the stage in its message; None where it was made."""
    fault = ended.process.outcome.fault if ended.process.outcome is not None else None
    if isinstance(fault, CellsslError):
        fault.message = f"{ended.process.name}: {fault.message}"
    return fault
