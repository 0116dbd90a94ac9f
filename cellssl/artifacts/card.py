"""card: the record of an artifact in, the file `artifact.json` out, and back; also computes fingerprints."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from cellssl.bounded import read_json
from cellssl.errors import IntegrityError, reason_of

NAME = "artifact.json"
PARTS = "parts.json"
"""File of an artifact that gathers others: plate -> fingerprint of its part."""
BY_RECIPE = "by-recipe"
"""Folder of a store for the pointers to what the recipes need."""
FINGERPRINT = re.compile(r"[0-9a-f]{12}")
KIND = re.compile(r"[a-z][a-z_]{,29}")
SHA256 = re.compile(r"[0-9a-f]{64}")
ENCODER = "encoder.safetensors"
"""File of a pretrain artifact with the weights of its encoder."""
SHARED_ENCODER = "model.safetensors"
"""The same file, byte for byte, in a folder that `cellssl export` has made to be shared."""
FORMAT = 1
"""Version of the file layout of artifacts; a higher one is refused."""


@dataclass(frozen=True, slots=True)
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
        content = {**self._content(), **more, "sha256": self.sha256()}
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)

    def sha256(self) -> str:
        """Return the sha256 of all fields of the card."""
        return _sha256_of_parsed(json.loads(json.dumps(self._content(), allow_nan=False)))

    def _content(self) -> dict[str, Any]:
        """Return all fields for JSON; nothing is copied, because a card may list tens of thousands of files."""
        files = {name: {"bytes": entry.bytes, "sha256": entry.sha256} for name, entry in self.files.items()}
        return {**vars(self), "files": files}


def read_card(path: Path) -> Card:
    """Return the card in the folder of an artifact, or in a card file itself.

    Raises IntegrityError where it cannot be read, has a part of the wrong type, names something outside its folder or
    store, or was written by a later version of cellssl.
    """
    in_folder = path.is_dir()
    file = path / NAME if in_folder else path
    try:
        raw = read_json(file, follow=not in_folder)  # the card of a folder is no link to a file elsewhere
        card = _checked(file, raw)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        in_store = FINGERPRINT.match(path.name) and KIND.fullmatch(path.parent.name) and path.parent.name != "shared"
        raise IntegrityError(
            f"{file} is not the card of an artifact: {reason_of(error)}",
            hint="make the artifact again with --force"
            if in_store or not in_folder
            else f"get the folder {path} again from where it came",
        ) from error
    return card


def _sha256_of_parsed(content: Mapping[str, Any]) -> str:
    """Return the sha256 of the fields of a card as they come out of JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _checked(file: Path, raw: Any) -> Card:
    """Return the card that a JSON value holds; ValueError, KeyError, TypeError or AttributeError where none."""
    if not isinstance(raw, dict):
        raise TypeError("it holds no JSON object")
    if int(raw["format"]) > FORMAT:
        raise _too_new(file, raw)
    for name, kind in TYPES.items():
        if type(raw[name]) is not kind:
            raise TypeError(f"{name} is of the type {type(raw[name]).__name__}")
    files = {name: FileEntry(**entry) for name, entry in raw["files"].items()}
    known = {name: raw[name] for name in Card.__dataclass_fields__ if name in raw}
    card = Card(**{**known, "files": files, "extras": tuple(raw["extras"])})
    if raw["sha256"] != _sha256_of_parsed(known):
        raise ValueError("its bytes have changed since it was written")
    _check_identity(card.kind, card.fingerprint, "its own kind and fingerprint")
    for name, print_ in card.inputs.items():
        _check_identity(kind_of_input(name), print_, f"the input {name!r}")
    _check_names((*card.files, *card.extras))
    for name, entry in card.files.items():
        if type(entry.bytes) is not int or entry.bytes < 0 or not _fits(SHA256, entry.sha256):
            raise ValueError(f"size or hash of the file {name!r} is none")
    if not all(isinstance(value, str) for value in card.outside.values()):
        raise TypeError("outside holds something other than hashes")
    return card


TYPES: Mapping[str, type] = {
    "format": int, "kind": str, "algorithm": int, "fingerprint": str, "section": dict, "inputs": dict,
    "outside": dict, "files": dict, "extras": list, "metrics": dict, "run": dict, "sha256": str,
}  # fmt: skip
"""The parts of a card in JSON, and their types."""


def is_shared_model(card: Card) -> bool:
    """Return whether a card is that of a shared model: the encoder alone, in a folder that may lie anywhere."""
    return card.kind == "pretrain" and SHARED_ENCODER in card.files and ENCODER not in card.files


def is_identity(kind: object, print_: object) -> bool:
    """Return whether these two can name an artifact: they become the path of a folder."""
    return _fits(KIND, kind) and _fits(FINGERPRINT, print_)


def _check_identity(kind: object, print_: object, what: str) -> None:
    if not is_identity(kind, print_):
        raise ValueError(f"{what} cannot name an artifact: {kind!r}, {print_!r}")


def _fits(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _too_new(file: Path, raw: dict[str, Any]) -> IntegrityError:
    return IntegrityError(
        f"{file} has format {raw['format']}, written by cellssl {raw['run'].get('cellssl', 'of a later version')}",
        hint=f"this cellssl reads formats up to {FORMAT}; use that version",
    )


def _check_names(names: tuple[str, ...]) -> None:
    """Raise ValueError for file names that lead out of the folder: a card may come from an untrusted source."""
    for name in names:
        if not isinstance(name, str) or "\0" in name or leaves_its_folder(name) or name in ("", ".", NAME):
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
