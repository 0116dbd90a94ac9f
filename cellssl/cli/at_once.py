"""at_once: planned stages and a runner in; every stage made, those that one thread serves at once, on one console."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack

from cellssl.artifacts.store import Artifact
from cellssl.cli.console import Work
from cellssl.cli.runner import Runner
from cellssl.device import cores_of_process
from cellssl.engine.event_process import EventProcess
from cellssl.engine.resources import available_memory_mb
from cellssl.errors import UsageError
from cellssl.events import Event, Waiting
from cellssl.pipeline.needs import ALONE, Needs, needs_of
from cellssl.pipeline.planned import Planned
from cellssl.pipeline.rates import BASE_MB
from cellssl.pipeline.side_by_side import Running, Schedule, SideBySide, are_worth_processes, fault_of
from cellssl.pipeline.stage_work import StageWork


def make_all(runner: Runner, planned: Sequence[Planned], jobs: int | None) -> Artifact:
    """Find or make every stage; return the artifact of the last one.

    Stages that do not stand on each other, and that one thread serves, are made at once, at most `jobs` of them; the
    others one after another, each with all cores. With None that is as many as there are cores, where it saves time.
    """
    if not planned:
        raise UsageError("the recipe leaves nothing to make", hint="see cellssl status")
    schedule = Schedule(planned)
    made: dict[int, Artifact] = {}
    at_once = None if (jobs or cores_of_process()) == 1 else StagesAtOnce(runner, schedule, jobs)
    while schedule:
        if at_once is not None:
            made |= at_once.make()
        for number, one in schedule.ready()[:1]:
            schedule.begin(number)
            made[number] = runner.find_or_make(one)
            schedule.finish(number)
    return made[len(planned) - 1]


class StagesAtOnce:
    """Makes what can be made at once, as far as there are jobs, cores and memory; the rest is left in the schedule."""

    def __init__(self, runner: Runner, schedule: Schedule, jobs: int | None) -> None:
        """Make at most `jobs` stages at once; with None as many as there are cores, where that saves time."""
        self._runner, self._schedule, self._jobs = runner, schedule, jobs
        self._uses_processes = jobs is not None
        self._needs: dict[str, Needs] = {}
        self._missing: dict[int, Planned] = {}
        """Stages that could begin and are not in the store."""
        self._shown: dict[int, tuple[Work, ExitStack]] = {}
        self._made: dict[int, Artifact] = {}

    def make(self) -> dict[int, Artifact]:
        """Find or make stages until none is left that can be made beside others; return them by number.

        Where a stage fails, those that run beside it are made to their ends, nothing new begins, and its error is
        raised.
        """
        self._made = {}
        self._missing = {number: one for number, one in self._schedule.ready() if number in self._missing}
        self._find_those_there()
        if self._those_to_share():
            self._runner.check_device()
            self._runner.show_all(self._events(), lambda one: self._show(*one))
        return self._made

    def _show(self, one: Running, event: Event) -> None:
        self._runner.console.show(event, self._shown[one.number][0])

    def _events(self) -> Generator[tuple[Running, Event], None, None]:
        cores = cores_of_process()
        jobs = self._jobs or cores
        free_mb = (available_memory_mb() or float("inf")) - BASE_MB  # the fork server has the libraries, too
        at_once, faults = SideBySide(jobs, max(jobs, cores), free_mb), list[Exception]()
        try:
            yield from self._begin(at_once)
            while at_once.running:
                yield from at_once.events()
                ended = at_once.take_ended()
                faults += [fault for one in ended if (fault := self._finish(one)) is not None]
                if ended and not faults:
                    self._find_those_there()
                    yield from self._begin(at_once)
        except BaseException:
            at_once.stop(self._show)
            for one in at_once.take_ended():
                self._end(one)
            raise
        finally:
            at_once.kill()
            for _, shown in self._shown.values():
                shown.close()
            self._shown.clear()
        if faults:
            raise faults[0]

    def _find_those_there(self) -> None:
        """Take the stages that are in the store out of the schedule, in its order."""
        while True:
            new = next((pair for pair in self._schedule.ready() if pair[0] not in self._missing), None)
            if new is None:
                return
            number, planned = new
            found = self._runner.found(planned)
            if found is None:
                self._missing[number] = planned
            else:
                self._schedule.begin(number)
                self._runner.note_made(planned, found)
                self._made[number] = found
                self._schedule.finish(number)

    def _those_to_share(self) -> list[tuple[int, Planned, Needs]]:
        """Return the stages that can be made beside others, the longest first; none where that saves no time."""
        if len(self._missing) < 2 and not self._uses_processes:
            return []
        each = [(number, planned, self._needs_of(planned)) for number, planned in self._missing.items()]
        shared = [one for one in each if one[2].threads is not None]
        self._uses_processes |= are_worth_processes([needs for _, _, needs in shared])
        return sorted(shared, key=lambda one: -one[2].seconds) if self._uses_processes else []

    def _needs_of(self, planned: Planned) -> Needs:
        if planned.fingerprint not in self._needs:
            common = self._runner.common
            try:
                needs = needs_of(planned, self._runner.session.store, common.device, common.threads)
            except Exception:  # the stage itself says what is wrong
                needs = ALONE
            self._needs[planned.fingerprint] = needs
        return self._needs[planned.fingerprint]

    def _begin(self, at_once: SideBySide) -> Iterator[tuple[Running, Event]]:
        """Begin the stages that there is room for; a signal is looked for after each."""
        for number, planned, needs in self._those_to_share():
            if not at_once.has_room(needs):
                continue
            runner = self._runner
            self._schedule.begin(number)
            del self._missing[number]
            shown = ExitStack()
            working_on = runner.console.working_on(planned.stage, planned.arm, planned.seed_of_pointer, beside=True)
            self._shown[number] = shown.enter_context(working_on), shown
            runner.say_begins(planned, self._shown[number][0])
            context = runner.context(force=runner.is_made_again(planned))
            work = StageWork.of(planned, runner.pointer_of(planned), context, needs.threads or 1)
            one = Running(number, planned, needs, EventProcess(work, runner.title_of(planned)))
            at_once.running.append(one)
            yield one, Waiting()

    def _finish(self, one: Running) -> Exception | None:
        """Note a stage that has ended; return what it raised."""
        work, fault = self._shown[one.number][0], self._end(one)
        if fault is not None:
            return fault
        assert one.process.outcome is not None, "it has ended"
        made = self._runner.session.store.get(one.planned.stage, str(one.process.outcome.result))
        self._runner.say_done(one.planned, made, work)
        self._runner.note_made(one.planned, made)
        self._made[one.number] = made
        self._schedule.finish(one.number)
        return None

    def _end(self, one: Running) -> Exception | None:
        """Show a stage no longer; say and return what it raised."""
        work, shown = self._shown.pop(one.number)
        shown.close()
        fault = fault_of(one)
        if fault is not None:
            rest = "; what is made beside it is made to its end, and nothing new begins" if self._shown else ""
            self._runner.console.say(f"{one.process.name}: failed{rest}", work)
        return fault
