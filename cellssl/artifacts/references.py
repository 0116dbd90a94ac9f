"""references: the pointers of stores in, the artifacts that they need out, and what of it cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellssl.artifacts.card import BY_RECIPE, FINGERPRINT, NAME, PARTS, Card, kind_of_input, read_card
from cellssl.artifacts.hashing import sha256_of
from cellssl.bounded import parse_json, read_bytes
from cellssl.config.recipe import CHAIN
from cellssl.errors import IntegrityError

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
    gone: dict[Name, Path] = field(default_factory=dict)
    """Artifacts that are no longer in their store, by hand or by a purge, and the pointer that leads to each."""

    def why_perhaps(self, kind: str) -> str:
        """Return why an artifact of this kind may be needed all the same; "" where it cannot be.

        What has gone was made from artifacts of the same kind, its parts, and of earlier kinds of the chain.
        """
        for (gone, fingerprint), pointer in self.gone.items():
            if CHAIN.index(kind) <= CHAIN.index(gone):
                return f"{gone}/{fingerprint} may be made from it, which is gone; {pointer} points there"
        return ""


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
            entries = [entry for folder in level for entry in _entries(folder, needs)]
            needs.unreadable += [f"{entry.path} is a link to nothing" for entry in entries if _is_broken_link(entry)]
            level = [Path(entry) for entry in entries if entry.is_dir()]
        for file in (entry for folder in level for entry in _entries(folder, needs) if entry.name.endswith(".json")):
            try:
                name, is_here = _pointer(Path(file))
            except IntegrityError as error:
                needs.unreadable.append(error.message)
                continue
            if is_here and not os.path.lexists(root.joinpath(*name)):
                needs.gone.setdefault(name, Path(file))
            yield name


def _entries(folder: Path, needs: Needs) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        needs.unreadable.append(f"{folder} cannot be listed: {error.strerror}")
        return []


def _is_broken_link(entry: os.DirEntry[str]) -> bool:
    """Return whether it is a link whose target is not there, such as a disk that is not mounted."""
    return entry.is_symlink() and not Path(entry).exists()


def _pointer(file: Path) -> tuple[Name, bool]:
    """Return what a pointer names, and whether it lies in the same store; IntegrityError where that is not clear."""
    pointer = _read_json(file)
    name = _checked((pointer.get("kind"), pointer.get("fingerprint")), file)
    if pointer.keys() - {"kind", "fingerprint", "path"} or pointer.get("path", "/".join(name)) != "/".join(name):
        raise IntegrityError(f"{file} is not as it was written")
    return name, "path" in pointer


def _checked(name: tuple[Any, Any], file: Path) -> Name:
    """Return kind and fingerprint; IntegrityError where they are of no form that this version writes."""
    kind, fingerprint = name
    if kind in CHAIN and isinstance(fingerprint, str) and FINGERPRINT.fullmatch(fingerprint):
        return kind, fingerprint
    raise IntegrityError(f"{file} names {str(kind)[:50]!r} {str(fingerprint)[:50]!r}, which this version does not know")


def _read_json(file: Path) -> dict[str, Any]:
    """Return the JSON object in a small file; IntegrityError for anything else."""
    try:
        content = parse_json(read_bytes(file, LARGEST_JSON).decode("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{file} cannot be read: {error}") from error
    return content
