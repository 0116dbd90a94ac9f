"""explained: settings models in; default, type, unit, bounds, choices and meaning of each setting, in words, out."""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cellssl.config import plugins
from cellssl.config.settings import Plugin, PluginField, SettingsModel, json_ready

UNITS = {
    "px": "pixels",
    "um": "micrometres",
    "um2": "square micrometres",
    "s": "seconds",
    "mb": "megabytes",
    "gb": "gigabytes",
    "micromolar": "micromolar",
    "degrees": "degrees",
    "shear": "degrees",
    "epochs": "epochs",
    "steps": "steps",
    "days": "days",
    "percentile": "percent",
}
"""Last word of a name -> its unit."""
SAID = re.compile(r"\bin (pixels|micrometres|square micrometres|seconds|degrees|megabytes)\b")
"""A unit that the meaning of a setting states."""
BOUNDS = (("ge", "at least {}"), ("gt", "more than {}"), ("le", "at most {}"), ("lt", "less than {}"))
LIST_OF_CHOICES = "list of choices"
WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}


@dataclass(frozen=True)
class Setting:
    """One setting, in words."""

    name: str
    default: str
    meaning: str
    types: tuple[str, ...]
    unit: str
    bounds: tuple[str, ...]
    choices: tuple[str, ...]
    folder: str = ""
    """The plugin folder that its choices come from, such as `objectives`."""
    models: tuple[type[SettingsModel], ...] = ()
    """Models of the tables that it holds."""
    is_named: bool = False
    """Whether it is a table of tables, each with a name of the user's."""

    def kind(self) -> str:
        """Return type, unit, bounds and choices in a line."""
        unit = f" ({self.unit})" if self.unit and any("number" in word for word in self.types) else ""
        if LIST_OF_CHOICES in self.types:
            return "; ".join([f"a list of any of {', '.join(self.choices)}", *self.bounds])
        words = f"{' or '.join(self.types)}{unit}" if self.types else ""
        listed = ""
        if self.choices:
            listed = f"one of {', '.join(self.choices)}" if len(self.choices) > 1 else self.choices[0]
        return "; or ".join(one for one in (listed, ", ".join(one for one in (words, *self.bounds) if one)) if one)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {
            "knob": self.name,
            "default": self.default,
            "meaning": self.meaning,
            "type": " or ".join(self.types),
            "unit": self.unit or None,
            "bounds": list(self.bounds),
            "choices": list(self.choices),
        }


def settings_of(model: type[SettingsModel]) -> list[Setting]:
    """Return the settings of a model, its own before those that it shares with related plugins."""
    descriptions = model.descriptions()
    own = inspect.get_annotations(model)
    fields = sorted(model.model_fields.items(), key=lambda item: item[0] not in own)
    return [_setting(field.alias or name, field, " ".join(descriptions[name].split())) for name, field in fields]


def _setting(name: str, field: Any, meaning: str) -> Setting:
    found = _Parts()
    found.read(Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation)
    unit = UNITS.get(name.rsplit("_", 1)[-1], "")
    if not unit and (said := SAID.search(meaning)):
        unit = said[1]
    return Setting(
        name,
        default_of(field),
        meaning,
        tuple(dict.fromkeys(found.types)),
        unit,
        tuple(dict.fromkeys(found.bounds)),
        tuple(dict.fromkeys(found.choices)),
        found.folder,
        tuple(found.models),
        found.is_named,
    )


class _Parts:
    """What the annotation of a field holds, collected from its inside out."""

    def __init__(self) -> None:
        self.types: list[str] = []
        self.bounds: list[str] = []
        self.choices: list[str] = []
        self.models: list[type[SettingsModel]] = []
        self.folder = ""
        self.is_named = False

    def read(self, annotation: Any) -> None:
        """Read one annotation and all that it is made of."""
        origin, inner = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            self._read_annotated(inner[0], inner[1:])
        elif origin in (Union, types.UnionType):
            for one in inner:
                self.read(one)
        elif origin is Literal:
            self.choices += [json.dumps(one) for one in inner]
        elif origin in (tuple, list):
            self._read_list(inner)
        elif origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
            self.is_named = True
            self.types.append("table")
            self._read_models(inner[-1])
        elif isinstance(annotation, type) and issubclass(annotation, SettingsModel):
            self.types.append("table")
            self.models.append(annotation)
        elif annotation in WORDS:
            self.types.append(WORDS[annotation])

    def _read_annotated(self, annotation: Any, metadata: tuple[Any, ...]) -> None:
        folder = next((one.folder for one in metadata if isinstance(one, PluginField)), "")
        if folder:
            self.folder = folder
            self.choices += plugins.names(folder)
        else:
            self.read(annotation)
        for one in metadata:
            self.bounds += _bounds(one)

    def _read_list(self, inner: tuple[Any, ...]) -> None:
        of = _Parts()
        for one in inner:
            if one is not Ellipsis:
                of.read(one)
        self.choices += of.choices
        self.models += of.models
        self.folder = self.folder or of.folder
        self.bounds += of.bounds
        same = " or ".join(dict.fromkeys(of.types))
        count = "" if Ellipsis in inner else f"{len(inner)} "
        plural = re.sub(r"(number|text|path|table)\b", r"\1s", same)
        self.types.append(f"list of {count}{plural}" if plural else LIST_OF_CHOICES)

    def _read_models(self, annotation: Any) -> None:
        of = _Parts()
        of.read(annotation)
        self.models += of.models
        self.folder = self.folder or of.folder


def _bounds(metadata: Any) -> Iterator[str]:
    for name, words in BOUNDS:
        if (value := getattr(metadata, name, None)) is not None:
            yield words.format(f"{value:g}" if isinstance(value, int | float) else value)
    if least := getattr(metadata, "min_length", None):
        yield f"at least {least} of them" if least > 1 else "not empty"


def default_of(field: Any) -> str:
    """Return the default of a field as a recipe writes it."""
    if field.is_required():
        return "(required)"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Plugin):
        return json.dumps(value.plugin_name())
    if isinstance(value, tuple) and any(isinstance(one, Plugin) for one in value):
        return json.dumps([one.plugin_name() if not one.non_default() else json_ready(one) for one in value])
    return "(not given)" if value is None else json.dumps(json_ready(value))
