"""inventory: a store in; what lies in it, when each result was made, how large it is and which recipes need it, out.

Cards and pointers alone are read, and no file of a result, so that a store of ten thousand results takes seconds.
"""

from __future__ import annotations

import calendar
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cellssl.artifacts.card import BY_RECIPE, FINGERPRINT, NAME, PARTS, kind_of_input
from cellssl.artifacts.store import Artifact, Store, has_marker
from cellssl.bounded import read_json
from cellssl.config.recipe import CHAIN
from cellssl.engine.plate_parts import NUCLEI_OF_PLATE, names_of_parts
from cellssl.engine.stage import algorithm_of
from cellssl.errors import CellsslError, UsageError, reason_of

Name = tuple[str, str]
"""Kind and fingerprint."""
Pointer = tuple[str, str, str]
"""Recipe, arm and seed ("all" where the seed does not count)."""


@dataclass(frozen=True)
class Entry:
    """One folder of a store that holds a result, an unfinished one, or one that was set aside."""

    kind: str
    name: str
    """Name of its folder: the fingerprint, with .partial or .aside-... where it is not finished or was set aside."""
    made_s: float | None
    """When it was finished or last written, in seconds since 1970."""
    bytes: int
    plate: str = ""
    """The plate that it is the part of."""
    remark: str = ""
    """What is not as it should be: partial, set aside, outdated, unreadable."""
    pointers: tuple[Pointer, ...] = ()
    is_needed: bool = False
    """Whether a pointer leads to it, or to something made from it."""
    inputs: tuple[Name, ...] = field(default=(), repr=False)
    gathers: tuple[str, ...] = field(default=(), repr=False)
    """Fingerprints of the parts that it gathers."""

    @property
    def path(self) -> str:
        """Its place in the store."""
        return f"{self.kind}/{self.name}"

    def as_json(self, root: Path) -> dict[str, Any]:
        """Return it as JSON holds it; `root` is the store that it lies in, and its path is whole."""
        return {
            "kind": self.kind,
            "fingerprint": self.name[:12],
            "path": str(root.absolute() / self.path),
            "made": utc_text(self.made_s),
            "bytes": self.bytes,
            "plate": self.plate or None,
            "remark": self.remark or None,
            "is_needed": self.is_needed,
            "pointers": [dict(zip(("recipe", "arm", "seed"), one, strict=True)) for one in self.pointers],
        }


@dataclass(frozen=True)
class Inventory:
    """All that a store holds, by kind in the order of the chain, the newest first."""

    root: Path
    entries: list[Entry]
    gone: dict[Name, list[Pointer]]
    """What pointers lead to and is not in the store."""

    @cached_property
    def _by_path(self) -> dict[str, Entry]:
        return {entry.path: entry for entry in self.entries}

    def bytes_with_parts(self, entry: Entry) -> int:
        """Return the bytes of a result and of the parts that it gathers, with the nuclei that these are made from."""
        parts = [self._by_path.get(f"{entry.kind}/{part}") for part in entry.gathers]
        around = {place for part in parts if part for place in (part.path, *map("/".join, part.inputs))}
        of_kind = [self._by_path[one] for one in around if one in self._by_path and one.startswith(entry.kind)]
        return entry.bytes + sum(one.bytes for one in of_kind)


def inventory(root: Path) -> Inventory:
    """List what a store holds; UsageError for a folder that is none."""
    _check_is_store(root)
    read = list(_read_pointers(root))
    pointers, here = _by_name(read), {name for name, _, is_here in read if is_here}
    found = {entry.path: entry for kind in CHAIN for entry in _entries(root, kind)}
    needed = _needed(found, pointers)
    entries = [
        replace(entry, pointers=tuple(pointers.get((entry.kind, entry.name), ())), is_needed=entry.path in needed)
        for entry in found.values()
    ]
    entries.sort(key=lambda one: (CHAIN.index(one.kind), -(one.made_s or 0), one.name))
    gone = {name: those for name, those in pointers.items() if name in here and "/".join(name) not in found}
    return Inventory(root, entries, gone)


def size_of(artifact: Artifact, store: Store) -> int:
    """Return the bytes of a result as its card lists them, with those of its plates' parts."""
    found, around = {artifact.path: artifact}, store.with_store_of(artifact)
    with suppress(CellsslError):  # a part that cannot be read has no size that is known
        for fingerprint in names_of_parts(artifact):
            part = around.find(artifact.card.kind, fingerprint)
            nuclei = part.card.inputs.get(NUCLEI_OF_PLATE) if part is not None else None
            below = around.find(artifact.card.kind, nuclei) if nuclei else None
            found |= {one.path: one for one in (part, below) if one is not None}
    return sum(entry.bytes for one in found.values() for entry in one.card.files.values())


def made_of(run: Mapping[str, Any]) -> float | None:
    """Return when a result was finished, in seconds since 1970, from the `run` of its card."""
    try:
        began = calendar.timegm(time.strptime(str(run["started"]), "%Y-%m-%dT%H:%M:%SZ"))
        return began + float(run.get("seconds", 0))
    except (KeyError, ValueError, TypeError):
        return None


def local_text(seconds: float | None) -> str:
    """Return a time as people read it: local, to the minute; "" where it is not known."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def utc_text(seconds: float | None) -> str | None:
    """Return a time for machines."""
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def folder_size(folder: Path) -> tuple[int, float | None]:
    """Return the bytes in a folder, and when something in it was last written."""
    size, last = 0, None
    for below, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):  # it has just been removed
                stat = (Path(below) / name).lstat()
                size, last = size + stat.st_size, max(last or 0.0, stat.st_mtime)
    return size, last


def pointers_to(artifact: Artifact) -> list[Pointer]:
    """Return the pointers to an artifact in the store that it lies in."""
    root = artifact.path.parent.parent
    return _by_name(_read_pointers(root, f"{artifact.card.kind}.json")).get(
        (artifact.card.kind, artifact.fingerprint), []
    )


def _check_is_store(root: Path) -> None:
    if not root.is_dir():
        raise UsageError(
            f"there is no store at {root}",
            hint="cellssl run RECIPE makes one; if yours is elsewhere, name its folder with --store or $CELLSSL_STORE",
        )
    results = (card for kind in CHAIN for card in (root / kind).glob(f"*/{NAME}"))
    if not has_marker(root) and any(root.iterdir()) and next(results, None) is None:
        inner = [path.name for path in sorted(root.iterdir()) if path.is_dir() and has_marker(path)]
        hint = f"perhaps you mean --store {root / inner[0]}" if inner else "name the folder of a store with --store"
        raise UsageError(f"{root} is not a store: it holds no results of cellssl", hint=hint)


ASIDE = re.compile(r"[0-9a-f]{12}\.(partial|aside-[0-9a-f]{8})")


def _entries(root: Path, kind: str) -> Iterator[Entry]:
    """Yield what lies below one folder of a store."""
    if not (root / kind).is_dir():
        return
    today = None
    for folder in sorted((root / kind).iterdir()):
        if FINGERPRINT.fullmatch(folder.name):
            today = today or algorithm_of(kind)
            yield _finished(folder, kind, today)
        elif (match := ASIDE.fullmatch(folder.name)) is not None:
            size, last = folder_size(folder)
            remark = _unfinished(folder) if match[1] == "partial" else "set aside"
            yield Entry(kind, folder.name, last, size, remark=remark)


def _finished(folder: Path, kind: str, today: int) -> Entry:
    """Return the entry of a finished result; its card is read without a look at its hash."""
    try:
        card = read_json(folder / NAME, follow=False)
        files, section = card["files"], card["section"]
        size = sum(int(one["bytes"]) for one in files.values())
        inputs = tuple((kind_of_input(name), str(print_)) for name, print_ in card["inputs"].items())
        gathers = tuple(map(str, read_json(folder / PARTS, follow=False).values())) if PARTS in files else ()
        algorithm, made = int(card["algorithm"]), made_of(card["run"])
        plate = str(section.get("plate") or _plate_of_fields(section))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Entry(kind, folder.name, None, 0, remark=f"its card cannot be read ({reason_of(error)})")
    is_old = algorithm < today and section.get("of") != "nuclei"  # nuclei have a number of their own
    remark = f"outdated: algorithm {algorithm}, now {today}" if is_old else ""
    return Entry(kind, folder.name, made, size, plate, remark, inputs=inputs, gathers=gathers)


def _plate_of_fields(section: Mapping[str, Any]) -> str:
    """Return the plate of a part of fetch, whose section lists its fields."""
    fields = section.get("fields")
    return str(fields[0].get("plate", "")) if isinstance(fields, list) and fields else ""


def _unfinished(folder: Path) -> str:
    steps = folder / "metrics.jsonl"
    if steps.is_file():
        with steps.open("rb") as file:
            return f"partial ({sum(1 for _ in file):,} steps)"
    return "partial"


def _read_pointers(root: Path, name: str = "*.json") -> Iterator[tuple[Name, Pointer, bool]]:
    """Yield what each pointer leads to, and whether that lies in this store; one that cannot be read is left out."""
    for file in sorted((root / BY_RECIPE).glob(f"*/*/*/{name}")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            pointer = read_json(file)
            recipe, arm, seed, _ = file.relative_to(root / BY_RECIPE).parts
            yield (str(pointer["kind"]), str(pointer["fingerprint"])), (recipe, arm, seed), "path" in pointer


def _by_name(pointers: Iterable[tuple[Name, Pointer, bool]]) -> dict[Name, list[Pointer]]:
    found: dict[Name, list[Pointer]] = {}
    for name, pointer, _ in pointers:
        found.setdefault(name, []).append(pointer)
    return found


def _needed(found: Mapping[str, Entry], pointers: Mapping[Name, Sequence[Pointer]]) -> set[str]:
    """Return the places of all results that a pointer leads to, and of what these were made from."""
    needed, left = set[str](), [f"{kind}/{fingerprint}" for kind, fingerprint in pointers]
    while left:
        place = left.pop()
        if place in needed or place not in found:
            continue
        needed.add(place)
        entry = found[place]
        left += [f"{kind}/{fingerprint}" for kind, fingerprint in entry.inputs]
        left += [f"{entry.kind}/{part}" for part in entry.gathers]
    return needed
