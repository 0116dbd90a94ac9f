"""golden: the code as it is in; every default, and the fingerprints of the shipped recipes, out.

`python tests/golden.py` writes them to tests/golden/. Run it only where a change of results is meant, and raise the
ALGORITHM of the stage or plugin whose default changed.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import tempfile
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cellssl.artifacts.store import Store
from cellssl.config import plugins
from cellssl.config import recipe as recipes
from cellssl.config.recipe import CHAIN
from cellssl.config.settings import Plugin, SettingsModel, json_ready
from cellssl.engine.stage import algorithm_of
from cellssl.errors import CellsslError
from cellssl.pipeline.effective import effective_settings
from cellssl.pipeline.plan import Planner
from cellssl.pipeline.sweep_arms import expand_sweep

FOLDER = Path(__file__).resolve().parent / "golden"
PLUGIN_FOLDERS = {
    "datasets": "cellssl.datasets",
    "segmenters": "cellssl.imaging.segmenters",
    "cell_segmenters": "cellssl.imaging.cell_segmenters",
    "transforms": "cellssl.learning.transforms",
    "encoders": "cellssl.learning.encoders",
    "objectives": "cellssl.learning.objectives",
    "clusterers": "cellssl.profiling.clusterers",
}
RECIPES = sorted(path.stem for path in (Path(__file__).resolve().parents[1] / "recipes").glob("*.toml"))


def defaults() -> dict[str, dict[str, Any]]:
    """The ALGORITHM and every default of every stage and plugin, by "stage split" or "objective moco"."""
    found = {f"stage {stage}": _of(algorithm_of(stage), _settings_of(stage)) for stage in CHAIN}
    for kind, folder in PLUGIN_FOLDERS.items():
        for name in plugins.names(folder):
            settings = plugins.load(folder, name).Settings
            found[f"{kind.removesuffix('s')} {name}"] = _of(settings.algorithm(), settings)
    return found


def _settings_of(stage: str) -> type[BaseModel]:
    settings: type[BaseModel] = importlib.import_module(f"cellssl.stages.{stage}.settings").Settings
    return settings


def _of(algorithm: int, settings: type[BaseModel]) -> dict[str, Any]:
    return {"algorithm": algorithm, "defaults": _defaults(settings)}


def _defaults(settings: type[BaseModel]) -> dict[str, Any]:
    return {
        name: "(required)" if field.is_required() else _plain(field.get_default(call_default_factory=True))
        for name, field in settings.model_fields.items()
    }


def _plain(value: Any) -> Any:
    match value:
        case SettingsModel() if not isinstance(value, Plugin):
            return value.all_values()
        case _:
            return json_ready(value)


def fingerprints(store: Path) -> dict[str, dict[str, str]]:
    """Of every shipped recipe that needs no local file: the fingerprint of every stage of every arm, first seed.

    A sweep has thousands; one sha256 stands for all of them.
    """
    found: dict[str, dict[str, str]] = {}
    for name in RECIPES:
        try:
            prints = _planned(name, store)
        except CellsslError:
            continue
        many = hashlib.sha256(as_text(prints).encode()).hexdigest()
        found[name] = prints if len(prints) < 100 else {f"sha256 of {len(prints)}": many}
    return found


def _planned(name: str, store: Path) -> dict[str, str]:
    recipe = expand_sweep(recipes.load(name))
    prints, cards = {}, {}
    for arm in recipe.arm_names():
        planner = Planner(recipe, arm, recipe.seeds[0], Store(store), cards=cards)
        for stage in CHAIN[:-1]:
            if recipe.has(stage, arm):
                planner.plan(stage)
        prints.update({f"{arm} {stage}": planned.fingerprint for stage, planned in planner.stages.items()})
    return prints


def sections() -> dict[str, dict[str, Any]]:
    """Of every shipped recipe and stage, what counts in its main arm; paths by their last part."""
    found: dict[str, dict[str, Any]] = {}
    for name in RECIPES:
        recipe = recipes.load(name)
        present = [stage for stage in CHAIN if recipe.has(stage)]
        found[name] = {
            stage: _without_folders(effective_settings(recipe, stage, recipe.main_arm).fingerprint_values())
            for stage in present
        }
    return found


def _without_folders(value: Any) -> Any:
    match value:
        case dict():
            return {key: _without_folders(item) for key, item in value.items()}
        case list():
            return [_without_folders(item) for item in value]
        case str() if value.startswith("/"):
            return Path(value).name
        case _:
            return value


def as_text(value: Any) -> str:
    """JSON that a person can compare line by line."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write all three files."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as store:
        values = {"defaults": defaults(), "fingerprints": fingerprints(Path(store)), "sections": sections()}
    for name, value in values.items():
        (FOLDER / f"{name}.json").write_text(as_text(value), encoding="utf-8")


if __name__ == "__main__":
    main()
