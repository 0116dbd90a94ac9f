"""card: the record of an artifact in, the file `artifact.json` out, and back; also computes fingerprints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from cellssl.errors import IntegrityError

NAME = "artifact.json"
FORMAT = 1
"""Version of the file layout of artifacts; a higher one is refused."""


@dataclass(frozen=True)
class FileEntry:
    """One file of an artifact: its size and the hash of its bytes."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Card:
    """Everything about a result except the result itself.

    `fingerprint` is the hash of what determines the result (kind, algorithm, section, inputs, external files); `extras`
    are files that are not part of the result; `run` holds what differs from run to run.
    """

    kind: str
    algorithm: int
    fingerprint: str
    section: dict[str, Any]
    inputs: dict[str, str]
    outside: dict[str, str]
    files: dict[str, FileEntry]
    extras: tuple[str, ...] = ()
    metrics: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        """Write the card into `folder`, with sorted keys, so that equal cards give equal bytes."""
        (folder / NAME).write_text(self.text() + "\n", encoding="utf-8")

    def text(self, **more: str) -> str:
        """Return the card as JSON, with its own hash, so that a flipped byte in the card is found, too."""
        content = {**asdict(self), **more, "sha256": self.sha256()}
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)

    def sha256(self) -> str:
        """Return the sha256 of all fields of the card."""
        content = json.loads(json.dumps(asdict(self), allow_nan=False))
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_card(path: Path) -> Card:
    """Return the card in the folder of an artifact, or in a card file itself.

    Raises IntegrityError where it cannot be read, or was written by a later version of cellssl.
    """
    file = path / NAME if path.is_dir() else path
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        known = {name: raw[name] for name in Card.__dataclass_fields__ if name in raw}
        if int(raw["format"]) > FORMAT:
            raise _too_new(file, raw)
        files = {name: FileEntry(**entry) for name, entry in raw["files"].items()}
        card = Card(**{**known, "files": files, "extras": tuple(raw["extras"])})
        if raw["sha256"] != card.sha256():
            raise ValueError("its bytes have changed since it was written")
        _check_names((*card.files, *card.extras))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(
            f"{file} is not the card of an artifact: {type(error).__name__}: {error}",
            hint="make the artifact again with --force",
        ) from error
    return card


def _too_new(file: Path, raw: dict[str, Any]) -> IntegrityError:
    return IntegrityError(
        f"{file} has format {raw['format']}, written by cellssl {raw['run'].get('cellssl', 'of a later version')}",
        hint=f"this cellssl reads formats up to {FORMAT}; use that version",
    )


def _check_names(names: tuple[str, ...]) -> None:
    """Raise ValueError for file names that lead out of the folder: a card may come from an untrusted source."""
    for name in names:
        if leaves_its_folder(name) or name in ("", ".", NAME):
            raise ValueError(f"it names the file {name!r}")


def leaves_its_folder(name: str) -> bool:
    """Return whether a name, placed below a folder, may mean a file outside that folder."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def kind_of_input(name: str) -> str:
    """Return the kind of artifact behind the name of an input: "segment", "model" (of embed), "main/0/cluster"."""
    return {"model": "pretrain", "init_from": "pretrain", "assign_to": "cluster"}.get(name, name.rsplit("/", 1)[-1])


def fingerprint(
    kind: str, algorithm: int, section: Mapping[str, Any], inputs: Mapping[str, str], external: Mapping[str, str]
) -> str:
    """Return twelve hexadecimal digits for what determines a result; the order of keys does not matter.

    `section` is what counts of the settings, `external` the sha256 of every external file by its role. Where an order
    matters, the section holds a list.
    """
    what = {
        "kind": kind,
        "algorithm": algorithm,
        "section": section,
        "inputs": inputs,
        "external": external,
    }
    text = json.dumps(what, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
