"""overrides: a recipe and the --set of a command line in, the name under which its results are pointed to out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cellssl.config.recipe import CHAIN, Recipe, load
from cellssl.config.settings import SettingsModel, is_counted
from cellssl.errors import CellsslError

ONLY_IF_WRITTEN = ("fetch", "evaluate", "hits")
"""Sections without which a recipe does not make the stage; the other stages have defaults."""
SOURCE = "source"
"""The setting that says where images come from; it may be a folder, and is never part of a result."""


def pointers_of(recipe: Recipe, overrides: Sequence[str]) -> tuple[str, list[str]]:
    """Return the name of the folder of pointers, and the overrides that it stands for.

    Results of the recipe as it is written are pointed to under its name. With overrides that ask for other results,
    the name ends in a hash of these, so that what other scripts read does not change. A name that is itself an override
    is taken as it is.
    """
    changes = {text.partition("=")[0].strip(): text.partition("=")[2].strip() for text in overrides}
    name = changes.pop("name", None)
    if not changes or (name is not None and _name_as_written(recipe.source) != recipe.name):
        return recipe.name, []
    kept = _those_that_matter(recipe.source, [f"{key}={value}" for key, value in changes.items()])
    if not kept:
        return recipe.name, []
    digest = hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:8]
    return f"{recipe.name}+{digest}", kept


def _name_as_written(reference: str) -> str | None:
    try:
        return load(reference).name
    except CellsslError:
        return None  # it is no recipe without what is overridden


def _those_that_matter(reference: str, overrides: list[str]) -> list[str]:
    """Return, sorted, the overrides without which the recipe asks for other results."""
    kept, wanted = overrides, _asks(reference, overrides)
    for override in overrides:
        fewer = [other for other in kept if other != override]
        if _asks(reference, fewer) == wanted:
            kept = fewer
    return sorted(kept)


def _asks(reference: str, overrides: Sequence[str]) -> Any:
    """Return everything in a recipe that can change a result; None where it is no recipe without what is left out."""
    try:
        recipe = load(reference, overrides)
        arms = {
            arm: {stage: _values(recipe.settings(stage, arm)) for stage in _stages(recipe, arm)}
            for arm in recipe.arm_names()
        }
    except CellsslError:
        return None
    return recipe.seeds, recipe.sweep, list(arms), arms


def _stages(recipe: Recipe, arm: str) -> list[str]:
    """Return the stages whose settings count."""
    return [stage for stage in CHAIN if stage not in ONLY_IF_WRITTEN or recipe.has(stage, arm)]


def _values(settings: SettingsModel) -> Any:
    """Return what counts in a fingerprint, and the paths of files whose content does."""
    return settings.fingerprint_values(), list(_paths(settings))


def _paths(value: Any) -> Iterator[Path]:
    match value:
        case SettingsModel():
            for name, field in type(value).model_fields.items():
                below = getattr(value, name)
                if isinstance(below, Path) and not is_counted(field) and name != SOURCE:
                    yield below
                yield from _paths(below)
        case dict():
            for item in value.values():
                yield from _paths(item)
        case tuple() | list():
            for item in value:
                yield from _paths(item)
