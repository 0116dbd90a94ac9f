"""plan: a recipe, an arm and a seed in, every stage with its fingerprint and inputs out; nothing is made."""

from __future__ import annotations

import pickle
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellssl.artifacts.card import Card
from cellssl.artifacts.store import Artifact, Store
from cellssl.config.recipe import Recipe
from cellssl.engine.cards import card_for
from cellssl.errors import UsageError


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
    given: Mapping[str, Artifact] = field(default_factory=dict, repr=False, compare=False)
    """Inputs that a person named, by the name of the input; the others are looked up in the store."""

    @property
    def seed_of_pointer(self) -> int | None:
        """The seed that people look it up by; None where all seeds share it."""
        return self.asked_seed if self.stands_on_seed else None

    @property
    def fingerprint(self) -> str:
        """The name of the result's folder."""
        return self.card.fingerprint


def effective_settings(recipe: Recipe, stage: str, arm: str) -> Any:
    """The settings of a stage in an arm; those of `pretrain` shrink to the encoder where it stays untrained."""
    settings = recipe.settings(stage, arm)
    match recipe.settings("embed", arm).pretrain_variant() if stage == "pretrain" else None:
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
        return effective_settings(self.recipe, stage, self.arm)

    def _plan(self, stage: str) -> Planned:
        settings = self.settings(stage)
        settings.check()
        inputs = {name: self._input(name) for name in settings.inputs()}
        for name, (reference, kinds) in settings.artifact_references().items():
            inputs[name] = self._named(reference, kinds).fingerprint
        seed = self.seed if settings.is_seeded() else None
        asked = pickle.dumps((stage, settings, inputs, seed))  # by value and class; never read again
        if asked not in self._cards:
            hashes = self._hashes(settings.external_files())
            self._cards[asked] = card_for(stage, settings.algorithm(), settings, inputs, hashes, seed)
        card = self._cards[asked]
        of_seed = seed is not None or any(self.stages[name].stands_on_seed for name in inputs if name in self.stages)
        given = {name: self.given[name] for name in inputs if name in self.given}
        return Planned(stage, self.named, self.arm, seed, settings, inputs, card, self.seed, of_seed, given)

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
