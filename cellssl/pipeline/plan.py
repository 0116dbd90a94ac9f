"""plan: a recipe, an arm and a seed in, every stage with its fingerprint and inputs out; nothing is made."""

from __future__ import annotations

import pickle
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cellssl.artifacts.card import Card, is_shared_model
from cellssl.artifacts.shared_models import model_to_use
from cellssl.artifacts.store import Artifact, Store
from cellssl.config.recipe import Recipe
from cellssl.engine.cards import card_for
from cellssl.errors import UsageError
from cellssl.pipeline.blocks import BlockSource, check_measurable, resolve, sources, with_block_arms
from cellssl.pipeline.earlier_models import EarlierModels
from cellssl.pipeline.effective import effective_settings
from cellssl.pipeline.planned import Planned
from cellssl.pipeline.plate_controls import check_fetched_controls
from cellssl.stages.shared.embedded_model import MODELS_OF_BLOCKS, model_words


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
        beside: Planner | None = None,
    ) -> None:
        """Take what to plan; the stages that the planner `beside` plans with the same settings are its own."""
        self.recipe, self.arm, self.seed, self.store = recipe, arm, seed, store
        self._cards = {} if cards is None else cards
        self.given, self.command_line = dict(given or {}), command_line or recipe.source
        self.stages: dict[str, Planned] = {}
        self._beside = beside
        self._of_blocks: dict[str, Planner] = {}
        """The planners of blocks and of the arms that these share cells and networks with, by arm."""
        self.earlier_models = EarlierModels(store, self.settings, self.given, self.stages)

    def plan(self, stage: str) -> Planned:
        """Plan the stage and every stage that it depends on; all of them are in `self.stages`, upstream first.

        Those of blocks are there as ARM/STAGE.
        """
        if stage not in self.stages:
            beside = self._beside
            if beside is not None and self._is_same(stage, beside):
                planned = beside.plan(stage)
                self._note_upstream(planned)
            else:
                planned = self._plan(stage)
            self.stages[stage] = planned
            self.earlier_models.check_planned(planned)
        return self.stages[stage]

    def settings(self, stage: str) -> Any:
        """Return the settings of a stage in this arm."""
        return effective_settings(self.recipe, stage, self.arm)

    def _note_upstream(self, planned: Planned) -> None:
        """Note what a stage stands on that another planner has planned."""
        for one in planned.upstream.values():
            if one.stage not in self.stages:
                self._note_upstream(one)
                self.stages[one.stage] = one

    def _is_same(self, stage: str, other: Planner) -> bool:
        """Return whether another planner plans the same, as far as the settings of the stage and its inputs say."""
        settings = self.settings(stage)
        if settings != other.settings(stage):
            return False
        return all(
            self.given.get(name) == other.given.get(name) and (name in self.given or self._is_same(name, other))
            for name in settings.inputs()
        )

    def _plan(self, stage: str) -> Planned:
        settings = self.settings(stage)
        settings.check()
        wanted = settings.inputs()
        given = {name: self.given[name] for name in wanted if name in self.given}
        upstream = {name: self.plan(name) for name in wanted if name not in given}
        inputs = {name: (given[name] if name in given else upstream[name]).fingerprint for name in wanted}
        for name, (reference, kinds) in settings.artifact_references().items():
            given[name] = self._resolve(reference, kinds)
            inputs[name] = given[name].fingerprint
        models: dict[str, str] = {}
        if stage == "embed":
            if "fetch" in self.stages:
                check_measurable(self.recipe, self.arm)
            for source in sources(self.recipe, self.arm):
                block = self._plan_block(source)
                inputs[f"{source.name}/embed"] = block.fingerprint
                models[source.name] = model_words(block.card)
                if isinstance(block, Planned):
                    upstream[f"{source.name}/embed"] = block
        seed = self.seed if settings.is_seeded() else None
        card = self._card(stage, settings, inputs, seed, {MODELS_OF_BLOCKS: models} if models else {})
        of_seed = seed is not None or any(planned.depends_on_seed for planned in upstream.values())
        planned = Planned(
            stage, self.command_line, self.arm, seed, settings, inputs, card, self.seed, of_seed, given, upstream
        )
        return replace(planned, check_inputs=self._check_fetched) if stage == "segment" else planned

    def _plan_block(self, source: BlockSource) -> Planned | Artifact:
        """Plan the embed artifact of a block, or return the earlier one that it names."""
        found = resolve(source, self.store)
        if found is not None and found.card.kind == "embed":
            return self._resolve(found.path, ("embed",))
        planner = self._planner_of(source)
        planned = planner.plan("embed")
        for one in planner.stages.values():
            if one.arm != self.arm:
                self.stages.setdefault(f"{one.arm}/{one.stage}", one)
        return planned

    def _planner_of(self, source: BlockSource) -> Planner:
        """Return the planner of a block, beside that of the arm whose cells and network it has."""
        beside = self if source.base == self.arm else self._planner_beside(source.base, self)
        return beside if source.arm == source.base else self._planner_beside(source.arm, beside)

    def _planner_beside(self, arm: str, beside: Planner) -> Planner:
        if arm not in self._of_blocks:
            recipe = with_block_arms(self.recipe, self.arm)
            is_own = beside is self and recipe.settings("embed", arm).model == "pretrain" and arm in recipe.blocks
            given = {kind: one for kind, one in self.given.items() if is_own or kind != "pretrain"}
            self._of_blocks[arm] = Planner(
                recipe, arm, self.seed, self.store, given, self.command_line, self._cards, beside
            )
        return self._of_blocks[arm]

    def _check_fetched(self, inputs: Mapping[str, Artifact]) -> None:
        for planner in (self, *self._of_blocks.values()):
            planner.earlier_models.check_fetched(inputs["fetch"])
        check_fetched_controls(inputs["fetch"], self.recipe, self.arm, self.stages, self.store)

    def _card(
        self, stage: str, settings: Any, inputs: dict[str, str], seed: int | None, identity: Mapping[str, Any]
    ) -> Card:
        key = pickle.dumps((stage, settings, inputs, seed))  # only a key: by value, class and order; never unpickled
        if key not in self._cards:
            files = settings.external_files()
            hashes = self.store.hashes.sha256_of_all(files.values())
            external = {role: hashes[path] for role, path in files.items()}
            self._cards[key] = card_for(
                stage, settings.algorithm(), settings, inputs, external, seed, identity=identity
            )
        return self._cards[key]

    def _resolve(self, reference: str | Path, kinds: tuple[str, ...]) -> Artifact:
        """Return an artifact that a user names; what it depends on must be in the stores that are read.

        A shared model depends on nothing.
        """
        artifact = self.store.resolve(reference, kinds)
        if is_shared_model(artifact.card):
            return model_to_use(artifact, self.store)
        if self.store.find(artifact.card.kind, artifact.fingerprint) is None:
            name = Path(artifact.card.kind, artifact.fingerprint)
            if artifact.path.parts[-2:] != name.parts:
                hint = f"copy the folder to {self.store.root / name}"
            else:
                here, there = (shlex.quote(str(root)) for root in (self.store.root, artifact.path.parent.parent))
                hint = f"read its store too: --store {here} --store {there}"
            raise UsageError(f"{artifact.path} is not in {self.store.root}", hint=hint)
        return artifact
