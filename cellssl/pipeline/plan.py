"""plan: a recipe, an arm and a seed in, every stage with its fingerprint and inputs out; nothing is made."""

from __future__ import annotations

import pickle
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cellssl.artifacts.card import Card
from cellssl.artifacts.store import Artifact, Store
from cellssl.config.recipe import Recipe
from cellssl.engine.cards import card_for
from cellssl.errors import UsageError
from cellssl.pipeline.earlier_models import EarlierModels
from cellssl.pipeline.planned import Planned
from cellssl.pipeline.plate_controls import check_fetched_controls


def effective_settings(recipe: Recipe, stage: str, arm: str) -> Any:
    """Return the settings of a stage in an arm; those of `pretrain` keep only the encoder where it stays untrained."""
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
    """Plans the stages of one arm and seed; artifacts named by hand take the place of planned ones.

    Planners of several arms and seeds share `cards`, so that external files are hashed once.
    """

    def __init__(
        self,
        recipe: Recipe,
        arm: str,
        seed: int,
        store: Store,
        given: Mapping[str, Artifact] | None = None,
        command_line: str | None = None,
        cards: dict[bytes, Card] | None = None,
    ) -> None:
        self.recipe, self.arm, self.seed, self.store = recipe, arm, seed, store
        self._cards = {} if cards is None else cards
        self.given, self.command_line = dict(given or {}), command_line or recipe.source
        self.stages: dict[str, Planned] = {}
        self.earlier_models = EarlierModels(store, self.settings, self.given, self.stages)

    def plan(self, stage: str) -> Planned:
        """Plan the stage and every stage that it depends on; all of them are in `self.stages`, upstream first."""
        if stage not in self.stages:
            planned = self._plan(stage)
            self.stages[stage] = planned
            self.earlier_models.check_planned(planned)
        return self.stages[stage]

    def settings(self, stage: str) -> Any:
        """Return the settings of a stage in this arm."""
        return effective_settings(self.recipe, stage, self.arm)

    def _plan(self, stage: str) -> Planned:
        settings = self.settings(stage)
        settings.check()
        wanted = settings.inputs()
        given = {name: self.given[name] for name in wanted if name in self.given}
        upstream = {name: self.plan(name) for name in wanted if name not in given}
        inputs = {name: (given[name] if name in given else upstream[name]).fingerprint for name in wanted}
        for name, (reference, kinds) in settings.artifact_references().items():
            inputs[name] = self._resolve(reference, kinds).fingerprint
        seed = self.seed if settings.is_seeded() else None
        card = self._card(stage, settings, inputs, seed)
        of_seed = seed is not None or any(planned.depends_on_seed for planned in upstream.values())
        planned = Planned(
            stage, self.command_line, self.arm, seed, settings, inputs, card, self.seed, of_seed, given, upstream
        )
        return replace(planned, check_inputs=self._check_fetched) if stage == "segment" else planned

    def _check_fetched(self, inputs: Mapping[str, Artifact]) -> None:
        self.earlier_models.check_fetched(inputs["fetch"])
        check_fetched_controls(inputs["fetch"], self.recipe, self.arm, self.stages, self.store)

    def _card(self, stage: str, settings: Any, inputs: dict[str, str], seed: int | None) -> Card:
        key = pickle.dumps((stage, settings, inputs, seed))  # only a key: by value, class and order; never unpickled
        if key not in self._cards:
            files = settings.external_files()
            hashes = self.store.hashes.sha256_of_all(files.values())
            external = {role: hashes[path] for role, path in files.items()}
            self._cards[key] = card_for(stage, settings.algorithm(), settings, inputs, external, seed)
        return self._cards[key]

    def _resolve(self, reference: str | Path, kinds: tuple[str, ...]) -> Artifact:
        """Return an artifact that a user names; what it depends on must be in the stores that are read."""
        artifact = self.store.resolve(reference, kinds)
        if self.store.find(artifact.card.kind, artifact.fingerprint) is None:
            name = Path(artifact.card.kind, artifact.fingerprint)
            if artifact.path.parts[-2:] != name.parts:
                hint = f"copy the folder to {self.store.root / name}"
            else:
                here, there = (shlex.quote(str(root)) for root in (self.store.root, artifact.path.parent.parent))
                hint = f"read its store too: --store {here} --store {there}"
            raise UsageError(f"{artifact.path} is not in {self.store.root}", hint=hint)
        return artifact
