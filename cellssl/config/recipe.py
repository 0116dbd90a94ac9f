"""recipe: a TOML file in, the validated settings of every stage in every arm out."""

from __future__ import annotations

import importlib
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cellssl.bounded import check_depth, read_bytes
from cellssl.config.paths import NAME, ShellText, shipped_folder
from cellssl.config.plugins import did_you_mean
from cellssl.config.settings import SettingsFault, SettingsModel, first_fault
from cellssl.config.sweep import Point, Sweep, parse
from cellssl.errors import UsageError

CHAIN = ("fetch", "segment", "split", "pretrain", "embed", "cluster", "evaluate", "hits", "report")

TOP = ("name", "seeds", "main_arm", "arm", "sweep")
SCHEMA = "recipe.schema.json"
"""The JSON Schema of recipes, a file beside them."""
SCHEMA_LINE = f"#:schema ./{SCHEMA}"
"""The first line of a recipe that tells editors where the schema is."""
SCHEMA_TITLE = "cellssl recipe"
BY_HAND = "by-hand"
"""The name of the recipe of results that are made without one."""
RECIPE_BYTES = 2**24
"""Size of the largest recipe that is read."""
LONGEST_FILE_NAME = 256
"""Characters; no common file system allows longer names."""


@dataclass(frozen=True)
class Recipe:
    """The content of a recipe: one section per stage, seeds, and arms that change some settings of the sections."""

    name: str
    seeds: tuple[int, ...]
    sections: dict[str, Any]
    arms: dict[str, dict[str, Any]]
    folder: Path
    source: str
    main_arm: str = "main"
    sweep: Sweep | None = None
    points: Mapping[str, Point] = field(default_factory=dict)
    """The arms that a sweep has added: each is one point and takes the place of the arm that it varies."""
    blocks: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """The sections of every block that is embedded for an arm, by ARM@BLOCK; `--arm` takes these names too."""
    _settings: dict[tuple[str, str], SettingsModel] = field(default_factory=dict, repr=False, compare=False)

    def arm_names(self) -> tuple[str, ...]:
        """Return the main arm and then the arms in the recipe's order; a swept arm is replaced by its points."""
        points: dict[str, list[str]] = {}
        for name, point in self.points.items():
            points.setdefault(point.arm, []).append(name)
        given = [arm for arm in (self.main_arm, *self.arms) if arm not in self.points]
        return tuple(name for arm in given for name in points.get(arm, [arm]))

    def has(self, stage: str, arm: str | None = None) -> bool:
        """Return whether a stage has a section, even an empty one."""
        return stage in self.merged(arm or self.main_arm)

    def merged(self, arm: str) -> dict[str, Any]:
        """Return the sections with the settings of an arm laid over them; UsageError for an unknown arm."""
        if arm == self.main_arm:
            return self.sections
        if arm in self.blocks:
            return self.blocks[arm]
        if arm not in self.arms:
            raise UsageError(f"{self.source} has no arm {arm!r}", hint=did_you_mean(arm, (self.main_arm, *self.arms)))
        return overlay(self.sections, self.arms[arm])

    def settings(self, stage: str, arm: str | None = None) -> Any:
        """Return the validated settings of one stage in one arm; UsageError with one sentence where they are wrong."""
        arm = arm or self.main_arm
        if (stage, arm) not in self._settings:
            model: type[SettingsModel] = importlib.import_module(f"cellssl.stages.{stage}.settings").Settings
            where = f"[{stage}]" if arm == self.main_arm else f"[{stage}] of arm {arm!r}"
            self._settings[stage, arm] = self._validated(model, self.merged(arm).get(stage, {}), where)
        return self._settings[stage, arm]

    def check(self, only: str | None = None) -> None:
        """Validate every section before any work, so that a mistake is found within a second.

        Where one of the arms is given, only its sections are: `--set` may change what does not fit the others.
        """
        arms = (self.main_arm, *self.arms)
        for arm in (only,) if only in arms else arms:
            for stage in self.merged(arm):
                self.settings(stage, arm)

    def _validated(self, model: type[SettingsModel], given: Any, where: str) -> SettingsModel:
        try:
            return model.model_validate(given, context={"folder": self.folder})
        except ValidationError as error:
            fault = first_fault(error)
            raise UsageError(
                f"{self.source}, {where}: {_sentence(fault)}", hint=fault.hint or _explain_hint(where)
            ) from error


def load(reference: str, overrides: Sequence[str] = (), arm: str | None = None) -> Recipe:
    """Read the recipe at a path, or the shipped one of that name, with `KEY=VALUE` overrides on top.

    Where an arm is given, only its sections are validated.
    Raises UsageError, with one sentence and the cure, for everything that can be wrong with it.
    """
    path, folder = find(reference)
    try:
        raw = tomllib.loads(read_bytes(path, RECIPE_BYTES).decode("utf-8-sig"))
        check_depth(raw)
    except ValueError as error:  # among them TOMLDecodeError, and that of Python for numbers of thousands of digits
        raise UsageError(f"{path} is not valid TOML: {error}", hint="correct that line") from error
    except (OSError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="give the path of a recipe") from error
    for override in overrides:
        _set(raw, override)
    recipe = from_table(raw, folder, str(reference))
    recipe.check(arm)
    return recipe


def by_hand(overrides: Sequence[str]) -> Recipe:
    """Return a recipe of defaults and overrides, for results that are made from artifacts alone."""
    raw: dict[str, Any] = {"name": BY_HAND}
    for override in overrides:
        _set(raw, override)
    recipe = from_table(raw, Path.cwd(), "the command line")
    recipe.check()
    return recipe


def find(reference: str) -> tuple[Path, Path]:
    """Return the file of a recipe, and the folder that its relative paths start from.

    A shipped recipe's paths start from where the command runs.
    """
    path = Path(reference)
    if len(path.name) < LONGEST_FILE_NAME and path.is_file():
        return path, path.absolute().parent
    shipped = {file.stem: file for file in sorted(shipped_folder("recipes").glob("*.toml"))}
    if reference and len(path.name) < LONGEST_FILE_NAME and path.is_dir() and reference not in shipped:
        raise UsageError(
            f"{reference} is a folder, not a recipe",
            hint=f"where it holds images, write a recipe for it: cellssl init {shlex.quote(reference)}",
        )
    if reference in shipped:
        return shipped[reference], Path.cwd()
    raise UsageError(f"there is no recipe {reference!r}", hint=did_you_mean(reference, tuple(shipped)))


def is_a_recipe(reference: str) -> bool:
    """Return whether an argument names a recipe rather than an artifact."""
    return reference.endswith(".toml") or (shipped_folder("recipes") / f"{reference}.toml").is_file()


def from_table(raw: dict[str, Any], folder: Path, source: str) -> Recipe:
    """Return the recipe of a parsed TOML table; UsageError for unknown keys and wrong names."""
    known = (*TOP, *CHAIN)
    for key in raw:
        if key not in known:
            raise UsageError(f"{source}: unknown section or key {key!r}", hint=did_you_mean(key, known))
    name = raw.get("name", Path(source).stem)
    main_arm = raw.get("main_arm", "main")
    arms = raw.get("arm", {})
    for what, text in (("name", name), ("main_arm", main_arm)):
        _check_name(text, what, source)
    if not isinstance(arms, dict):
        raise UsageError(f"{source}: arm must be tables, such as [arm.centre.pretrain]")
    for arm, over in arms.items():
        _check_arm(arm, over, main_arm, source)
    sections = {stage: raw[stage] for stage in CHAIN if stage in raw}
    for stage, section in sections.items():
        if not isinstance(section, dict):
            raise UsageError(f"{source}: {stage} must be a section, [{stage}], got {section!r}")
    sweep = parse(raw["sweep"], (main_arm, *arms), source) if "sweep" in raw else None
    return Recipe(name, _seeds(raw.get("seeds", [0]), source), sections, arms, folder, source, main_arm, sweep)


def overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay one table over another: tables merge key by key; other values, and a plugin of another name, replace."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        if isinstance(under, dict) and isinstance(value, dict) and _same_plugin(under, value):
            merged[key] = overlay(under, value)
        elif isinstance(under, str) and isinstance(value, dict) and "name" not in value:
            merged[key] = {"name": under, **value}
        else:
            merged[key] = value
    return merged


def _same_plugin(below: dict[str, Any], above: dict[str, Any]) -> bool:
    return "name" not in above or above["name"] == below.get("name", above["name"])


def _set(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {override!r} is not KEY=VALUE", hint="such as --set pretrain.epochs=20")
    value = _value(text.strip())
    if isinstance(value, dict):  # a table takes the place of the recipe's, order included
        raw.update(_without(raw, parts))
    nested: dict[str, Any] = {parts[-1]: value}
    for part in reversed(parts[:-1]):
        nested = {part: nested}
    raw.update(overlay(raw, nested))


def _without(table: dict[str, Any], parts: list[str]) -> dict[str, Any]:
    """Return the table with an empty table at the end of the path, where there is one."""
    first, *rest = parts
    under = table.get(first)
    if not rest:
        return {**table, first: {}}
    return {**table, first: _without(under, rest)} if isinstance(under, dict) else table


def _value(text: str) -> Any:
    try:
        return _from_shell(tomllib.loads(f"value = {text}")["value"])
    except (ValueError, RecursionError):
        return ShellText(text)


def _from_shell(value: Any) -> Any:
    match value:
        case str():
            return ShellText(value)
        case list():
            return [_from_shell(item) for item in value]
        case dict():
            return {key: _from_shell(item) for key, item in value.items()}
        case _:
            return value


def _seeds(given: Any, source: str) -> tuple[int, ...]:
    try:
        seeds = TypeAdapter(list[int]).validate_python(given, strict=True)
    except ValidationError as error:
        raise UsageError(f"{source}: seeds must be a list of whole numbers, got {given!r}") from error
    if not seeds or len(set(seeds)) != len(seeds):
        raise UsageError(f"{source}: seeds must hold at least one number, each once, got {given!r}")
    return tuple(seeds)


def _check_name(name: Any, what: str, source: str) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UsageError(
            f"{source}: {what} {name!r} cannot name a folder",
            hint="use at most 100 letters, digits, '.', '_', '+' and '-'",
        )


def _check_arm(arm: str, over: Any, main_arm: str, source: str) -> None:
    _check_name(arm, "arm", source)
    if arm == main_arm:
        raise UsageError(f"{source}: an arm has the name {arm!r} of the main arm", hint="give it another name")
    if not isinstance(over, dict):
        raise UsageError(f"{source}: arm {arm!r} must be tables, such as [arm.{arm}.pretrain]")
    for stage, section in over.items():
        if stage not in CHAIN:
            raise UsageError(f"{source}: arm {arm!r} has an unknown section {stage!r}", hint=did_you_mean(stage, CHAIN))
        if not isinstance(section, dict):
            raise UsageError(f"{source}: {stage} of arm {arm!r} must be a section, got {section!r}")


def _sentence(fault: SettingsFault) -> str:
    where = ".".join(str(step) for step in fault.path)
    return f"{where}: {fault.message}" if where else fault.message


def _explain_hint(where: str) -> str:
    stage = where[1:].partition("]")[0]
    return f"cellssl explain {stage} lists every setting with its unit and default"
