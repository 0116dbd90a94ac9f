"""session: a recipe, a store and what a command line selects in; the stages to make and their states out.

A session decides; it makes nothing and prints nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cellssl.artifacts.card import Card, is_shared_model
from cellssl.artifacts.shared_models import model_to_use
from cellssl.artifacts.store import Artifact, Store
from cellssl.config.plugins import did_you_mean
from cellssl.config.recipe import CHAIN, Recipe
from cellssl.config.settings import SettingsModel
from cellssl.engine.build import RunContext
from cellssl.engine.cards import changed_defaults, lost_files
from cellssl.errors import UsageError
from cellssl.pipeline.execute import made_before_change
from cellssl.pipeline.grid import GridCell, grid, has_clusters
from cellssl.pipeline.needs import one_thread_serves
from cellssl.pipeline.plan import Planner
from cellssl.pipeline.planned import Planned
from cellssl.pipeline.report_inputs import Earlier, earlier_results, named_results, plan_report

PLATE_STAGES = ("fetch", "segment")
"""The stages that are made plate by plate."""


@dataclass(frozen=True)
class Selection:
    """What a command line selects of a recipe, and the flags that another command must repeat."""

    arm: str | None = None
    seed: int | None = None
    plate: str | None = None
    inputs: tuple[str, ...] = ()
    flags: str = ""


@dataclass(frozen=True)
class Session:
    """A recipe in a store, as far as a command line selects it."""

    recipe: Recipe
    store: Store
    selection: Selection = Selection()
    given: Mapping[str, Artifact] = field(default_factory=dict)
    """Artifacts named by hand, by the input that they take the place of."""
    earlier: Earlier | None = None
    """What a report compares its results with."""
    _cards: dict[bytes, Card] = field(default_factory=dict, repr=False)
    """Shared by all planners, so that the files of a stage are looked at once."""

    def with_inputs(self, stage: str) -> Session:
        """Return the session in which the artifacts of --input take the place of the stage's upstream stages.

        Raises UsageError where the stage does not take one of them.
        """
        given: dict[str, Artifact] = {}
        store = self.store
        for reference in self.selection.inputs:
            artifact = store.resolve(reference, CHAIN)
            if is_shared_model(artifact.card):
                artifact = model_to_use(artifact, store)
            self._check_input(stage, reference, artifact, given)
            given[artifact.card.kind] = artifact
            store = store.with_store_of(artifact)
        return replace(self, store=store, given=given)

    def with_results(self, references: Sequence[str]) -> Session:
        """Return the session whose report is of these cluster, evaluate and hits artifacts."""
        store, given = named_results(self.store, references)
        return replace(self, store=store, given=given)

    def with_earlier(self, references: Sequence[str]) -> Session:
        """Return the session whose report says what changed since an earlier report, or since earlier results."""
        store, earlier = earlier_results(self.store, references)
        return replace(self, store=store, earlier=earlier)

    @property
    def arm(self) -> str:
        """The one arm of a command that makes a single stage."""
        return self.selection.arm or self.recipe.main_arm

    def arms(self) -> tuple[str, ...]:
        """Return the selected arms; UsageError where the recipe has no such arm."""
        if self.selection.arm is None:
            return self.recipe.arm_names()
        self.recipe.merged(self.selection.arm)
        return (self.selection.arm,)

    def seeds(self) -> tuple[int, ...]:
        """Return the selected seeds."""
        return self.recipe.seeds if self.selection.seed is None else (self.selection.seed,)

    def command_line(self) -> str:
        """Return the recipe and the flags laid over it, as a shell takes them."""
        return f"{shlex.quote(self.recipe.source)} {self.selection.flags}".rstrip()

    def planner(self, arm: str, seed: int) -> Planner:
        """Return the planner of one arm and seed."""
        return Planner(self.recipe, arm, seed, self.store, self.given, self.command_line(), self._cards)

    def grid(self, to: str) -> list[GridCell]:
        """Return every selected arm and seed with the last stages to make of it."""
        return grid(self.recipe, self.arms(), self.seeds(), to)

    def has_clusters(self) -> bool:
        """Return whether a report would have anything to show."""
        return has_clusters(self.recipe, self.arms())

    def check_clusters(self) -> None:
        """Raise UsageError for a recipe that has nothing to report on."""
        if not self.has_clusters():
            raise UsageError(
                f"{self.recipe.source} makes no clusters, and a report shows clusters",
                hint=f"cellssl run {self.command_line()} makes all that the recipe asks for",
            )

    def check_stage(self, to: str | None) -> None:
        """Raise UsageError for a name that is no stage; None stands for all stages."""
        if to is not None and to not in CHAIN:
            raise UsageError(f"there is no stage {to!r}", hint=did_you_mean(to, CHAIN))

    def plan(self, to: str | None = None) -> list[Planned]:
        """Plan every stage of every selected arm and seed up to `to`, in the order of making.

        Without `to` the report comes last where there are clusters to report on. Everything is planned before anything
        is made, so that a mistake in the last arm is found at once.
        """
        self.check_stage(to)
        if to == "report":
            self.check_clusters()
        stages = self.plan_cells(self.grid(to or "report"))
        wants_report = to == "report" or (to is None and self.has_clusters())
        return [*stages, self.plan_report()] if wants_report else stages

    def plan_cells(self, cells: Iterable[GridCell]) -> list[Planned]:
        """Plan the last stages of the cells of a grid, and every stage that these depend on."""
        planners = []
        for arm, seed, stage in cells:
            planners.append(self.planner(arm, seed))
            planners[-1].plan(stage)
        return [planned for planner in planners for planned in planner.stages.values()]

    def plan_stage(self, stage: str) -> list[Planned]:
        """Plan one stage of one arm and seed; it comes last, after all stages that it depends on."""
        return self.plan_cells([(self.arm, self.seeds()[0], stage)])

    def plan_report(self) -> Planned:
        """Plan the report of the selected arms and seeds, or of the results named by hand.

        Raises UsageError for a recipe that makes no clusters.
        """
        upstream = {} if self.given else self._reported()
        arm = self.selection.arm or "all"
        return plan_report(self.recipe, self.given, upstream, self.command_line(), arm, self.earlier)

    def _reported(self) -> dict[str, Planned]:
        self.check_clusters()
        return {
            f"{arm}/{seed}/{stage}": self.planner(arm, seed).plan(stage) for arm, seed, stage in self.grid("report")
        }

    def context(self) -> RunContext:
        """Return what planning plate by plate needs of a run."""
        return RunContext(self.store)

    def states(self, planned: Iterable[Planned]) -> list[dict[str, Any]]:
        """Return one row per stage and fingerprint: done, partial or missing."""
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        states: dict[str, str] = {}
        changes: dict[str, str] = {}
        for one in planned:
            if (one.stage, one.fingerprint) not in rows:
                rows[one.stage, one.fingerprint] = self._row(one, states, changes)
        return list(rows.values())

    def _row(self, planned: Planned, states: dict[str, str], changes: dict[str, str]) -> dict[str, Any]:
        """Return one stage for people and workflow engines: how to ask for it, its inputs, and its state."""
        return {
            "stage": planned.stage,
            "arm": planned.arm,
            "seed": planned.seed,
            "asked_seed": planned.asked_seed,
            "fingerprint": planned.fingerprint,
            "inputs": planned.inputs,
            "one_thread": one_thread_serves(planned),
            "state": self._state_on_inputs(planned, states, changes),
        }

    def _state_on_inputs(self, planned: Planned, states: dict[str, str], changes: dict[str, str]) -> str:
        """Return the state of a stage, "outdated (STAGE)" where a stage that it stands on is; `states` are known."""
        if planned.fingerprint not in states:
            state = self.state(planned.card, planned.settings)
            if state == "done":
                upstream = planned.upstream.values()
                old = [
                    one.stage for one in upstream if self._state_on_inputs(one, states, changes).startswith("outdated")
                ]
                found = self.store.get(planned.stage, planned.fingerprint)
                older = old[0] if old else made_before_change(found, planned, self.store, changes)
                state = f"outdated ({older})" if older else state
            states[planned.fingerprint] = state
        return states[planned.fingerprint]

    def state(self, card: Card, settings: SettingsModel) -> str:
        """Return "done", "outdated" (a default has changed), "incomplete" (a file is gone), "partial" or "missing"."""
        found = self.store.find(card.kind, card.fingerprint)
        if found is not None:
            changes = changed_defaults(found.card, settings)
            if changes:
                return f"outdated ({changes[0].name})"
            lost = lost_files(found, self.store)
            return f"incomplete ({lost[0].name} is gone)" if lost else "done"
        partial = self.store.partial(card.kind, card.fingerprint)
        if not partial.is_dir():
            return "missing"
        metrics = partial / "metrics.jsonl"
        steps = sum(1 for _ in metrics.open(encoding="utf-8")) if metrics.is_file() else 0
        return f"partial ({steps:,} steps)" if steps else "partial"

    def _check_input(self, stage: str, reference: str, artifact: Artifact, given: Mapping[str, Artifact]) -> None:
        wanted = self.recipe.settings(stage, self.arm).inputs()
        kind = artifact.card.kind
        if kind not in wanted:
            raise UsageError(
                f"{stage} takes {' and '.join(wanted) or 'no artifact'}, but {reference} comes from {kind}",
                hint=did_you_mean(kind, wanted) if wanted else "leave --input out",
            )
        if kind in given:
            raise UsageError(f"--input names two {kind} artifacts", hint="give one of each kind")
        if "plate" in artifact.card.section and self.selection.plate is None:
            raise UsageError(
                f"{reference} is the part of one plate", hint="give the artifact of all plates, or add --plate"
            )
