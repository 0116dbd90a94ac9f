"""flat_settings: nested settings in; the dotted path and the text of every value, as a recipe names them, out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

NOT_SET = "–"
"""The text of a setting without a value."""
NAMES = ("name", "of", "model", "arm")
"""Settings by which an item of a list is called, such as a transform or a block of vectors: the first that it has."""


def flat_settings(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted path and the text of every value; a list of plugins is a list of names, then their settings."""
    match value:
        case {"name": str(name), **more}:
            yield path, name
            yield from flat_settings(more, path)
        case dict():
            for key, item in value.items():
                yield from flat_settings(item, f"{path}.{key}")
        case [dict(), *_] if all(_name_of(item) for item in value):
            yield path, ", ".join(map(_name_of, value))
            for name, item in _numbered(value):
                yield from flat_settings(item, f"{path}.{name}")
        case None:
            yield path, NOT_SET
        case str():
            yield path, value
        case float() if value.is_integer():
            yield path, f"{value:.0f}"
        case _:
            yield path, json.dumps(value, ensure_ascii=False)


def _numbered(items: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each item without its name, which comes first; a name that comes again gets a number."""
    seen: dict[str, int] = {}
    for item in items:
        name = _name_of(item)
        seen[name] = seen.get(name, 0) + 1
        rest = {key: each for key, each in item.items() if key not in NAMES or each != name}
        yield (name if seen[name] == 1 else f"{name} {seen[name]}"), rest


def _name_of(item: Any) -> str:
    """Return what an item of a list is called; empty where it has no name."""
    named = (item.get(key) for key in NAMES) if isinstance(item, dict) else ()
    return next((name for name in named if isinstance(name, str)), "")
