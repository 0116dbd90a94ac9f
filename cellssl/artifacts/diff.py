"""diff: two cards in; the settings, inputs, versions and files that differ, with both values, out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cellssl.artifacts.card import Card

LONGEST_VALUE = 60
"""Characters of a value; a longer one is cut."""
ABSENT = object()
MADE_WITH = ("cellssl", "libraries", "device", "precision", "python", "platform")
"""What of a run may explain that other bytes were made; its time and host do not."""


@dataclass(frozen=True)
class Change:
    """Something that differs, and its two values in words."""

    what: str
    first: str
    second: str

    def in_words(self) -> str:
        """Return it as one line."""
        return f"{self.what}: {self.first} against {self.second}"


def differences(first: Card, second: Card) -> list[str]:
    """Return one line per difference: recipe, inputs and versions first, then files; times and hosts do not count."""
    found = []
    for name in ("kind", "algorithm", "format"):
        if getattr(first, name) != getattr(second, name):
            found.append(f"{name}: {getattr(first, name)} against {getattr(second, name)}")
    found += [f"recipe: {line}" for line in _differing_values(first.section, second.section)]
    found += [f"input {line}" for line in _differing_values(first.inputs, second.inputs)]
    found += [f"external file {line}" for line in _differing_values(first.outside, second.outside)]
    for name in MADE_WITH:
        pair = {name: first.run.get(name)}, {name: second.run.get(name)}
        found += [f"made with {line}" for line in _differing_values(*pair)]
    found += [f"file {one.in_words()}" for one in file_changes(first, second)]
    return found


def setting_changes(first: Card, second: Card) -> list[Change]:
    """Return the settings that differ, by their paths in a recipe, and what else of the user's determines a result."""
    kind = first.kind if first.kind == second.kind else ""
    found = list(_changes(first.section, second.section, kind))
    if first.algorithm != second.algorithm and first.kind == second.kind:
        found.append(Change(f"version of the algorithm of {kind}", str(first.algorithm), str(second.algorithm)))
    for name in sorted(first.outside.keys() | second.outside.keys()):
        one, other = first.outside.get(name), second.outside.get(name)
        if one != other:
            words = [f"sha256 {sha[:12]}" if sha else "none" for sha in (one, other)]
            found.append(Change(f"the file {name}", words[0], words[1]))
    return found


def version_changes(first: Card, second: Card) -> list[Change]:
    """Return what the two were made with that differs: libraries, device, precision, Python, platform."""
    runs = [{name: one.run.get(name) for name in MADE_WITH} for one in (first, second)]
    return [
        Change(name.removeprefix("libraries."), *("none" if one is None else str(one) for one in pair))
        for name, *pair in _pairs(runs[0], runs[1])
    ]


def file_changes(first: Card, second: Card) -> list[Change]:
    """Return the files that differ in their bytes, with sizes and hashes."""
    names = sorted(first.files.keys() | second.files.keys())
    return [
        Change(name, _describe(first, name), _describe(second, name))
        for name in names
        if first.files.get(name) != second.files.get(name)
    ]


def value_in_words(value: Any) -> str:
    """Return a value of a card as a person writes it: a plugin with its settings in brackets, others as in a recipe."""
    words = _words(value)
    return words if len(words) <= LONGEST_VALUE else f"{words[: LONGEST_VALUE - 2].rstrip()} …"


def _words(value: Any) -> str:
    match value:
        case None:
            words = "not given"
        case bool():
            words = json.dumps(value)
        case str():
            words = value or '""'
        case float() if value.is_integer() and abs(value) < 1e15:
            words = str(int(value))
        case {"objective": objective, "view": list(view)} if view:  # a branch of a training
            words = f"{_words(objective).partition('(')[0]} on {', '.join(_names(view)) or _words(view)}"
        case {"name": str(name), **rest}:
            words = f"{name}({', '.join(f'{key} = {_words(item)}' for key, item in rest.items())})" if rest else name
        case dict():
            words = ", ".join(f"{key} = {_words(item)}" for key, item in value.items()) or "none"
        case list() | tuple():
            words = ", ".join(map(_words, value)) or "none"
        case _:
            words = str(value)
    return words


def _changes(first: Any, second: Any, path: str) -> Iterator[Change]:
    """Yield what differs between two values, as deep as both have the same shape."""
    if first is ABSENT or second is ABSENT:
        yield Change(path, *("not there" if one is ABSENT else value_in_words(one) for one in (first, second)))
    elif isinstance(first, Mapping) and isinstance(second, Mapping) and _is_same_plugin(first, second):
        for key in sorted(first.keys() | second.keys()):
            name = f"{path}.{key}" if path else key
            yield from _changes(first.get(key, ABSENT), second.get(key, ABSENT), name)
    elif first != second:
        yield from _changed_values(first, second, path)


def _changed_values(first: Any, second: Any, path: str) -> Iterator[Change]:
    if isinstance(first, list) and isinstance(second, list) and _names(first) and _names(second):
        if _names(first) == _names(second):
            for one, other in zip(first, second, strict=True):
                yield from _changes(one, other, f"{path}.{one['name']}")
        else:
            yield Change(path, ", ".join(_names(first)), ", ".join(_names(second)))
    elif isinstance(first, Mapping) and isinstance(second, Mapping):
        yield Change(path, str(first.get("name")), str(second.get("name")))
    elif isinstance(first, list) and isinstance(second, list) and max(map(len, map(_words, (first, second)))) > 60:
        new = sum(one not in first for one in second)
        yield Change(path, f"{len(first):,} entries", f"{len(second):,} entries, {new:,} of them other ones")
    else:
        yield Change(path, value_in_words(first), value_in_words(second))


def _is_same_plugin(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return first.get("name") == second.get("name")


def _names(value: list[Any]) -> list[str]:
    """Return the names of a list of plugins; [] for a list of anything else."""
    named = [one["name"] for one in value if isinstance(one, Mapping) and isinstance(one.get("name"), str)]
    return named if len(named) == len(value) else []


def _differing_values(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    for name, one, other in _pairs(first, second):
        yield f"{name}: {one} against {other}"


def _pairs(first: Mapping[str, Any], second: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any, Any]]:
    for key in sorted(first.keys() | second.keys()):
        first_value, second_value = first.get(key), second.get(key)
        name = f"{path}.{key}" if path else key
        if isinstance(first_value, Mapping) and isinstance(second_value, Mapping):
            yield from _pairs(first_value, second_value, name)
        elif first_value != second_value:
            yield name, first_value, second_value


def _describe(card: Card, name: str) -> str:
    entry = card.files.get(name)
    return "missing" if entry is None else f"{entry.bytes:,} bytes, sha256 {entry.sha256[:12]}"
