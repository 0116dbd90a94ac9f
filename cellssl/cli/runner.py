"""runner: planned stages in, finished artifacts out; prints which stage begins, is up to date, or is done."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from cellssl.artifacts.export import copy_card, copy_files
from cellssl.artifacts.hash_cache import FOLDER, HashCache
from cellssl.artifacts.store import Artifact, Store
from cellssl.cli.console import Console, Work, open_log, stage_title
from cellssl.cli.options import Common
from cellssl.cli.signals import StopSignals
from cellssl.config import recipe as recipes
from cellssl.config.overrides import pointers_of
from cellssl.device import granted_cores
from cellssl.engine.build import RunContext
from cellssl.engine.cards import lost_files
from cellssl.errors import UsageError
from cellssl.events import Event
from cellssl.pipeline.blocks import with_named_block
from cellssl.pipeline.execute import assist, find_finished, make, not_compared
from cellssl.pipeline.planned import Planned
from cellssl.pipeline.plates import PlatePlan, plan_plate
from cellssl.pipeline.pointers import Pointer
from cellssl.pipeline.report_inputs import POINTER_THEN
from cellssl.pipeline.session import Selection, Session
from cellssl.pipeline.stage_work import while_waiting
from cellssl.pipeline.sweep_arms import expand_sweep
from cellssl.rank import Rank, announce, wait_for_main

if TYPE_CHECKING:
    from cellssl.pipeline.estimates import Estimates

Result = TypeVar("Result")
Shown = TypeVar("Shown")


def console_for(common: Common) -> Console:
    """Return the console that the flags ask for; of several processes, only the main one prints."""
    if not Rank.from_environment().is_main:
        return Console(quiet=True)
    if common.log_format not in ("text", "json"):
        raise UsageError(f"--log-format {common.log_format!r} is not known", hint="use text or json")
    return Console(common.quiet, common.json, open_log(common.log_file), common.log_format == "json")


def open_session(reference: str, common: Common, console: Console) -> Session:
    """Read the recipe, expand its sweep, and open the store."""
    recipe = expand_sweep(recipes.load(reference, common.overrides or [], common.arm), common.arm)
    recipe = with_named_block(recipe, common.arm)
    return Session(recipe, _store(common, console), _selection(common))


def session_without_recipe(common: Common, console: Console) -> Session:
    """Open a session for what is made of artifacts alone."""
    if common.arm is not None or common.seed is not None:
        raise UsageError("--arm and --seed choose from a recipe, not from artifacts", hint="leave them out")
    return Session(recipes.by_hand(common.overrides or []), _store(common, console), _selection(common))


def _store(common: Common, console: Console) -> Store:
    """Open the stores; a reading of many files is shown. With --force, files of the user are read again."""
    root, upstreams = common.stores()
    hashes = HashCache(root.absolute() / FOLDER, trusted=not common.force, shown=console.show_reading)
    return Store(root, upstreams, hashes)


def _selection(common: Common) -> Selection:
    return Selection(common.arm, common.seed, common.plate, tuple(common.inputs or ()), common.as_flags())


def foreseen(
    rows: Sequence[dict[str, Any]], *, force: bool, only_last: bool
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return the stages that a command would make, and the stage at which it would stop, None where it would not.

    It stops at a result that is outdated, unless --force makes it again (exit code 5); a command that makes the last
    stage alone also stops where another one is not there (exit code 2). The blocks of `embed` are of that stage, too.
    """
    would_make = []
    for row in rows:
        is_made = not only_last or row["stage"] == rows[-1]["stage"]
        if is_made and (force or row["state"].startswith(("missing", "partial", "incomplete"))):
            would_make.append(row)
        elif row["state"] != "done":
            return would_make, row
    return would_make, None


@dataclass
class Runner:
    """Makes what a session has planned, and shows it on a console."""

    session: Session
    common: Common
    console: Console
    refused: Mapping[str, str] | None = None
    """Plates that the check before has refused, each with the reason; None before a check."""
    _signals: StopSignals = field(default_factory=StopSignals, repr=False)
    _shown: set[str] = field(default_factory=set, repr=False)
    """Fingerprints that have been made or found by this runner."""
    _changes: dict[str, str] = field(default_factory=dict, repr=False)
    """When the stages were last made again with other defaults, by fingerprint."""

    @classmethod
    def of(cls, reference: str, common: Common) -> Runner:
        """Return the runner of a recipe."""
        console = console_for(common)
        return cls(open_session(reference, common, console), common, console)

    def find_or_make(self, planned: Planned) -> Artifact:
        """Find or make one stage, and leave a pointer to its artifact."""
        found = self.found(planned)
        if found is None:
            again = self.is_made_again(planned)
            self.check_device()
            with self.console.working_on(planned.stage, planned.arm, planned.seed_of_pointer) as work:
                self.say_begins(planned, work)
                pointed = partial(self.pointer_of(planned).leave_to_made, self.session.store)
                found = self.run(make(planned, replace(self.context(force=again), finished=pointed)))
            self.say_done(planned, found, work)
        self.note_made(planned, found)
        return found

    @staticmethod
    def title_of(planned: Planned) -> str:
        """Return what people call the making of a stage."""
        return stage_title(planned.stage, planned.arm, planned.seed_of_pointer)

    def found(self, planned: Planned) -> Artifact | None:
        """Return the finished artifact of a stage, and say so once; None where it is to be made."""
        if self.is_made_again(planned):
            return None
        found = find_finished(planned, self.session.store, set(self._shown), self._changes)
        if found is not None and planned.fingerprint not in self._shown:
            self.console.say(f"{self.title_of(planned)}: up to date, {found.path}")
            self._say_not_compared(self.title_of(planned), found)
        return found

    def is_made_again(self, planned: Planned) -> bool:
        """Return whether a stage is made whatever there is, because of --force, and was not yet."""
        return self.common.force and planned.fingerprint not in self._shown

    def say_begins(self, planned: Planned, work: Work) -> None:
        """Say that the making of a stage begins, and why where an earlier result is incomplete."""
        title, store = self.title_of(planned), self.session.store
        former = None if self.is_made_again(planned) else store.find(planned.stage, planned.fingerprint)
        if former is not None and (lost := lost_files(former, store)):
            self.console.say(f"{title}: {lost[0]} is gone, so it is made again", work)
        self.console.say(f"{title}: begins", work)

    def say_done(self, planned: Planned, made: Artifact, work: Work) -> None:
        """Say that a stage has been made."""
        self._changes.pop(planned.fingerprint, None)
        self.console.say(f"{self.title_of(planned)}: done in {made.card.run['seconds']:,.0f} s, {made.path}", work)

    def note_made(self, planned: Planned, made: Artifact) -> None:
        """Remember that a stage is there, and leave a pointer to it."""
        announce(Rank.from_environment(), planned.fingerprint, begins=False)  # ends the waiting of other processes
        self._shown.add(planned.fingerprint)
        self.pointer_of(planned).leave(self.session.store, made)

    def keep_earlier(self, planned: Planned) -> None:
        """Leave a pointer to what a report was compared with, so that `cellssl gc` keeps it with the report."""
        if (earlier := self.session.earlier) is not None:
            then = earlier.artifacts[0]  # a report, or artifacts that are inputs of the page in any case
            pointer = self._pointer(then.fingerprint, planned.arm, planned.seed_of_pointer, POINTER_THEN)
            pointer.leave(self.session.store, then)

    def _say_not_compared(self, title: str, found: Artifact) -> None:
        files = not_compared(found, self.session.store)
        if files:
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            words = "not compared with the card since it came here or changed"
            self.console.say(f"{title}: {files[0]}{more}: {words}; cellssl verify {found.path} does so")

    def make_plate(self, plan: PlatePlan) -> Artifact:
        """Find or make one plate's part of fetch or segment, and leave a pointer to it."""
        pointer = self._pointer(plan.card.fingerprint, self.session.arm, None, plan.pointer)
        with self.console.working_on(plan.stage):
            pointed = partial(pointer.leave_to_made, self.session.store)
            artifact = self.run(plan.make(replace(self.context(force=self.common.force), finished=pointed)))
        self.console.say(f"{plan.stage}: plate {plan.plate} is {artifact.path}")
        pointer.leave(self.session.store, artifact)
        return artifact

    def download_models(self, to: str) -> None:
        """Download the models of hubs that the selected arms name up to a stage: they are planned with."""
        from cellssl.pipeline.doctor import models_to_download

        for download in models_to_download(self.session, to):
            with self.console.working_on("download"):
                self.run(download.fetch(self.context()))

    def assist(self, stage: str) -> None:
        """Work as one of several processes on a stage; while it runs, only the main process handles signals."""
        if not self.common.dry_run:
            self.download_models(stage)
        planned = self.session.with_inputs(stage).plan_stage(stage)[-1]
        if self.common.dry_run or not wait_for_main(planned.fingerprint):
            return
        with self._signals.listening():
            assist(planned, self.context(force=self.common.force))
        self._signals.raise_if_stopped()

    def context(self, *, force: bool = False) -> RunContext:
        """Return where and how results are made."""
        common = self.common
        return RunContext(
            self.session.store,
            device=common.device,
            threads=common.threads,
            wait=not common.no_wait,
            force=force,
            waiting=while_waiting(self.console.say, self._signals.raise_if_stopped),
            refused=self.refused,
        )

    def show_all(self, work: Generator[Shown, None, Result], show: Callable[[Shown], None]) -> Result:
        """Show all that some work yields and return its result; a signal stops it gently."""
        return self._signals.run(work, show)

    def run(self, work: Generator[Event, None, Result]) -> Result:
        """Show every event of some work and return its result; a signal stops it gently."""
        with granted_cores(self.common.threads):
            return self.show_all(work, self.console.show)

    def write_output(
        self, artifact: Artifact, *, print_path: bool = True, more: Mapping[str, Any] | None = None
    ) -> None:
        """Write the copies that --output asks for, and the result line, unless stdout is taken; --json has `more`."""
        if self.common.output is not None:
            write = copy_card if self.common.output.suffix == ".json" else copy_files
            write(artifact, self.common.output)
        if not print_path:
            return
        details = {
            "kind": artifact.card.kind,
            "fingerprint": artifact.fingerprint,
            "path": str(artifact.path),
            "metrics": artifact.card.metrics,
            **(more or {}),
        }
        self.console.result(str(artifact.path), details)

    def show_plan(
        self,
        rows: list[dict[str, Any]],
        words: str = "",
        details: Mapping[str, Any] | None = None,
        *,
        only_last: bool = False,
        table: tuple[list[str], list[list[str]]] | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        """Show what the command would make: one row per stage, where it would stop, and what else is known.

        `only_last` says that the command makes the last stage alone, so that all others must be there.
        """
        for row in rows:
            seed = "" if row["seed"] is None else f" seed {row['seed']}"
            self.console.say(f"{row['stage']} {row['arm']}{seed}: {row['state']} {row['fingerprint']}")
        if table is not None and table[1]:
            self.console.table(*table)
        for warning in warnings:
            self.console.say(warning)
        would_make, stop = foreseen(rows, force=self.common.force, only_last=only_last)
        line = f"{len(would_make)} of {len(rows)} stages would be made" + (f": {words}" if words else "")
        if stop is not None:
            line += f"; then the command would stop: {stop['stage']} {stop['arm']} is {stop['state']}"
        self.console.result(line, {"would_make": would_make, "stops_at": stop, "stages": len(rows), **(details or {})})

    def show_estimated_plan(self, planned: Sequence[Planned]) -> None:
        """Show what would be made of a whole recipe, and the time, memory and disk that it will take."""
        rows = self.session.states(one for one in planned if one.stage != "report")
        would_make, _ = foreseen(rows, force=self.common.force, only_last=False)
        if not would_make:
            self.check_device()
            self.show_plan(rows)
            return
        found = self.estimated(planned, would_make)
        self.show_plan(
            rows,
            found.in_words(),
            {
                "estimates": [asdict(one) for one in found.stages],
                "warnings": found.warnings,
                "guessed": found.guesses,
                "seconds": found.seconds,
            },
            table=found.header_and_rows(),
            warnings=found.warnings,
        )

    def estimated(self, planned: Sequence[Planned], rows: Sequence[Mapping[str, Any]]) -> Estimates:
        """Return the estimates of the stages in `rows`, and of a report."""
        from cellssl.pipeline.estimates import estimates

        wanted = {(row["stage"], row["fingerprint"]) for row in rows}
        todo = [one for one in planned if one.stage == "report" or (one.stage, one.fingerprint) in wanted]
        return estimates(self.session, todo, self.common.device)

    def stage_rows(self, stage: str) -> list[dict[str, Any]]:
        """Return the states of a stage and of the stages that it depends on, or of one plate's part."""
        session = self.session.with_inputs(stage)
        if self.common.plate is None:
            return session.states(session.plan_stage(stage))
        part = plan_plate(session, stage, self.common.plate)
        row = {"stage": stage, "arm": session.arm, "seed": None, "fingerprint": part.card.fingerprint}
        return [{**row, "state": session.state(part.card, part.counted)}]

    def pointer_of(self, planned: Planned) -> Pointer:
        """Return the pointer to the artifact of a stage."""
        return self._pointer(
            planned.fingerprint, planned.arm, planned.seed_of_pointer, planned.pointer or planned.stage
        )

    def _pointer(self, fingerprint: str, arm: str, seed: int | None, stage: str) -> Pointer:
        """Return the pointer to an artifact, which keeps it from `cellssl gc` from before its lock is released."""
        name, overrides = self._pointers
        return Pointer(name, tuple(overrides), arm, seed, stage, fingerprint)

    @cached_property
    def _pointers(self) -> tuple[str, list[str]]:
        recipe = self.session.recipe
        if recipe.name == recipes.BY_HAND:
            return recipe.name, []
        return pointers_of(recipe, self.common.overrides or [])

    def check_device(self) -> None:
        """Raise UsageError for a GPU that is not there before the first plate, not after the last."""
        if self.common.device not in ("auto", "cpu"):
            from cellssl.device import device_for

            device_for(self.common.device)
