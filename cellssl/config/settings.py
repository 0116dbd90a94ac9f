"""settings: a part of a recipe in, a strict and frozen settings object or one sentence about what is wrong with it out.

Every section of a recipe and every plugin has a settings model. Its fields are the settings of the user, the docstring
under a field is what `cellssl explain` prints, and its default exists here only.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import itertools
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError, ValidationInfo, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from cellssl.config import plugins
from cellssl.errors import UsageError

NOT_IN_FINGERPRINT: dict[str, Any] = {"counts": False}
"""`json_schema_extra` of a field that changes how work is done and not its result, such as a number of workers."""
ORDERED: dict[str, Any] = {"ordered": True}
"""`json_schema_extra` of a table whose order is part of the result, such as that of channels."""
CHANGES = "changes"
"""Key in `json_schema_extra` of a field that changes another plugin, and holds settings without a name or another name:
the plugin folder. Such a field is validated where both are known."""
FROM_CARD = "from_card"
"""Key of the validation context in which the card of an artifact is read: former names of fields are translated, and
fields that no longer exist are left out."""


class SettingsModel(BaseModel):
    """Base of all settings: frozen, no unknown keys, no type conversion except int to float and list to tuple."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    RENAMED: ClassVar[Mapping[str, str]] = {}
    """Former name of a field -> its name today. A recipe with a former name gets an error that says so."""

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, dict):
            return given
        known = tuple(field.alias or name for name, field in cls.model_fields.items())
        if info.context and info.context.get(FROM_CARD):
            today = {cls.RENAMED.get(key, key): value for key, value in given.items()}
            given = {key: value for key, value in today.items() if key in known}
        for key, value in given.items():
            if key in cls.RENAMED:
                raise _fault((), f"{key!r} was renamed to {cls.RENAMED[key]!r}", f"write {cls.RENAMED[key]} instead")
            if key not in known:
                raise _fault((), f"unknown key {key!r}", plugins.did_you_mean(key, known))
            if _beyond_64_bits(value):
                raise _fault((key,), "a whole number has 64 bits at most", "")
        return {key: _tuples(cls._with_default_name(key, value)) for key, value in given.items()}

    @classmethod
    def _with_default_name(cls, key: str, value: Any) -> Any:
        """Return a plugin's table with the name of the default plugin, where it gives settings but no name."""
        field = cls.model_fields.get(key)
        if field is None or field.is_required() or not isinstance(value, dict) or "name" in value:
            return value
        if not any(isinstance(one, PluginField) for one in field.metadata):
            return value
        return {"name": field.get_default(call_default_factory=True).plugin_name(), **value}

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """Return the docstring under every field, "" where there is none.

        The sources are parsed when this is called, and not when a model is defined: that would take most of the time
        of a command that has nothing to do.
        """
        found: dict[str, str] = {}
        for model in reversed(cls.__mro__):
            if issubclass(model, SettingsModel):
                found |= _docstrings_under_fields(model)
        return {name: found.get(name, "") for name in cls.model_fields}

    @classmethod
    def algorithm(cls) -> int:
        """Return the ALGORITHM of the model's file, 1 where it has none.

        It must rise whenever the same settings give another result.
        """
        return int(getattr(sys.modules[cls.__module__], "ALGORITHM", 1))

    def silent(self) -> frozenset[str]:
        """Return the fields that have no effect given the values of the others, and so do not count."""
        return frozenset()

    def counted_value(self, name: str) -> Any:
        """Return the value of a field as the fingerprint and the card take it."""
        return getattr(self, name)

    def non_default(self) -> dict[str, Any]:
        """Return the values that count and differ from their defaults, ready for JSON."""
        return {name: json_ready(value) for name, value in self._counted() if not self._is_default(name, value)}

    def all_values(self) -> dict[str, Any]:
        """Return every value that counts, the defaults among them, ready for JSON: what a card holds."""
        fields = type(self).model_fields
        return {name: json_ready(getattr(self, name), full=True) for name in fields if is_counted(fields[name])}

    def excluded(self) -> dict[str, Any]:
        """Return every value that does not count, ready for JSON."""
        fields = type(self).model_fields
        return {name: json_ready(getattr(self, name), full=True) for name in fields if not is_counted(fields[name])}

    def fingerprint_values(self) -> dict[str, Any]:
        """Return what a fingerprint counts: values other than the defaults, and every plugin in use.

        A plugin counts with its name, its ALGORITHM and the sha256 of the files that it ships, also where it is the
        default. The order of a table counts where its field is marked ORDERED.
        """
        found = {}
        for name, value in self._counted():
            if not self._is_default(name, value) or _has_plugin(value):
                found[name] = _fingerprint_value(value, ordered=is_ordered(type(self).model_fields[name]))
        return found

    def _counted(self) -> list[tuple[str, Any]]:
        silent = self.silent()
        fields = type(self).model_fields
        return [(name, self.counted_value(name)) for name in fields if is_counted(fields[name]) and name not in silent]

    def _is_default(self, name: str, value: Any) -> bool:
        field = type(self).model_fields[name]
        return not field.is_required() and bool(value == field.get_default(call_default_factory=True))


class Plugin(SettingsModel):
    """Settings of a plugin: one file of a plugin folder. The file's name is the plugin's name in a recipe."""

    @classmethod
    def plugin_name(cls) -> str:
        """Return the name in a recipe."""
        return cls.__module__.rsplit(".", 1)[-1]

    def shipped_files(self) -> Mapping[str, Path]:
        """Return the files of this package that decide the result, such as weights, by their role."""
        return {}


class PluginField:
    """Annotation of a field that holds a plugin: `{name = "affine", degrees = 20}`, or just `"affine"`.

    `name` is checked against the files of the folder first, then the rest against the `Settings` of that file. A table
    without a name has the settings of the default plugin, where the field has one.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            lambda value, info: self.choose(value, info.context), serialization=core_schema.to_string_ser_schema()
        )

    def choose(self, value: Any, context: Any = None) -> Plugin:
        """Return the settings of the plugin that `value` names."""
        if isinstance(value, Plugin):
            return value
        given = {"name": value} if isinstance(value, str) else value
        if not isinstance(given, dict) or not isinstance(given.get("name"), str):
            raise _fault(
                (), "must be a name, or a table with a name", f"there are: {', '.join(plugins.names(self.folder))}"
            )
        try:
            settings = plugins.load(self.folder, given["name"]).Settings
            rest = {key: value for key, value in given.items() if key != "name"}
            chosen: Plugin = settings.model_validate(rest, context=context)
        except UsageError as error:
            raise _fault(("name",), error.message, error.hint) from error
        except ValidationError as error:
            fault = first_fault(error)
            raise _fault(fault.path, fault.message, fault.hint) from error
        return chosen


@dataclass(frozen=True)
class SettingsFault:
    """What is wrong with a value: its place, what is wrong, and the cure where one is known."""

    path: tuple[str | int, ...]
    message: str
    hint: str


def first_fault(error: ValidationError) -> SettingsFault:
    """Return the first fault that pydantic found, in the words of this tool."""
    first = error.errors(include_url=False)[0]
    context = first.get("ctx", {})
    path = (*first["loc"], *context.get("path", ()))
    if first["type"] == "fault":
        return SettingsFault(path, context["message"], context["hint"])
    message = first["msg"].removeprefix("Value error, ")
    message = message.replace("Input should be", "must be").replace("Field required", "is required but not given")
    if first["type"] == "missing" or isinstance(first["input"], dict):  # a whole table does not fit into one line
        return SettingsFault(path, message, "")
    return SettingsFault(path, f"{message}, got {first['input']!r}"[:300], "")


def is_counted(field: Any) -> bool:
    """Return whether a field is part of a result."""
    extra = field.json_schema_extra
    return not (isinstance(extra, dict) and extra.get("counts") is False)


def is_ordered(field: Any) -> bool:
    """Return whether the order of a table is part of a result."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("ordered") is True


def json_ready(value: Any, *, full: bool = False) -> Any:
    """Return a value as JSON can hold it; `full` writes the defaults of settings too."""
    match value:
        case Plugin():
            return {"name": value.plugin_name(), **(value.all_values() if full else value.non_default())}
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


def _fingerprint_value(value: Any, *, ordered: bool = False) -> Any:
    match value:
        case Plugin():
            shipped = {role: _digest_now(path) for role, path in value.shipped_files().items()}
            known = {"algorithm": value.algorithm(), **({"shipped": shipped} if shipped else {})}
            return {"name": value.plugin_name(), **known, "settings": value.fingerprint_values()}
        case SettingsModel():
            return value.fingerprint_values()
        case dict():
            items = [[key, _fingerprint_value(item)] for key, item in value.items()]
            return items if ordered else dict(items)
        case tuple() | list():
            return [_fingerprint_value(item) for item in value]
        case _:
            return json_ready(value)


def _has_plugin(value: Any) -> bool:
    match value:
        case Plugin():
            return True
        case SettingsModel():
            return any(_has_plugin(item) for _, item in value._counted())
        case dict():
            return any(map(_has_plugin, value.values()))
        case tuple() | list():
            return any(map(_has_plugin, value))
        case _:
            return False


def _digest_now(path: Path) -> str:
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@cache
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    """Return the sha256 of a file; it is read again where its size or time has changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fault(path: tuple[str | int, ...], message: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError("fault", "{message}", {"path": path, "message": message, "hint": hint})


def _beyond_64_bits(value: Any) -> bool:
    """Return whether a number is larger than TOML and the libraries below allow; Python reads it all the same."""
    if isinstance(value, list | tuple):
        return any(map(_beyond_64_bits, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


@cache
def _docstrings_under_fields(model: type[SettingsModel]) -> Mapping[str, str]:
    """Return field -> the docstring under it in the body of this class."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, below in itertools.pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            match below.value:
                case ast.Constant(value=str(text)):
                    found[field.target.id] = inspect.cleandoc(text)
    return found
