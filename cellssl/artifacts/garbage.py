"""garbage: a store in, the folders that no result needs out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from cellssl.artifacts.card import NAME, kind_of_input, read_card
from cellssl.artifacts.locks import is_locked
from cellssl.errors import CellsslError, IntegrityError


def unneeded(root: Path) -> list[Path]:
    """Return partials without a running process, results set aside, and artifacts that no pointer reaches.

    While any process works in the store, finished results are not listed: finished plates may wait for the artifact
    that will gather them.
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
    """Return kind and fingerprint of every artifact that a pointer in by-recipe/ needs, inputs of inputs included."""
    left = [_pointer(path) for path in root.glob("by-recipe/*/*/*/*.json")]
    needed: set[tuple[str, str]] = set()
    while left:
        kind, fingerprint = left.pop()
        if (kind, fingerprint) not in needed:
            needed.add((kind, fingerprint))
            left += _inputs_and_parts(root / kind / fingerprint)
    return needed


def _pointer(path: Path) -> tuple[str, str]:
    try:
        pointer = json.loads(path.read_text(encoding="utf-8"))
        return str(pointer["kind"]), str(pointer["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"the pointer {path} cannot be read, so the artifacts it needs are not known",
            hint="remove that file, or run its recipe again",
        ) from error


def remove(folder: Path) -> bool:
    """Remove a folder; it is renamed first, so that no process takes the rest of it for a result.

    Returns False where it could not be renamed.
    """
    renamed = folder.with_name(f".{folder.name}.doomed")
    try:
        folder.rename(renamed)
    except OSError:
        return False
    shutil.rmtree(renamed, ignore_errors=True)
    return True


def _inputs_and_parts(folder: Path) -> list[tuple[str, str]]:
    """Return kind and fingerprint of the inputs and parts of one artifact."""
    try:
        inputs = read_card(folder).inputs
    except CellsslError:
        return []  # it lies in another store
    found = [(kind_of_input(name), fingerprint) for name, fingerprint in inputs.items()]
    parts = folder / "parts.json"
    if parts.is_file():
        found += [(folder.parent.name, part) for part in json.loads(parts.read_text(encoding="utf-8")).values()]
    return found
