"""spelling: names in, groups of names that differ in case, blanks or forms of a letter only out."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def alike(names: Iterable[str]) -> list[list[str]]:
    """Return the names that a person would take for one: `DMSO` and `dmso`, `drug a` and `drug  a`, `μ` and `µ`."""
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(folded(name), set()).add(name)
    return [sorted(group) for _, group in sorted(groups.items()) if len(group) > 1]


def folded(name: str) -> str:
    """Return a form of the name in which case, blanks and forms of a letter make no difference."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
