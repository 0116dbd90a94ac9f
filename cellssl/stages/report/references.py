"""references: the works that a paragraph on methods cites, by key, in; their numbers and the list of references out."""

from __future__ import annotations

import re
import secrets
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

TOKEN = secrets.token_hex(8)
"""Part of every mark: no text of a table or a card can hold it, so that none can make a citation."""
MARK = re.compile(f"<{TOKEN}:([a-z0-9_,]+)>")


@cache
def all_references() -> Mapping[str, str]:
    """Return key -> reference, of every work that may be cited."""
    return tomllib.loads((files("cellssl.stages.report") / "references.toml").read_text(encoding="utf-8"))


def cite(*keys: str) -> str:
    """Return a mark that `numbered` replaces by the numbers of these references; nothing for none."""
    return f" <{TOKEN}:{','.join(keys)}>" if keys else ""


def numbered(paragraphs: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the paragraphs with numbers in place of marks, in the order of first citation, and the references."""
    keys = dict.fromkeys(key for text in paragraphs for mark in MARK.findall(text) for key in mark.split(","))
    numbers = {key: number for number, key in enumerate(keys, 1)}
    texts = [
        MARK.sub(lambda mark: f"[{', '.join(str(numbers[key]) for key in mark[1].split(','))}]", text)
        for text in paragraphs
    ]
    return texts, [all_references()[key] for key in keys]
