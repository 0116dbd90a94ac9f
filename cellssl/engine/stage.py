"""stage: what every stage offers: settings that planning reads, and a function that makes the result."""

from __future__ import annotations

import importlib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from cellssl.config.settings import SettingsModel

if TYPE_CHECKING:
    from cellssl.engine.build import Job, Metrics
    from cellssl.engine.weights_cache import Download
    from cellssl.events import Event


class StageSettings(SettingsModel):
    """The section of a recipe for one stage; its methods answer what planning asks before anything is made.

    `cellssl/stages/NAME/settings.py` holds it under the name `Settings`, beside the ALGORITHM of the stage.
    """

    def inputs(self) -> tuple[str, ...]:
        """Return the stages whose artifacts this one reads."""
        return ()

    def is_seeded(self) -> bool:
        """Return whether another seed gives another result."""
        return False

    def external_files(self) -> dict[str, Path]:
        """Return the files of the user whose bytes count in the result, by the role that each has in it."""
        return {}

    def artifact_references(self) -> dict[str, tuple[str | Path, tuple[str, ...]]]:
        """Return the artifacts that the settings name: role -> (reference, kinds that it may have)."""
        return {}

    def check(self) -> None:
        """Raise UsageError for what cannot work on this machine or with these settings."""

    def downloads(self) -> list[Download]:
        """Return the published weights that the stage will need."""
        return []


class Stage(Protocol):
    """What `cellssl/stages/NAME/stage.py` offers."""

    def run(self, job: Job) -> Generator[Event, None, Metrics]:
        """Make the result in `job.draft`; yield events, return the metrics of its card."""

    def assist(self, job: Job) -> None:
        """Work as one of several processes on what the main process makes; only pretrain has it."""


def stage_module(stage: str) -> Stage:
    """Return the module that makes the results of a stage."""
    return cast(Stage, importlib.import_module(f"cellssl.stages.{stage}.stage"))


def algorithm_of(stage: str) -> int:
    """Return the ALGORITHM of a stage."""
    settings: Any = importlib.import_module(f"cellssl.stages.{stage}.settings")
    return int(settings.ALGORITHM)
