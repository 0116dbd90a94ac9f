"""spelling: names in, groups of names that differ in case, blanks or forms of a letter only out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

WELL = re.compile(r"([a-z]{1,2}) ?0*(\d+)")


def folded(name: str) -> str:
    """Return a form of the name in which case, blanks and forms of a letter make no difference."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def folded_well(name: str) -> str:
    """Return a form of the name of a well that is the same for `A1`, `A01` and `a 01`."""
    return WELL.sub(r"\1\2", folded(name))


def folded_number(name: str) -> str:
    """Return a form of the name that is the same for `27801` and for `27801.0`, which a spreadsheet made of it."""
    return re.sub(r"(?<=\d)\.0+$", "", folded(name))


def alike(names: Iterable[str], form: Callable[[str], str] = folded) -> list[list[str]]:
    """Return the names that a person would take for one: `DMSO` and `dmso`, `drug a` and `drug  a`, `μ` and `µ`."""
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(form(name), set()).add(name)
    return [sorted(group) for _, group in sorted(groups.items()) if len(group) > 1]
