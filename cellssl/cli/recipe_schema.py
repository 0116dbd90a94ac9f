"""recipe_schema: the settings models of all sections and plugins in, one JSON Schema of recipes out.

Editors and validators read it, so it keeps to draft 7, which all of them know. Where a value may be of several kinds,
`if` decides by its type or by the name of the plugin, so that an error names the key that is wrong; `anyOf` would only
say that no alternative fits. An `anyOf` that begins with `true` refuses nothing: editors that do not follow `if` find
there what they can offer.

What depends on other tables, on files, or on what an arm is laid over is left to the settings models; docs/commands.md
lists it. What else a model asks of its own keys stands beside it, as `json_schema_extra`.

Patterns are read by three kinds of regular expressions: ECMAScript's, Python's and Rust's. So none has `\\w`, `\\d` or
`\\s`, which are ASCII in some and Unicode in others. Python's `$` lets a line break at the end pass.
"""

from __future__ import annotations

import importlib
import json
import math
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import WithJsonSchema
from pydantic_core import PydanticUndefined

from cellssl.cli.explained import Setting, settings_of
from cellssl.config import paths, plugins, sweep
from cellssl.config.recipe import CHAIN, SCHEMA_TITLE
from cellssl.config.settings import CHANGES, Plugin, PluginField, SettingsModel, json_ready

Schema = dict[str, Any]
Part = tuple[str, Schema]
"""A type of JSON, and the schema of a value that has it."""

DRAFT = "http://json-schema.org/draft-07/schema#"
TYPES: dict[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string"}
NUMBERS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
OF_ANY_TYPE = {"$ref", "allOf", "anyOf", "enum", "if"}
"""Keywords that speak of values of any type."""
LEAST = {"array": "minItems", "object": "minProperties", "string": "minLength"}
"""Type -> the keyword that a `min_length` becomes."""


def recipe_schema() -> Schema:
    """Return the schema of recipes; the same settings models give the same schema, in the same order."""
    tables = _Tables()
    folder_name = tables.names_of_folders()
    sections = {stage: tables.section(stage) for stage in CHAIN}
    arm = {stage: tables.section(stage, of_arm=True) for stage in CHAIN}
    top = {
        "name": {"description": "Name of the recipe; by default that of its file.", **folder_name},
        "seeds": {
            "description": "Seeds of training; every one is a training of its own.",
            "default": [0],
            "type": "array",
            "items": {"type": "integer"},
            "minItems": 1,
            "uniqueItems": True,
        },
        "main_arm": {"description": "Name of the arm that the sections describe.", "default": "main", **folder_name},
        **sections,
        "arm": {
            "description": "Arms by their names: each changes some settings of the sections.",
            "type": "object",
            "propertyNames": folder_name,
            "additionalProperties": {"description": "An arm.", **_closed(arm)},
        },
        "sweep": tables.sweep(),
    }
    return {
        "$schema": DRAFT,
        "title": SCHEMA_TITLE,
        "description": "A recipe of cellssl: one section per stage, seeds, arms and a sweep. Written by "
        "`cellssl explain --schema`.",
        **_closed(top),
        "definitions": dict(sorted(tables.definitions.items())),
    }


def schema_text() -> str:
    """Return the schema as the file holds it."""
    return json.dumps(recipe_schema(), indent=1, ensure_ascii=False) + "\n"


class _Tables:
    """The definitions of sections, plugins and plugin folders, each made when it is first needed.

    Where `of_arm` is set, a table may leave out what the table below it has, and a plugin's table without a name
    changes the plugin below. Lists are replaced and not merged, so what is in them is whole.
    """

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}

    def section(self, stage: str, *, of_arm: bool = False) -> Schema:
        """Return the schema of a section."""
        model = importlib.import_module(f"cellssl.stages.{stage}.settings").Settings
        return self._once(f"arm.{stage}" if of_arm else stage, lambda: self._table(model, of_arm))

    def sweep(self) -> Schema:
        """Return the schema of [sweep]: its settings, and a table for every swept setting."""
        top = self._table(sweep.Settings, of_arm=False)
        names = {"pattern": sweep.NAME_IN_SCHEMA, "not": {"enum": list(sweep.TAKEN)}}
        own = {"enum": list(top["properties"])}
        return {
            **top,
            "propertyNames": {"if": own, "else": names},
            "not": {"propertyNames": own},  # at least one swept setting
            "additionalProperties": self._table(sweep.Knob, of_arm=False),
        }

    def names_of_folders(self) -> Schema:
        """Return the schema of a name that a folder can have."""
        return _either(self._parts(paths.FolderName, of_arm=False))

    def _once(self, name: str, make: Callable[[], Schema]) -> Schema:
        if name not in self.definitions:
            self.definitions[name] = {}  # a circle would end here
            self.definitions[name] = make()
        return {"$ref": f"#/definitions/{name}"}

    def _table(self, model: type[SettingsModel], of_arm: bool, name: str | None = None) -> Schema:
        """Return the schema of a model; `name` is that of a plugin, which its table may give."""
        settings = {one.name: one for one in settings_of(model)}
        fields = {field.alias or key: field for key, field in model.model_fields.items()}
        meaning = " ".join((model.__doc__ or "").split())
        properties = {} if name is None else {"name": {"const": name, "description": meaning}}
        properties |= {key: self._setting(settings[key], fields[key], of_arm) for key in settings}
        required = [key for key, field in fields.items() if field.is_required() and not of_arm]
        extra = model.model_config.get("json_schema_extra")
        rules = extra if isinstance(extra, dict) and not of_arm else {}
        return {"description": meaning, **_closed(properties), **({"required": required} if required else {}), **rules}

    def _setting(self, setting: Setting, field: Any, of_arm: bool) -> Schema:
        """Return the schema of one setting, with its meaning, unit and default."""
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if CHANGES in extra:
            parts = self._plugin(str(extra[CHANGES]), of_arm=True)
        elif isinstance(default, Plugin) and not of_arm:
            parts = self._plugin(type(default).__module__.rpartition(".")[0], of_arm, default.plugin_name())
        else:
            annotation = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
            parts = self._parts(annotation, of_arm)
        shown = {} if default is None else {"default": _shown(default)}
        return {**_either(parts), "description": _meaning(setting), **shown}

    def _parts(self, annotation: Any, of_arm: bool) -> Iterator[Part]:
        """Yield the types that a value may have, each with its schema."""
        origin, inner = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            yield from self._annotated(inner[0], inner[1:], of_arm)
        elif origin in (Union, types.UnionType):
            for one in inner:
                yield from self._parts(one, of_arm)
        elif origin is Literal:
            yield TYPES[type(inner[0])], {"type": TYPES[type(inner[0])], "enum": list(inner)}
        elif origin in (tuple, list):
            yield "array", self._list(inner if origin is tuple else (*inner, Ellipsis))
        elif origin is dict:
            names = {} if inner[0] is str else {"propertyNames": _either(self._parts(inner[0], of_arm))}
            values = {} if inner[1] is Any else {"additionalProperties": _either(self._parts(inner[1], of_arm))}
            yield "object", {"type": "object", **names, **values}
        elif isinstance(annotation, type) and issubclass(annotation, SettingsModel):
            yield "object", self._table(annotation, of_arm)
        elif annotation is not type(None):  # TOML has none
            yield TYPES[annotation], {"type": TYPES[annotation]}

    def _annotated(self, annotation: Any, metadata: Sequence[Any], of_arm: bool) -> Iterator[Part]:
        """Yield the types of a plugin, of what a validator reads, or of the annotation within its bounds."""
        for one in metadata:
            if isinstance(one, PluginField):
                yield from self._plugin(one.folder, of_arm)
                return
            if isinstance(one, WithJsonSchema):
                given = one.json_schema or {}
                yield from ((schema["type"], schema) for schema in given.get("anyOf", [given]))
                return
            if getattr(one, "json_schema_input_type", PydanticUndefined) not in (PydanticUndefined, Any):
                yield from self._parts(one.json_schema_input_type, of_arm)
                return
        for kind, schema in self._parts(annotation, of_arm):
            yield kind, {**schema, **_bounds(kind, metadata, of_arm)}

    def _list(self, inner: Sequence[Any]) -> Schema:
        items = _either(self._parts(inner[0], of_arm=False))
        count = {} if Ellipsis in inner else {"minItems": len(inner), "maxItems": len(inner)}
        return {"type": "array", "items": items, **count}

    def _plugin(self, folder: str, of_arm: bool, default: str | None = None) -> Iterator[Part]:
        """Yield a plugin as its name, and as a table with its name and its settings.

        Where there is a default plugin, a table without a name has its settings.
        """
        place = folder.removeprefix("cellssl.")
        yield "string", self._once(f"{place}.NAME", lambda: self._names(folder))
        table = self._once(f"arm.{place}" if of_arm else place, lambda: self._plugin_table(folder, of_arm))
        if default is None:
            yield "object", table
        else:
            own = self._settings_of_plugin(folder, default, of_arm=False)
            yield "object", {"if": {"required": ["name"]}, "then": table, "else": own, "anyOf": [True, table]}

    def _names(self, folder: str) -> Schema:
        """Return the schema of a name that stands alone; a plugin with a required setting needs a table."""
        models = {name: plugins.load(folder, name).Settings for name in plugins.names(folder)}
        alone = {
            name: " ".join((model.__doc__ or "").split())
            for name, model in models.items()
            if not any(field.is_required() for field in model.model_fields.values())
        }
        return {"type": "string", "enum": list(alone), "x-taplo": {"docs": {"enumValues": list(alone.values())}}}

    def _plugin_table(self, folder: str, of_arm: bool) -> Schema:
        """Return the schema of a plugin's table: by its name; without it, in an arm, all settings of the folder."""
        tables = {name: self._settings_of_plugin(folder, name, of_arm) for name in plugins.names(folder)}
        names = {"properties": {"name": {"description": "Which one it is.", "enum": list(tables)}}}
        by_name = [
            {"if": {"properties": {"name": {"const": name}}, "required": ["name"]}, "then": table}
            for name, table in tables.items()
        ]
        offered = {"anyOf": [True, *tables.values()]}
        if not of_arm:
            return {"type": "object", "required": ["name"], **names, "allOf": by_name, **offered}
        any_of_them = {"properties": self._any_settings(tables.values()), "additionalProperties": False}
        with_name = {"if": {"required": ["name"]}, "then": {**names, "allOf": by_name}, "else": any_of_them}
        return {"type": "object", **with_name, **offered}

    def _settings_of_plugin(self, folder: str, name: str, of_arm: bool) -> Schema:
        """Return the definition of a plugin's settings; an arm has its own where that differs."""
        model = plugins.load(folder, name).Settings
        place = f"{folder.removeprefix('cellssl.')}.{name}"
        whole = self._once(place, lambda: self._table(model, of_arm=False, name=name))
        part = self._table(model, of_arm=True, name=name) if of_arm else self.definitions[place]
        return whole if part == self.definitions[place] else self._once(f"arm.{place}", lambda: part)

    def _any_settings(self, tables: Any) -> Schema:
        """Return every setting that one of the plugins has; where several have it, one of their schemas must fit."""
        found: dict[str, dict[str, Schema]] = {}
        for table in tables:
            name = table["$ref"].rsplit("/", 1)[-1]
            for key, schema in self.definitions[name]["properties"].items():
                same = json.dumps({**schema, "description": "", "default": ""}, sort_keys=True)
                found.setdefault(key, {}).setdefault(same, {"$ref": f"{table['$ref']}/properties/{key}"})
        one_of_them = {key: list(schemas.values()) for key, schemas in found.items() if key != "name"}
        return {key: one[0] if len(one) == 1 else {"anyOf": one} for key, one in sorted(one_of_them.items())}


def _closed(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _meaning(setting: Setting) -> str:
    """Return what a setting means, with its unit where the sentence does not give it."""
    is_number = any("number" in word for word in setting.types)
    unit = f" Unit: {setting.unit}." if setting.unit and is_number and setting.unit not in setting.meaning else ""
    return f"{setting.meaning}{unit}"


def _shown(default: Any) -> Any:
    """Return a default as a recipe writes it: a plugin without changes by its name alone."""
    match default:
        case Plugin() if not default.non_default():
            return default.plugin_name()
        case tuple():
            return [_shown(one) for one in default]
        case _:
            return json_ready(default)


def _bounds(kind: str, metadata: Sequence[Any], of_arm: bool) -> Schema:
    """Return the bounds of a value of this type; an arm adds to a table, which may so be empty."""
    found: Schema = {}
    for one in metadata:
        found |= _bounds(kind, getattr(one, "metadata", ()), of_arm)  # of a Field within a type
        for name, keyword in NUMBERS.items():
            value = getattr(one, name, None)
            if kind in ("integer", "number") and value is not None and math.isfinite(value):
                found[keyword] = value
        if kind == "string" and (pattern := getattr(one, "pattern", None)):
            found["pattern"] = pattern
        least = getattr(one, "min_length", None)
        if least and kind in LEAST and not (of_arm and kind == "object"):
            found[LEAST[kind]] = least
    return found


def _either(parts: Iterable[Part]) -> Schema:
    """Return a schema of a value that may have several types.

    Bounds, items and properties each speak of one type, so they stand side by side; the others are chosen by `if`.
    """
    groups: dict[str, list[Schema]] = {}
    for kind, schema in parts:
        group = groups.setdefault(kind, [])
        if schema not in group:
            group.append(schema)
    if "number" in groups and groups.get("integer") == [{"type": "integer"}]:
        del groups["integer"]  # numbers hold whole ones
    found: Schema = {}
    chosen: dict[str, Schema] = {}
    offered: list[Schema] = []
    for kind, schemas in groups.items():
        if len(schemas) == 1 and not OF_ANY_TYPE & set(schemas[0]):
            found |= schemas[0]
        else:
            chosen[kind] = _first_that_fits(schemas)
            offered += schemas
    if not found and len(groups) == 1 and len(offered) == 1:
        return offered[0]
    types = list(groups)
    found["type"] = types if len(types) > 1 else types[0]
    return {**found, **_by_type(chosen), **({"anyOf": [True, *offered]} if offered else {})}


def _first_that_fits(schemas: Sequence[Schema]) -> Schema:
    """Return a schema of alternatives of one type; the last one gives the words of an error."""
    *before, last = schemas
    for one in reversed(before):
        last = {"if": one, "else": last}
    return last


def _by_type(chosen: Mapping[str, Schema]) -> Schema:
    found: Schema = {}
    for kind, schema in reversed(list(chosen.items())):
        found = {"if": {"type": kind}, "then": schema, **({"else": found} if found else {})}
    return found
