"""diff: two cards in, one line of text per difference out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cellssl.artifacts.card import Card


def differences(first: Card, second: Card) -> list[str]:
    """Return one line per difference: recipe, inputs and versions first, then files; times and hosts do not count."""
    found = []
    for name in ("kind", "algorithm", "format"):
        if getattr(first, name) != getattr(second, name):
            found.append(f"{name}: {getattr(first, name)} against {getattr(second, name)}")
    found += [f"recipe: {line}" for line in _differing_values(first.section, second.section)]
    found += [f"input {line}" for line in _differing_values(first.inputs, second.inputs)]
    found += [f"external file {line}" for line in _differing_values(first.outside, second.outside)]
    for name in ("cellssl", "libraries", "device", "precision", "python", "platform"):
        pair = {name: first.run.get(name)}, {name: second.run.get(name)}
        found += [f"made with {line}" for line in _differing_values(*pair)]
    for name in sorted(first.files.keys() | second.files.keys()):
        if first.files.get(name) != second.files.get(name):
            found.append(f"file {name}: {_describe(first, name)} against {_describe(second, name)}")
    return found


def _differing_values(first: Mapping[str, Any], second: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for key in sorted(first.keys() | second.keys()):
        first_value, second_value = first.get(key), second.get(key)
        name = f"{path}.{key}" if path else key
        if isinstance(first_value, Mapping) and isinstance(second_value, Mapping):
            yield from _differing_values(first_value, second_value, name)
        elif first_value != second_value:
            yield f"{name}: {first_value} against {second_value}"


def _describe(card: Card, name: str) -> str:
    entry = card.files.get(name)
    return "missing" if entry is None else f"{entry.bytes:,} bytes, sha256 {entry.sha256[:12]}"
