"""remembered: what was checked in, the findings of an earlier check of the very same out; safe to lose."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from cellssl.artifacts.hashing import COARSEST_CLOCK_NS, Identity, identity_of
from cellssl.bounded import read_json
from cellssl.datasets.base import Field
from cellssl.files import write_text
from cellssl.stages.fetch.findings import Finding

FOLDER = "checks"
"""Folder of the store with the results of checks, beside the lists that they wrote for people."""
FORMAT = 2
"""Counts in every key: raise it when a check finds other things in the same files."""
MOST = 4096
"""More results than this are thinned out, the oldest first."""
READERS = ("cellssl", "tifffile", "openreadout", "pillow")
"""Packages of which another version may read a header in another way."""


class Memory:
    """The results of earlier checks in one folder, by key; a result that is lost, torn or old costs time only."""

    def __init__(self, folder: Path, *, trusted: bool = True) -> None:
        """Open the folder, which need not exist; what it holds counts only if `trusted`."""
        self.folder, self.trusted = folder, trusted

    def recall(self, key: str) -> dict[str, Any] | None:
        """Return what was kept under a key, with its findings, or None."""
        if not self.trusted:
            return None
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            kept = read_json(self.folder / f"{key}.json")
            if kept["key"] == key:
                return {**kept, "findings": [Finding(**one) for one in kept["findings"]]}
        return None

    def keep(self, key: str, findings: Iterable[Finding], **more: Any) -> None:
        """Keep findings, and what else is needed beside them; a store that cannot be written is left as it is."""
        content = {"key": key, "findings": [asdict(one) for one in findings], **more}
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / f"{key}.json", json.dumps(content))

    def thin_out(self) -> None:
        """Remove the oldest results where there are more than MOST."""
        with contextlib.suppress(OSError):
            kept = list(self.folder.glob("*.json"))
            if len(kept) > MOST:
                for old in sorted(kept, key=lambda file: file.stat().st_mtime_ns)[: len(kept) - MOST // 2]:
                    old.unlink(missing_ok=True)


def key_of(*parts: object) -> str:
    """Return the name of what was checked: a hash of its parts, and of the versions of what reads images."""
    text = "\n".join(map(repr, (FORMAT, _versions(), *parts)))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def plate_key(fields: Sequence[Field], states: Mapping[str, Identity | str], files: Iterable[str]) -> str:
    """Return the name of a check of one plate: its rows, and the identity or fault of every file."""
    return key_of(tuple(fields), tuple((file, tuple(states[file])) for file in files))


def state_of(file: str) -> Identity | str:
    """Return the identity of a file, or why it cannot be opened, as the rest of a sentence that begins with its name.

    For a folder that holds an image, the identity is that of the folder and of the description in it.
    Raises FailedError where the file system could not tell.
    """
    from cellssl.images.sources import source_fault

    path = Path(file)
    if fault := source_fault(path):
        return fault
    with contextlib.suppress(OSError):
        for name in (".zattrs", "zarr.json"):
            if path.is_dir() and (path / name).is_file():
                return identity_of(path / name)
        return identity_of(path)
    return "does not exist"


def are_settled(states: Iterable[Identity | str]) -> bool:
    """Return whether a later edit of any of the files must change its identity, as `Hashed.settled` says."""
    before = time.time_ns() - COARSEST_CLOCK_NS
    return all(isinstance(one, str) or max(one.mtime_ns, one.ctime_ns) < before for one in states)


@cache
def _versions() -> tuple[str, ...]:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in READERS:
        try:
            found.append(version(name))
        except PackageNotFoundError:
            found.append("")
    return tuple(found)
