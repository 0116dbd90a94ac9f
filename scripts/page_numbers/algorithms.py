"""algorithms: a recipe, or some settings, in; the ALGORITHM of every stage and plugin in use out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cellssl.config import plugins
from cellssl.config import recipe as recipes
from cellssl.config.recipe import CHAIN
from cellssl.engine.stage import algorithm_of
from cellssl.pipeline.plan import effective_settings

Algorithms = dict[str, int]
"""Stage or plugin -> its ALGORITHM."""
MADE_FOR_OTHERS = ("fetch", "segment", "split", "pretrain", "embed")
"""Stages that are made because another one reads them, even where the recipe has no section for them."""


SAME_NUMBERS = {"segment": {4}, "embed": {3}, "cluster": {3}, "evaluate": {4}, "report": {5, 6, 7}, "crop_stack": {2}}
"""ALGORITHMs that left every number of the pages as it was. segment 4 measures more and leaves pixels and limits as
they were (detectors have ALGORITHMs of their own). embed 3 adds cells that enter no score, cluster 3 describes wells by
them, report 5 has further checks, report 6 shows hits, report 7 has another page, and crop_stack 2 keeps columns as
text. evaluate 4 changes features that are constant among controls, and `sphering`: only the block `nsc` has these, and
it was made again."""


def as_text(algorithms: Algorithms) -> str:
    """Return the ALGORITHMs since which the numbers hold as one line: stages in their order, then plugins by name."""
    stages = [name for name in CHAIN if name in algorithms]
    names = [*stages, *sorted(algorithms.keys() - set(stages))]
    return ", ".join(f"{name} {_since(name, algorithms[name])}" for name in names)


def _since(name: str, algorithm: int) -> int:
    """Return the ALGORITHM that gave the numbers that this one gives."""
    while algorithm in SAME_NUMBERS.get(name, ()):
        algorithm -= 1
    return algorithm


def of_recipe(reference: str | Path, overrides: Sequence[str] = (), to: Sequence[str] = CHAIN[:-1]) -> Algorithms:
    """Return what some stages of all arms of a recipe stand on; without `to`, all stages but the report."""
    recipe = recipes.load(str(reference), overrides)
    found: Algorithms = {}
    for arm in (recipe.main_arm, *recipe.arms):
        for stage in CHAIN:
            if stage in to and (stage in MADE_FOR_OTHERS or recipe.has(stage, arm)):
                detects = stage != "segment" or not effective_settings(recipe, "fetch", arm).dataset.gives_crops
                plugins_in_use = of_settings(effective_settings(recipe, stage, arm)) if detects else {}
                found |= {stage: algorithm_of(stage), **plugins_in_use}
    return found


def of_settings(settings: Any) -> Algorithms:
    """Return the ALGORITHM of every plugin in the settings of a stage or plugin."""
    return dict(_plugins_in(settings.fingerprint_values()))


def of_stages(*stages: str) -> Algorithms:
    """Return the ALGORITHM of each of these stages."""
    return {stage: algorithm_of(stage) for stage in stages}


def of_plugins(folder: str, *names: str) -> Algorithms:
    """Return the ALGORITHM of each of these plugins of a folder such as "cellssl.imaging.segmenters"."""
    return {name: plugins.load(folder, name).Settings.algorithm() for name in names}


def _plugins_in(value: Any) -> Iterator[tuple[str, int]]:
    """Yield name and ALGORITHM of every plugin among the values that a fingerprint counts."""
    match value:
        case {"name": str(name), "algorithm": int(algorithm), "settings": settings}:
            yield name, algorithm
            yield from _plugins_in(settings)
        case dict():
            for item in value.values():
                yield from _plugins_in(item)
        case list():
            for item in value:
                yield from _plugins_in(item)
