"""effective: a recipe, a stage and an arm in, the settings that the stage has there out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cellssl.config.recipe import Recipe


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
