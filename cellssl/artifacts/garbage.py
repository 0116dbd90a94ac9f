"""garbage: a store in, the folders that nothing needs out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from cellssl.artifacts.card import NAME, kind_of_input, read_card
from cellssl.artifacts.locks import is_locked
from cellssl.errors import CellsslError, IntegrityError


def unneeded(root: Path) -> list[Path]:
    """Partials that nobody works on, results set aside, and artifacts that no pointer reaches through its inputs.

    While somebody works in the store, no finished result goes: plates wait there for the whole that will gather them.
    """
    needed, busy = reachable(root), any(is_locked(lock) for lock in root.glob("*/*.lock"))
    folders = sorted(path for path in root.glob("*/*") if path.is_dir() and path.parent.name != "by-recipe")
    return [folder for folder in folders if not _needed(folder, needed, busy)]


def _needed(folder: Path, needed: set[tuple[str, str]], busy: bool) -> bool:
    fingerprint, _, what = folder.name.partition(".")
    if what:
        return is_locked(folder.parent / f"{fingerprint}.lock")
    return busy or not (folder / NAME).is_file() or (folder.parent.name, fingerprint) in needed


def reachable(root: Path) -> set[tuple[str, str]]:
    """Kind and fingerprint of everything that a pointer in by-recipe/ stands on."""
    left = [_pointer(path) for path in root.glob("by-recipe/*/*/*/*.json")]
    needed: set[tuple[str, str]] = set()
    while left:
        kind, fingerprint = left.pop()
        if (kind, fingerprint) not in needed:
            needed.add((kind, fingerprint))
            left += _below(root / kind / fingerprint)
    return needed


def _pointer(path: Path) -> tuple[str, str]:
    try:
        pointer = json.loads(path.read_text(encoding="utf-8"))
        return str(pointer["kind"]), str(pointer["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"the pointer {path} cannot be read, so what it needs is not known",
            hint="remove that file, or run its recipe again",
        ) from error


def remove(folder: Path) -> bool:
    """Remove a folder, under a name first that nobody takes for a result."""
    doomed = folder.with_name(f".{folder.name}.doomed")
    try:
        folder.rename(doomed)
    except OSError:
        return False
    shutil.rmtree(doomed, ignore_errors=True)
    return True


def _below(folder: Path) -> list[tuple[str, str]]:
    """Inputs and parts of one artifact."""
    try:
        inputs = read_card(folder).inputs
    except CellsslError:
        return []  # it lies in another store
    found = [(kind_of_input(name), fingerprint) for name, fingerprint in inputs.items()]
    parts = folder / "parts.json"
    if parts.is_file():
        found += [(folder.parent.name, part) for part in json.loads(parts.read_text(encoding="utf-8")).values()]
    return found
