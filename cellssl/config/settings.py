"""settings: the base of every settings model; a part of a recipe in, a strict frozen object or one fault out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError, ValidationInfo, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from cellssl.config import plugins
from cellssl.errors import UsageError

FORMER_NAMES = "former_names"
"""Key of the validation context under which former names of fields are read, as cards of older artifacts have them."""


class SettingsModel(BaseModel):
    """Frozen, and without unknown keys; no type is converted but whole numbers to floats and lists to tuples."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    RENAMED: ClassVar[Mapping[str, str]] = {}
    """Former name of a field -> its name today. In a recipe a former name is an error that says so; in the card of an
    older artifact it is read."""

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, dict):
            return given
        if info.context and info.context.get(FORMER_NAMES):
            given = {cls.RENAMED.get(key, key): value for key, value in given.items()}
        known = tuple(field.alias or name for name, field in cls.model_fields.items())
        for key in given:
            if key in cls.RENAMED:
                raise _fault((), f"{key!r} was renamed to {cls.RENAMED[key]!r}", f"write {cls.RENAMED[key]} instead")
            if key not in known:
                raise PydanticCustomError(
                    "fault",
                    "{message}",
                    {"message": f"unknown key {key!r}", "hint": plugins.did_you_mean(key, known), "path": ()},
                )
            if _beyond_64_bits(given[key]):
                raise PydanticCustomError(
                    "fault", "{message}", {"message": "a whole number has 64 bits at most", "hint": "", "path": (key,)}
                )
        return {key: _tuples(value) for key, value in given.items()}

    def non_default(self) -> dict[str, Any]:
        """The values that differ from the defaults and count in a fingerprint, ready for JSON."""
        return {
            name: json_ready(getattr(self, name))
            for name, field in type(self).model_fields.items()
            if is_counted(field)
            and (field.is_required() or getattr(self, name) != field.get_default(call_default_factory=True))
        }

    def all_values(self) -> dict[str, Any]:
        """Every value that counts, the defaults among them, ready for JSON."""
        fields = type(self).model_fields
        return {name: json_ready(getattr(self, name), full=True) for name, field in fields.items() if is_counted(field)}

    @classmethod
    def algorithm(cls) -> int:
        """Return the ALGORITHM of the model's file, 1 where it has none: higher when the same knobs give other results."""
        return int(getattr(sys.modules[cls.__module__], "ALGORITHM", 1))

    def excluded(self) -> dict[str, Any]:
        """Every value that does not: how the work was done, and not what came of it."""
        fields = type(self).model_fields
        return {
            name: json_ready(getattr(self, name), full=True) for name, field in fields.items() if not is_counted(field)
        }


class Plugin(SettingsModel):
    """Settings of one part of a room; the part's `name` in a recipe is the name of its file."""

    @classmethod
    def plugin_name(cls) -> str:
        """The name in the recipe."""
        return cls.__module__.rsplit(".", 1)[-1]


class PluginField:
    """Annotation of a field that holds a part of a room: `{name = "affine", degrees = 20}`, or just `"affine"`.

    `name` is checked against the room's files first, then the rest against the `Settings` of that file.
    """

    def __init__(self, room: str) -> None:
        self.room = room

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            lambda value, info: self.choose(value, info.context), serialization=core_schema.to_string_ser_schema()
        )

    def choose(self, value: Any, context: Any = None) -> Plugin:
        """The settings of the part that `value` names."""
        if isinstance(value, Plugin):
            return value
        given = {"name": value} if isinstance(value, str) else value
        if not isinstance(given, dict) or not isinstance(given.get("name"), str):
            raise _fault(
                (), "must be a name, or a table with a name", f"there are: {', '.join(plugins.names(self.room))}"
            )
        try:
            settings = plugins.load(self.room, given["name"]).Settings
            rest = {key: knob for key, knob in given.items() if key != "name"}
            chosen: Plugin = settings.model_validate(rest, context=context)
        except UsageError as error:
            raise _fault(("name",), error.message, error.hint) from error
        except ValidationError as error:
            fault = first_fault(error)
            raise _fault(fault.path, fault.message, fault.hint) from error
        return chosen


@dataclass(frozen=True)
class SettingsFault:
    """What is wrong with a value: where it stands, what is wrong, and the cure where one is known."""

    path: tuple[str | int, ...]
    message: str
    hint: str


def first_fault(error: ValidationError) -> SettingsFault:
    """The first thing that pydantic has to say, in the words of this tool."""
    first = error.errors(include_url=False)[0]
    context = first.get("ctx", {})
    path = (*first["loc"], *context.get("path", ()))
    if first["type"] == "fault":
        return SettingsFault(path, context["message"], context["hint"])
    message = first["msg"].removeprefix("Value error, ")
    message = message.replace("Input should be", "must be").replace("Field required", "is required but not given")
    if first["type"] == "missing" or isinstance(first["input"], dict):  # a whole table says nothing in one line
        return SettingsFault(path, message, "")
    return SettingsFault(path, f"{message}, got {first['input']!r}"[:300], "")


def is_counted(field: Any) -> bool:
    """Whether a field is part of a result; `json_schema_extra={"counts": False}` says it is not."""
    extra = field.json_schema_extra
    return not (isinstance(extra, dict) and extra.get("counts") is False)


NOT_IN_FINGERPRINT: dict[str, Any] = {"counts": False}


def _fault(path: tuple[str | int, ...], message: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError("fault", "{message}", {"path": path, "message": message, "hint": hint})


def _beyond_64_bits(value: Any) -> bool:
    """As TOML has it, though Python reads larger ones; no library that we hand them to bears these."""
    if isinstance(value, list | tuple):
        return any(map(_beyond_64_bits, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def json_ready(value: Any, *, full: bool = False) -> Any:
    match value:
        case Plugin():
            version = {"algorithm": value.algorithm()} if value.algorithm() > 1 and not full else {}
            return {"name": value.plugin_name(), **version, **(value.all_values() if full else value.non_default())}
        case SettingsModel():
            return value.all_values() if full else value.non_default()
        case dict():
            return {key: json_ready(item, full=full) for key, item in value.items()}
        case tuple() | list():
            return [json_ready(item, full=full) for item in value]
        case Path():
            return str(value)
        case _:
            return value
