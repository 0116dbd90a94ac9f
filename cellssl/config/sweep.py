"""sweep: the `[sweep]` tables of a recipe in, the points of the grid out; and sections with one setting changed."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, WithJsonSchema, field_validator, model_validator

from cellssl.config.paths import NO_LETTERS
from cellssl.config.plugins import did_you_mean
from cellssl.config.settings import SettingsModel, first_fault
from cellssl.errors import UsageError

MOST_KNOBS = 2
"""Settings that one figure can show."""
Value = bool | int | float | str
Score = Literal["ami", "silhouette", "knn", "linear"]
NAME = re.compile(r"[A-Za-z][\w.-]{,29}")
NAME_IN_SCHEMA = rf"^[A-Za-z][^\x00-,/:-@{NO_LETTERS}]{{0,29}}$"
TAKEN = ("arms", "together", "choose", "arm", "part", "seed", "score", "class", "value")
"""Names that a swept setting cannot have: settings of [sweep] itself, and other columns of sweep.csv."""
FREE_NAME = "name it after the setting that it varies, such as [sweep.hue]"
LONGEST_WORD = 60
"""Most characters of a value in the name of an arm, which is also the name of a folder."""


class Knob(SettingsModel):
    """One setting, and the values that it takes in turn."""

    model_config = ConfigDict(
        json_schema_extra={
            "dependencies": {
                "values": {
                    "properties": {
                        "values": {"minItems": 2, "uniqueItems": True},
                        "from": False,
                        "to": False,
                        "steps": False,
                    }
                },
                "from": ["to", "steps"],
                "to": ["from", "steps"],
                "steps": ["from", "to"],
            }
        }
    )
    knob: Annotated[str, WithJsonSchema({"type": "string", "pattern": r"^[^.]+(\.[^.]+)+$"})]
    """The path of the setting in the recipe, such as `pretrain.branches.context.view.color_jitter.hue`: tables by their
    keys, transforms of a view by their names (`rotate#2` is the second of that name), and items of a list by their
    number, from 0."""
    values: tuple[Value, ...] | None = None
    """The values, one by one."""
    start: int | float | None = Field(None, alias="from")
    """Instead of `values`: the first of evenly spaced values."""
    stop: int | float | None = Field(None, alias="to")
    """The last of the evenly spaced values."""
    steps: int | None = Field(None, ge=2, le=1000)
    """The number of evenly spaced values, both ends included."""

    @field_validator("values", mode="before")
    @classmethod
    def _check_each(cls, values: Any) -> Any:
        for value in values if isinstance(values, list | tuple) else ():
            wild = isinstance(value, float) and not math.isfinite(value)
            if wild or not isinstance(value, bool | int | float | str):
                raise ValueError(f"each must be a finite number, a text, true or false, got {value}")
        return values

    @field_validator("start", "stop", mode="before")
    @classmethod
    def _check_end(cls, value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"must be a finite number, got {value}")
        return value

    @model_validator(mode="after")
    def _check_values(self) -> Knob:
        ends = (self.start, self.stop, self.steps)
        if (self.values is None) == (None in ends) or (self.values is not None and ends != (None, None, None)):
            raise ValueError("needs either values, or from, to and steps")
        found = self.points()
        if len(found) < 2 or len(set(found)) < len(found):
            raise ValueError(f"needs at least two values, each once, got {list(found)}")
        texts = [value_text(value) for value in found]
        for text in texts:
            if texts.count(text) > 1:
                raise ValueError(f"two of the values {list(found)} would both be called {text!r} in the name of an arm")
            if len(text) > LONGEST_WORD:
                raise ValueError(f"a value may have {LONGEST_WORD} letters at most, as arms are called by it: {text}")
        if not all(self.knob.split(".")) or "." not in self.knob:
            raise ValueError(f"knob must be a path such as pretrain.learning_rate, got {self.knob!r}")
        return self

    def points(self) -> tuple[Value, ...]:
        """Return the values in order; evenly spaced ones are rounded to 10 digits, and whole where the start is."""
        if self.values is not None:
            return self.values
        assert self.start is not None and self.stop is not None and self.steps is not None
        between = [self.start + (self.stop - self.start) * n / (self.steps - 1) for n in range(self.steps)]
        rounded = [float(f"{value:.10g}") for value in between]
        whole = isinstance(self.start, int)
        return tuple(int(value) if whole and value.is_integer() else value for value in rounded)


@dataclass(frozen=True)
class Point:
    """One value of every swept setting, for one arm of the recipe; `part` says which cells are scored."""

    arm: str
    values: Mapping[str, Value]
    part: Literal["test", "val"] = "test"

    @property
    def name(self) -> str:
        """The name of the point's arm: the recipe's arm and the values that differ."""
        words = [self.arm, *(f"{name}={value_text(value)}" for name, value in self.values.items())]
        return "+".join([*words, *(["val"] if self.part == "val" else [])])


@dataclass(frozen=True)
class Sweep:
    """The swept settings by the names that figures show, and what to do with their scores."""

    knobs: Mapping[str, Knob]
    arms: tuple[str, ...] | None = None
    """The swept arms; by default every arm that the settings change."""
    choose: Score | None = None
    """The score that chooses a point on the val part; its score on the test part is reported."""
    together: bool = True
    """Whether every combination of values is a point; otherwise each setting is varied alone."""

    def grid(self) -> Iterator[dict[str, Value]]:
        """Yield the values of every point; the first setting varies slowest."""
        if not self.together:
            yield from ({name: value} for name, knob in self.knobs.items() for value in knob.points())
            return
        for values in itertools.product(*(knob.points() for knob in self.knobs.values())):
            yield dict(zip(self.knobs, values, strict=True))


class Settings(SettingsModel):
    """Run a recipe with several values of one or two settings, each in a table of its own, such as [sweep.hue]."""

    arms: tuple[str, ...] | None = Field(None, min_length=1)
    """The arms to sweep; by default every arm in which the settings change anything."""
    together: bool = True
    """Whether every combination of two settings' values is a point, as in a grid. Otherwise each setting is varied
    alone while the others stay as the recipe has them; then there may be any number of settings."""
    choose: Score | None = None
    """Choose a point by this score on the val part, and report its score on the test part, which the
    choice has not seen."""


EXPLAINED = {"NAME": Knob}
"""Tables within the section that `explain` lists too."""


def parse(raw: Any, arms: Sequence[str], source: str) -> Sweep:
    """Return the sweep that `[sweep]` and its tables describe; UsageError with one sentence where it is wrong."""
    if not isinstance(raw, dict):
        raise UsageError(f"{source}: sweep must be tables, such as [sweep.hue]")
    tables = {name: table for name, table in raw.items() if isinstance(table, dict)}
    for name in tables:
        if not NAME.fullmatch(name):
            raise UsageError(
                f"{source}: a swept setting cannot be called {name!r}", hint="use at most 30 letters and digits"
            )
        if name in TAKEN:
            raise UsageError(
                f"{source}: a swept setting cannot be called {name!r}, which means something else", hint=FREE_NAME
            )
    top = _validated(Settings, {name: value for name, value in raw.items() if name not in tables}, "[sweep]", source)
    if not tables or (top.together and len(tables) > MOST_KNOBS):
        raise UsageError(
            f"{source}: [sweep] names {len(tables)} settings; a grid has one or two",
            hint="vary each alone: together = false" if tables else "such as [sweep.hue], with knob and values",
        )
    for arm in top.arms or ():
        if arm not in arms:
            raise UsageError(f"{source}: [sweep] names an arm {arm!r}", hint=did_you_mean(arm, tuple(arms)))
    knobs = {name: _validated(Knob, table, f"[sweep.{name}]", source) for name, table in tables.items()}
    if len({knob.knob for knob in knobs.values()}) < len(knobs):
        raise UsageError(f"{source}: both tables of [sweep] vary the same setting", hint="name another one")
    return Sweep(knobs, top.arms, top.choose, top.together)


def with_value(sections: Mapping[str, Any], path: str, value: Value) -> dict[str, Any]:
    """Return the sections with one setting changed to a value; the given sections stay as they are.

    Raises UsageError where the path leads nowhere.
    """
    changed = deepcopy(dict(sections))
    _check_branch(changed, path)
    _set_value(changed, path.split("."), value, path)
    return changed


def value_text(value: Value) -> str:
    """Return a value as part of a folder's name; it does not depend on the other values."""
    if isinstance(value, float):
        return f"{value:.10g}"
    return re.sub(r"[^\w.+-]", "-", str(value).lower() if isinstance(value, bool) else str(value))


def _check_branch(sections: Mapping[str, Any], path: str) -> None:
    """Raise UsageError where the path names a branch that the recipe does not have."""
    section, _, rest = path.partition(".branches.")
    branches = sections.get(section, {}).get("branches", {})
    branch = rest.partition(".")[0]
    if branch and branch not in branches:
        raise UsageError(f"{path}: there is no branch {branch!r}", hint=did_you_mean(branch, tuple(branches)))


def _set_value(inside: Any, steps: Sequence[str], value: Value, path: str) -> None:
    """Follow the path and set the value in place; a plugin given by its name alone becomes a table."""
    step, *rest = steps
    place = _place(inside, step, path)
    if not rest:
        inside[place] = value
        return
    below = inside.get(place) if isinstance(inside, dict) else inside[place]
    if below is None and rest[0].isdecimal():
        raise UsageError(
            f"{path}: the recipe does not set {step}, so there is no item {rest[0]}",
            hint=f"write {step} into the recipe",
        )
    if below is None:
        below = {}
    elif isinstance(below, str):
        below = {"name": below}
    elif isinstance(below, tuple):
        below = list(below)
    if not isinstance(below, dict | list):
        raise UsageError(f"{path} goes on after {step}, whose value is {below!r}", hint=f"end the path at {step}")
    inside[place] = below
    _set_value(below, rest, value, path)


def _place(inside: Any, step: str, path: str) -> Any:
    """Return the key in a table, or the index in a list by number or by the name of a transform."""
    if isinstance(inside, dict):
        return step
    if step.isdecimal():
        if int(step) < len(inside):
            return int(step)
        raise UsageError(
            f"{path}: the list has {len(inside)} items, so there is no item {step}", hint="items are numbered from 0"
        )
    name, _, number = step.partition("#")
    names = [item.get("name") if isinstance(item, dict) else item for item in inside]
    places = [place for place, one in enumerate(names) if one == name]
    if not places:
        known = tuple(str(one) for one in dict.fromkeys(names))
        raise UsageError(f"{path}: there is no {name!r} in that list", hint=did_you_mean(name, known))
    if not number and len(places) > 1:
        raise UsageError(
            f"{path}: {name!r} occurs {len(places)} times in that list", hint=f"say which: {name}#1 is the first"
        )
    if number and not (number.isdecimal() and 1 <= int(number) <= len(places)):
        raise UsageError(f"{path}: {name!r} occurs {len(places)} times in that list, so there is no {step!r}")
    return places[int(number) - 1 if number else 0]


def _validated(model: type[Any], given: Any, where: str, source: str) -> Any:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        fault = first_fault(error)
        at = ".".join(str(step) for step in fault.path)
        raise UsageError(
            f"{source}, {where}: {at + ': ' if at else ''}{fault.message}",
            hint=fault.hint or "cellssl explain sweep lists what there is",
        ) from error
