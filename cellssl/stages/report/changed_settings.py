"""changed_settings: runs in; their settings that are not the defaults of this version, as a recipe names them, out."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from cellssl.artifacts.store import Artifact
from cellssl.config.settings import FROM_CARD
from cellssl.errors import UsageError
from cellssl.stages.report.flat_settings import flat_settings
from cellssl.stages.report.runs import Run, first_seeds


def changed_settings(runs: list[Run]) -> str:
    """Return one line per setting that is not the default: STAGE.SETTING = value, and its arms unless all have it."""
    arms: dict[str, list[str]] = {}
    shown = first_seeds(runs)
    for run in shown:
        chains = [run.chain(), *(part.chain() for part in run.blocks)]
        lines = [line for chain in chains for kind, one in chain.items() for line in _lines(kind, one)]
        for line in dict.fromkeys(lines):
            arms.setdefault(line, []).append(run.arm)
    return "\n".join(
        line if len(names) == len(shown) else f"{line}    ({', '.join(names)})" for line, names in arms.items()
    )


def _lines(kind: str, artifact: Artifact) -> Iterator[str]:
    for name, value in flat_settings(_changed(kind, artifact.card.section), kind):
        yield f"{name} = {value}"


def _changed(kind: str, section: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from the defaults; all of a card that this version cannot read."""
    settings = importlib.import_module(f"cellssl.stages.{kind}.settings").Settings
    try:
        changed: dict[str, Any] = settings.model_validate(section, context={FROM_CARD: True}).non_default()
    except (UsageError, ValidationError):
        return section
    return changed
