"""_plan: a recipe, an arm and a seed in, every stage with its fingerprint and inputs out; nothing is made.

What a stage module offers: ALGORITHM, Settings, `inputs(settings)` (upstream stages), `seeded(settings)`,
`outside(settings)` (files of the user that count), `run(job)`; where its settings name artifacts,
`references(settings)`; where more can be said against them than their model says, `check(settings)`; and where they ask
for weights that others publish, `downloads(settings)`.
"""

from __future__ import annotations

import importlib
import pickle
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from cellssl.artifacts.card import Card, fingerprint
from cellssl.artifacts.store import Artifact, Store
from cellssl.errors import UsageError
from cellssl.recipe import Recipe
from cellssl.settings import Strict


@dataclass(frozen=True)
class Planned:
    """One stage of one arm and seed: what determines its result, and so its fingerprint."""

    stage: str
    recipe: str
    """How a command line names the recipe, and what it lays over it."""
    arm: str
    seed: int | None
    settings: Any
    inputs: dict[str, str]
    card: Card
    asked_seed: int | None = None
    """The seed that the plan is for, be this stage seeded or not."""
    stands_on_seed: bool = False
    """Whether it is another result for another seed, be it for what it stands on alone."""

    @property
    def seed_of_pointer(self) -> int | None:
        """The seed that people look it up by; None where all seeds share it."""
        return self.asked_seed if self.stands_on_seed else None

    @property
    def fingerprint(self) -> str:
        """The name of the result's folder."""
        return self.card.fingerprint


def module_of(stage: str) -> ModuleType:
    """The file of a stage."""
    return importlib.import_module(f"cellssl.stages.{stage}")


def effective(recipe: Recipe, stage: str, arm: str) -> Any:
    """The settings of a stage in an arm; those of `pretrain` shrink to the encoder where it stays untrained."""
    settings = recipe.settings(stage, arm)
    match recipe.settings("embed", arm).network_of() if stage == "pretrain" else None:
        case "random":
            return settings.untrained()
        case "imagenet":
            return settings.published()
        case Path() as file:
            return settings.with_file(file)
    return settings


class Planner:
    """Plans the stages of one arm and seed; upstream artifacts given by hand take the place of planned ones.

    `cards` remembers for planners of other arms and seeds, so that the files of a stage that they share are looked at
    once.
    """

    def __init__(
        self,
        recipe: Recipe,
        arm: str,
        seed: int,
        store: Store,
        given: Mapping[str, Artifact] | None = None,
        named: str | None = None,
        cards: dict[bytes, Card] | None = None,
    ) -> None:
        self.recipe, self.arm, self.seed, self.store = recipe, arm, seed, store
        self._cards = {} if cards is None else cards
        self.given, self.named = dict(given or {}), named or recipe.source
        self.stages: dict[str, Planned] = {}

    def plan(self, stage: str) -> Planned:
        """The stage and, before it in `self.stages`, every stage that it stands on."""
        if stage not in self.stages:
            planned = self._plan(stage)
            self.stages[stage] = planned
        return self.stages[stage]

    def settings(self, stage: str) -> Any:
        """The settings of a stage in this arm."""
        return effective(self.recipe, stage, self.arm)

    def _plan(self, stage: str) -> Planned:
        settings, module = self.settings(stage), module_of(stage)
        getattr(module, "check", _nothing)(settings)
        inputs = {name: self._input(name) for name in module.inputs(settings)}
        for name, (reference, kinds) in _references(module, settings).items():
            inputs[name] = self._named(reference, kinds).fingerprint
        seed = self.seed if module.seeded(settings) else None
        asked = pickle.dumps((stage, settings, inputs, seed))  # by value and class; never read again
        if asked not in self._cards:
            hashes = self._hashes(module.outside(settings))
            self._cards[asked] = card_for(stage, module.ALGORITHM, settings, inputs, hashes, seed)
        card = self._cards[asked]
        of_seed = seed is not None or any(self.stages[name].stands_on_seed for name in inputs if name in self.stages)
        return Planned(stage, self.named, self.arm, seed, settings, inputs, card, self.seed, of_seed)

    def _input(self, stage: str) -> str:
        return self.given[stage].fingerprint if stage in self.given else self.plan(stage).fingerprint

    def _named(self, reference: str | Path, kinds: tuple[str, ...]) -> Artifact:
        """An artifact that a person names; what stands on it is looked up in the stores that are read."""
        artifact = self.store.resolve(reference, kinds)
        if self.store.find(artifact.card.kind, artifact.fingerprint) is None:
            here, there = (shlex.quote(str(root)) for root in (self.store.root, artifact.path.parent.parent))
            raise UsageError(
                f"{artifact.path} is not in {self.store.root}",
                hint=f"read its store too: --store {here} --store {there}",
            )
        return artifact

    def _hashes(self, files: list[Path]) -> dict[str, str]:
        return {str(path): self.store.hashes.sha256(path) for path in files}


def card_for(
    kind: str,
    algorithm: int,
    settings: Strict,
    inputs: dict[str, str],
    outside: dict[str, str],
    seed: int | None = None,
    identity: Mapping[str, Any] | None = None,
) -> Card:
    """The card of a result that is yet to be made; `identity` is what counts besides the settings."""
    more = {**({} if seed is None else {"seed": seed}), **(identity or {})}
    print_ = fingerprint(kind, algorithm, {**settings.changed(), **more}, inputs, outside)
    return Card(kind, algorithm, print_, {**settings.full(), **more}, inputs, outside, files={})


def _nothing(settings: Any) -> None:
    pass


def _references(module: ModuleType, settings: Any) -> dict[str, tuple[str | Path, tuple[str, ...]]]:
    found: dict[str, tuple[str | Path, tuple[str, ...]]] = getattr(module, "references", lambda _: {})(settings)
    return found
