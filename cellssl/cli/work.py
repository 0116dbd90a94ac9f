"""work: a recipe and flags in, finished artifacts out; drives the stages, and stops them gently when asked to."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from cellssl.artifacts.card import Card
from cellssl.artifacts.export import copy_card, copy_files
from cellssl.artifacts.locks import LockHolder
from cellssl.artifacts.store import Artifact, Store
from cellssl.cli.console import Console, open_log
from cellssl.cli.options import Common
from cellssl.config import recipe as recipes
from cellssl.config.plugins import did_you_mean
from cellssl.config.recipe import Recipe
from cellssl.engine.build import RunContext
from cellssl.errors import FailedError, InterruptedByUserError, UsageError
from cellssl.events import Event
from cellssl.pipeline.execute import assist, make
from cellssl.pipeline.plan import Planned, Planner
from cellssl.pipeline.sweep_arms import expand_sweep
from cellssl.rank import Rank, announce, wait_for_main

if TYPE_CHECKING:
    from cellssl.cli.plates import PlatePlan

Made = TypeVar("Made")
PLATE_STAGES = ("fetch", "segment")


def console_of(common: Common) -> Console:
    """The console that the flags ask for."""
    if not Rank.from_environment().is_main:  # one voice is enough
        return Console(quiet=True)
    if common.log_format not in ("text", "json"):
        raise UsageError(f"--log-format {common.log_format!r} is not known", hint="use text or json")
    return Console(common.quiet, common.json, open_log(common.log_file), common.log_format == "json")


@dataclass
class Worker:
    """One run of the tool: a recipe, a store and a console."""

    common: Common
    console: Console
    store: Store
    recipe: Recipe
    _stopped_by: int | None = field(default=None, repr=False)
    _said: set[str] = field(default_factory=set, repr=False)
    _cards: dict[bytes, Card] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, reference: str, common: Common) -> Worker:
        """Read the recipe, and find the store."""
        store = Store(*common.stores(), trusting=not common.force)
        return cls(common, console_of(common), store, expand_sweep(recipes.load(reference, common.overrides or [])))

    @classmethod
    def without_recipe(cls, common: Common) -> Worker:
        """For what stands on artifacts alone."""
        if common.arm is not None or common.seed is not None:
            raise UsageError("--arm and --seed choose from a recipe, not from artifacts", hint="leave them out")
        nothing = recipes.by_hand(common.overrides or [])
        return cls(common, console_of(common), Store(*common.stores(), trusting=not common.force), nothing)

    def arms(self) -> tuple[str, ...]:
        """The arms that are asked for."""
        if self.common.arm is None:
            return self.recipe.arm_names()
        self.recipe.merged(self.common.arm)  # says so when there is no such arm
        return (self.common.arm,)

    def seeds(self) -> tuple[int, ...]:
        """The seeds that are asked for."""
        return self.recipe.seeds if self.common.seed is None else (self.common.seed,)

    def planner(self, arm: str, seed: int, stage: str | None = None) -> Planner:
        """Plans one arm and seed; artifacts given by --input take the place of upstream stages."""
        given = self._given(arm, stage)
        return Planner(self.recipe, arm, seed, self.store, given, self.named(), self._cards)

    def named(self) -> str:
        """The recipe, and what is laid over it, as a command line says it."""
        return f"{shlex.quote(self.recipe.source)} {self.common.said_again()}".rstrip()

    def stage(self, stage: str) -> Artifact:
        """Make one stage of one arm and seed."""
        arm = self.common.arm or self.recipe.main_arm
        if self.common.plate is not None:
            return self.plate(stage, arm)
        planner = self.planner(arm, self.seeds()[0], stage)
        planned = planner.plan(stage)
        return self.finish(planned, planner.given)

    def assist(self, stage: str) -> None:
        """Take part in a stage that another process leads; once it has begun, signals are for that one."""
        planner = self.planner(self.common.arm or self.recipe.main_arm, self.seeds()[0], stage)
        planned = planner.plan(stage)
        if self.common.dry_run or not wait_for_main(planned.fingerprint):
            return
        with self._listening():
            assist(planned, self.context(force=self.common.force), planner.given)
        if self._stopped_by is not None:
            raise self._interrupted()

    def plate(self, stage: str, arm: str) -> Artifact:
        """Make one plate's part of fetch or segment."""
        plan = self._plate_plan(stage, arm)
        with self.console.working_on(stage):
            artifact = self.drive(plan.make(self.context(force=self.common.force)))
        self.console.say(f"{stage}: plate {plan.plate} is {artifact.path}")
        self.store.point(self.recipe.name, arm, None, plan.pointer, artifact)
        return artifact

    def _plate_plan(self, stage: str, arm: str) -> PlatePlan:
        if stage not in PLATE_STAGES:
            raise UsageError(
                f"{stage} is not made plate by plate", hint=f"--plate goes with {' and '.join(PLATE_STAGES)}"
            )
        from cellssl.cli.plates import plan_plate

        given, context = self._given(arm, stage), self.context(force=False)
        return plan_plate(self.recipe, arm, stage, self.common.plate or "", context, given, self.named())

    def finish(self, planned: Planned, given: dict[str, Artifact]) -> Artifact:
        """Find or make one planned artifact, and leave a pointer to it."""
        mine = f"{planned.stage} {planned.arm}" + ("" if planned.seed is None else f" seed {planned.seed}")
        again = self.common.force and planned.fingerprint not in self._said
        there = None if again else self.store.find(planned.stage, planned.fingerprint)
        if there is not None:
            if planned.fingerprint not in self._said:
                self.console.say(f"{mine}: up to date, {there.path}")
        else:
            self.console.say(f"{mine}: begins")
            self._check_device()
            with self.console.working_on(planned.stage):
                there = self.drive(make(planned, self.context(force=again), given))
            self.console.say(f"{mine}: done in {there.card.run['seconds']:,.0f} s, {there.path}")
        announce(Rank.from_environment(), planned.fingerprint, begins=False)  # heard by whoever still waits
        self._said.add(planned.fingerprint)
        self.point(planned, there)
        return there

    def point(self, planned: Planned, artifact: Artifact) -> None:
        """The pointers in by-recipe/."""
        self.store.point(self.recipe.name, planned.arm, planned.seed_of_pointer, planned.stage, artifact)

    def context(self, *, force: bool) -> RunContext:
        """Where and how results are made."""
        common = self.common
        return RunContext(self.store, common.device, not common.no_wait, force, self._say_waiting())

    def _check_device(self) -> None:
        """A GPU that is asked for and missing is said before the first plate, not after the last."""
        if self.common.device not in ("auto", "cpu"):
            from cellssl.device import device_for

            device_for(self.common.device)

    def drive(self, work: Generator[Event, None, Made]) -> Made:
        """Show every event; when a signal came, close the work, which saves what it must, and say how to go on."""
        with self._listening():
            try:
                while True:
                    self.console.show(next(work))
                    if self._stopped_by is not None:
                        work.close()
                        raise self._interrupted()
            except StopIteration as end:
                made: Made = end.value
                return made
            except FailedError as error:
                if self._stopped_by is None:
                    raise
                raise self._interrupted() from error  # whoever stops a whole group of processes stops workers too

    def deliver(self, artifact: Artifact, *, say: bool = True) -> None:
        """Copies where --output asks for them, and the result line, unless stdout is taken."""
        if self.common.output is not None:
            deliver = copy_card if self.common.output.suffix == ".json" else copy_files
            deliver(artifact, self.common.output)
        if not say:
            return
        details = {
            "kind": artifact.card.kind,
            "fingerprint": artifact.fingerprint,
            "path": str(artifact.path),
            "metrics": artifact.card.metrics,
        }
        self.console.result(str(artifact.path), details)

    def report(self, references: list[str] | None = None) -> Artifact:
        """The page of the arms and seeds that are asked for, or of cluster artifacts given by hand."""
        from cellssl.cli.pages import plan_report

        planned, given = plan_report(self, references)
        return self.finish(planned, given)

    def announce(self, rows: list[dict[str, Any]], words: str = "", details: Mapping[str, Any] | None = None) -> None:
        """What --dry-run says: a row a stage, and what more is known."""
        for row in rows:
            seed = "" if row["seed"] is None else f" seed {row['seed']}"
            self.console.say(f"{row['stage']} {row['arm']}{seed}: {row['state']} {row['fingerprint']}")
        missing = [row for row in rows if row["state"] != "done"]
        line = f"{len(missing)} of {len(rows)} stages would be made" + (f": {words}" if words else "")
        self.console.result(line, {"would_make": missing, "stages": len(rows), **(details or {})})

    def stage_states(self, stage: str) -> list[dict[str, Any]]:
        """What `stage` would find and make."""
        arm = self.common.arm or self.recipe.main_arm
        if self.common.plate is None:
            return self.states([(arm, self.seeds()[0], stage)])
        card = self._plate_plan(stage, arm).card
        row = {"stage": stage, "arm": arm, "seed": None, "fingerprint": card.fingerprint}
        return [{**row, "state": self.state(card)}]

    def states(self, jobs: list[tuple[str, int, str]]) -> list[dict[str, Any]]:
        """Every stage of the jobs once: done, partial or missing, with its fingerprint."""
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for arm, seed, stage in jobs:
            planner = self.planner(arm, seed, stage)
            planner.plan(stage)
            for planned in planner.stages.values():
                rows.setdefault((planned.stage, planned.fingerprint), self.row(planned))
        return list(rows.values())

    def row(self, planned: Planned) -> dict[str, Any]:
        """One stage for people and workflow engines: what to ask for, what it stands on, and whether it is there."""
        return {
            "stage": planned.stage,
            "arm": planned.arm,
            "seed": planned.seed,
            "asked_seed": planned.asked_seed,
            "fingerprint": planned.fingerprint,
            "inputs": planned.inputs,
            "state": self.state(planned.card),
        }

    def state(self, card: Card) -> str:
        """Done, partial or missing."""
        if self.store.find(card.kind, card.fingerprint) is not None:
            return "done"
        partial = self.store.partial(card.kind, card.fingerprint)
        if not partial.is_dir():
            return "missing"
        metrics = partial / "metrics.jsonl"
        steps = sum(1 for _ in metrics.open(encoding="utf-8")) if metrics.is_file() else 0
        return f"partial ({steps:,} steps)" if steps else "partial"

    def _given(self, arm: str, stage: str | None) -> dict[str, Artifact]:
        """What --input names, by the input that it takes the place of."""
        if not self.common.inputs:
            return {}
        wanted = self.recipe.settings(stage, arm).inputs() if stage else ()
        given = {}
        for reference in self.common.inputs:
            artifact = self.store.resolve(reference, recipes.CHAIN)
            if artifact.card.kind not in wanted:
                raise UsageError(
                    f"{stage} takes {' and '.join(wanted) or 'no artifact'}, but {reference} is a {artifact.card.kind}",
                    hint=did_you_mean(artifact.card.kind, wanted) if wanted else "leave --input out",
                )
            if artifact.card.kind in given:
                raise UsageError(f"--input names two {artifact.card.kind} artifacts", hint="give one of each kind")
            if "plate" in artifact.card.section and self.common.plate is None:
                raise UsageError(
                    f"{reference} is the part of one plate", hint="give the artifact of all plates, or add --plate"
                )
            given[artifact.card.kind] = artifact
            self.store = self.store.beside(artifact)
        return given

    def _say_waiting(self) -> Any:
        said: set[str] = set()

        def waiting(holder: LockHolder) -> None:
            if holder.token not in said:
                said.add(holder.token)
                self.console.say(f"waiting for process {holder.pid} on {holder.host}, which makes the same")
            if self._stopped_by is not None:
                raise self._interrupted()

        return waiting

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """The first signal asks the work to stop at the next event; a second one stops at once."""

        def note(number: int, frame: FrameType | None) -> None:
            if self._stopped_by is not None:
                raise self._interrupted()
            self._stopped_by = number

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _interrupted(self) -> InterruptedByUserError:
        name = signal.Signals(self._stopped_by or signal.SIGINT).name
        return InterruptedByUserError(
            f"stopped by {name}; what is done so far is kept",
            hint="run the same command again to go on from there",
            exit_code=128 + int(self._stopped_by or signal.SIGINT),
        )
