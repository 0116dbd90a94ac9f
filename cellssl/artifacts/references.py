"""references: the pointers of stores in, the artifacts that they need out, and what of it cannot be read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellssl.artifacts.card import FINGERPRINT, NAME, Card, kind_of_input, read_card
from cellssl.artifacts.hashing import sha256_of
from cellssl.artifacts.store import BY_RECIPE
from cellssl.config.recipe import CHAIN
from cellssl.errors import IntegrityError

PARTS = "parts.json"
LARGEST_JSON = 16_000_000
"""Bytes; a longer pointer or list of parts was not written by cellssl."""
POINTER_FOLDERS = 3
"""Levels of folders in by-recipe/NAME/ARM/SEED/STAGE.json."""

Name = tuple[str, str]
"""Kind and fingerprint of an artifact."""


@dataclass
class Needs:
    """The artifacts that pointers reach, with the inputs of inputs and the parts."""

    names: set[Name] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)
    """What could not be read, one sentence each; any artifact may be needed there."""


class References:
    """Reads the pointers and cards of stores; a card that has been read is kept until its file changes."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)
        self._cards: dict[tuple[Path, int, int, int], Card] = {}

    def needs(self) -> Needs:
        """Follow every pointer of every store."""
        needs = Needs()
        left = [name for root in self.roots for name in self._pointed_to(root, needs)]
        while left:
            name = left.pop()
            if name in needs.names:
                continue
            needs.names.add(name)
            folder = self._folder_of(name)
            if folder is None:
                continue  # it lies in another store
            try:
                left += self._inputs_and_parts(folder)
            except IntegrityError as error:
                needs.unreadable.append(error.message)
        return needs

    def card(self, folder: Path) -> Card:
        """Return the card of an artifact; IntegrityError where it cannot be read or belongs to another artifact."""
        try:
            stat = (folder / NAME).stat()
        except OSError as error:
            raise IntegrityError(f"{folder / NAME} cannot be read: {error.strerror}") from error
        key = (folder, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if key not in self._cards:
            self._cards[key] = read_card(folder)
        card = self._cards[key]
        if (card.kind, card.fingerprint) != (folder.parent.name, folder.name):
            raise IntegrityError(f"{folder} holds the card of the {card.kind} artifact {card.fingerprint}")
        return card

    def _folder_of(self, name: Name) -> Path | None:
        folders = [folder for root in self.roots if os.path.lexists(folder := root.joinpath(*name))]
        whole = (folder for folder in folders if (folder / NAME).is_file())
        return next(whole, folders[0] if folders else None)

    def _inputs_and_parts(self, folder: Path) -> list[Name]:
        """Return kind and fingerprint of the inputs and parts of one artifact."""
        card = self.card(folder)
        found = [(kind_of_input(name), fingerprint) for name, fingerprint in card.inputs.items()]
        if PARTS in card.files:
            parts = _read_json(folder / PARTS)
            if sha256_of(folder / PARTS) != card.files[PARTS].sha256:
                raise IntegrityError(f"{folder / PARTS} does not have the bytes that its card lists")
            found += [(folder.parent.name, part) for part in parts.values()]
        return [_checked(name, folder / NAME) for name in found]

    def _pointed_to(self, root: Path, needs: Needs) -> Iterable[Name]:
        """Yield what the pointers of one store name."""
        level = [root / BY_RECIPE] if os.path.lexists(root / BY_RECIPE) else []
        for _ in range(POINTER_FOLDERS):
            level = [Path(entry) for folder in level for entry in _entries(folder, needs) if entry.is_dir()]
        for file in (entry for folder in level for entry in _entries(folder, needs) if entry.name.endswith(".json")):
            try:
                yield _pointer(Path(file), root)
            except IntegrityError as error:
                needs.unreadable.append(error.message)


def _entries(folder: Path, needs: Needs) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        needs.unreadable.append(f"{folder} cannot be listed: {error.strerror}")
        return []


def _pointer(file: Path, root: Path) -> Name:
    """Return what a pointer names; IntegrityError where it is not as it was written, or names what has gone."""
    pointer = _read_json(file)
    name = _checked((pointer.get("kind"), pointer.get("fingerprint")), file)
    if pointer.keys() - {"kind", "fingerprint", "path"} or pointer.get("path", "/".join(name)) != "/".join(name):
        raise IntegrityError(f"{file} is not as it was written")
    if "path" in pointer and not os.path.lexists(root.joinpath(*name)):
        raise IntegrityError(f"{file} points to {'/'.join(name)}, which is gone")
    return name


def _checked(name: tuple[Any, Any], file: Path) -> Name:
    """Return kind and fingerprint; IntegrityError where they are of no form that this version writes."""
    kind, fingerprint = name
    if kind in CHAIN and isinstance(fingerprint, str) and FINGERPRINT.fullmatch(fingerprint):
        return kind, fingerprint
    raise IntegrityError(f"{file} names {str(kind)[:50]!r} {str(fingerprint)[:50]!r}, which this version does not know")


def _read_json(file: Path) -> dict[str, Any]:
    """Return the JSON object in a small file; IntegrityError for anything else."""
    try:
        if not file.is_file() or file.stat().st_size > LARGEST_JSON:
            raise ValueError("it is no file of the right size")
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{file} cannot be read: {error}") from error
    return content
