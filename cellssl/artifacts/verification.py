"""verification: folders of artifacts in; every file of them, and of all that they stand on, read and compared, out."""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellssl.artifacts import card as cards
from cellssl.artifacts.card import FINGERPRINT, PARTS, is_identity, is_shared_model, kind_of_input
from cellssl.artifacts.hashing import hash_files, identity_of
from cellssl.artifacts.hub_names import SHARED, is_kept
from cellssl.artifacts.remake import command_again
from cellssl.artifacts.store import OTHER_BYTES, Artifact, Store, cure_of_shared
from cellssl.artifacts.tables import read_table
from cellssl.bounded import read_json
from cellssl.config.recipe import CHAIN
from cellssl.errors import CellsslError, IntegrityError
from cellssl.events import Progress
from cellssl.images.content import combined_hash, held_files, is_composed
from cellssl.images.reference import parse_reference

FIELDS = "fields.parquet"
CHANGED_IMAGE = "put the former file back; or run the recipe again, and the new file counts"


@dataclass(frozen=True)
class Fault:
    """A file that is not as it was written."""

    file: Path
    artifact: Path
    """Folder of the artifact that the file belongs to, or whose card names it."""
    what: str
    """What is wrong, as the rest of a sentence that begins with the file."""
    cure: str


@dataclass(frozen=True)
class NotFound:
    """An artifact that another one was made from, and that lies in no known store."""

    kind: str
    fingerprint: str
    needed_by: Path


@dataclass
class Findings:
    """What was compared, and what was found."""

    artifacts: list[Path] = field(default_factory=list)
    files: int = 0
    """Number of files compared, including images of the user."""
    bytes: int = 0
    faults: list[Fault] = field(default_factory=list)
    not_found: list[NotFound] = field(default_factory=list)


def verify(folders: Sequence[Path], store: Store, *, shallow: bool) -> Generator[Progress, None, Findings]:
    """Read every file of artifacts and compare it with its card; yield how many bytes have been read.

    Unless `shallow`, the same is done for the parts and inputs of the artifacts, and theirs, in the store that an
    artifact lies in and in all stores of `store`, and for the user's own images, whose hashes are in the field tables.
    What the hash cache knows is not trusted; what is read is noted there.
    """
    walk = _Walk(store, shallow)
    checks = walk.checks(folders)
    findings, read, total = walk.findings, 0, sum(check.bytes for check in checks)
    by_file: dict[Path, list[_Check]] = {}
    of_composed: dict[Path, str] = {}
    for check in checks:
        by_file.setdefault(check.file, []).append(check)
    for size, finished in hash_files(by_file):
        read += size
        for file, hashed in finished.items():
            if isinstance(hashed, OSError):
                findings.faults += [check.fault(f"cannot be read: {hashed.strerror}") for check in by_file[file]]
            else:
                of_composed[file] = hashed.sha256
                differing = (check for check in by_file[file] if check.sha256 not in ("", hashed.sha256))
                findings.faults += [check.fault() for check in differing]
        store.hashes.note({file: hashed for file, hashed in finished.items() if not isinstance(hashed, OSError)})
        yield Progress(min(read, total), total, "bytes", "compared")
    of_images = (one.fault(of_composed) for one in walk.composed)
    findings.faults += [fault for fault in dict.fromkeys(of_images) if fault is not None]
    findings.files, findings.bytes = len(by_file), read
    findings.faults.sort(key=_order_of_cures)
    return findings


def _order_of_cures(fault: Fault) -> tuple[int, Path, Path]:
    """Return a key by which what others are made of comes first: its cure must be followed first."""
    kind = "pretrain" if is_kept(fault.artifact) else fault.artifact.parent.name
    return CHAIN.index(kind) if kind in CHAIN else len(CHAIN), fault.artifact, fault.file


@dataclass(frozen=True)
class _Check:
    """A file that is to be read, and the hash that it should have."""

    file: Path
    bytes: int
    sha256: str
    artifact: Path
    cure: str
    otherwise: str = OTHER_BYTES
    """What is wrong where it has another hash."""

    def fault(self, what: str = "") -> Fault:
        return Fault(self.file, self.artifact, what or self.otherwise, self.cure)


@dataclass(frozen=True)
class _Composed:
    """An image of the user that is chosen in a file, or has several files; one hash stands for all of it."""

    text: str
    sha256: str
    artifact: Path
    held: dict[str, dict[str, Path]]

    def checks(self) -> Iterator[_Check]:
        """Yield its files, to be read; their own hashes are in no card."""
        for path in (path for files in self.held.values() for path in files.values()):
            yield _Check(path, identity_of(path).bytes, "", self.artifact, CHANGED_IMAGE)

    def fault(self, read: Mapping[Path, str]) -> Fault | None:
        """Return what is wrong with it, now that its files have been read."""
        files = parse_reference(self.text).files
        missing = [file for file in files if file not in self.held]
        if missing:
            return Fault(Path(missing[0]), self.artifact, "is an image of yours and is missing", CHANGED_IMAGE)
        paths = [path for of_file in self.held.values() for path in of_file.values()]
        if not all(path in read for path in paths) or combined_hash(self.text, self.held, read) == self.sha256:
            return None  # a file that cannot be read is a fault of its own
        return Fault(Path(files[0]), self.artifact, "has changed since it was fetched", CHANGED_IMAGE)


class _Walk:
    """Goes from artifacts to their parts and inputs, each once; faults that show without reading are noted."""

    def __init__(self, store: Store, shallow: bool) -> None:
        self.store, self.shallow, self.findings = store, shallow, Findings()
        self.composed: list[_Composed] = []
        self._left: deque[Path] = deque()

    def checks(self, folders: Sequence[Path]) -> list[_Check]:
        """Return every file to read."""
        self._left.extend(folders)
        found: list[_Check] = []
        seen: set[Path] = set()
        while self._left:
            folder = self._left.popleft().absolute()
            if folder not in seen:
                seen.add(folder)
                self.findings.artifacts.append(folder)
                found += self._of_folder(folder)
        return found

    def _of_folder(self, folder: Path) -> Iterator[_Check]:
        try:
            card = cards.read_card(folder)
        except IntegrityError as error:
            self._note_card(folder, error)
            return
        artifact, cure = Artifact(folder, card), _cure(folder, card)
        if FINGERPRINT.fullmatch(folder.name) and card.fingerprint != folder.name:
            what = f"is the card of the {card.kind} artifact {card.fingerprint}"
            self.findings.faults.append(Fault(folder / cards.NAME, folder, what, "rename the folder, or remove it"))
        for name, entry in card.files.items():
            if fault := artifact.plain_fault(name):
                self.findings.faults.append(Fault(folder / name, folder, fault, cure))
            else:
                yield _Check(folder / name, entry.bytes, entry.sha256, folder, cure)
        if not self.shallow:
            yield from self._own_images(artifact)
            self._follow(artifact)

    def _note_card(self, folder: Path, error: IntegrityError) -> None:
        file = folder / cards.NAME
        again = f"cellssl {folder.parent.name} RECIPE --store {shlex.quote(str(folder.parents[1]))} --force"
        cure = f"{again} makes it again" if "--force" in error.hint else error.hint
        if is_kept(folder):
            cure = cure_of_shared(folder)
        self.findings.faults.append(Fault(file, folder, error.message.removeprefix(f"{file} "), cure))

    def _follow(self, artifact: Artifact) -> None:
        """Add the parts and inputs of an artifact to those that are left; note those that are in no known store.

        A shared model stands alone.
        """
        if is_shared_model(artifact.card):
            return
        for plate, fingerprint in self._parts(artifact):
            found = self._find(artifact, artifact.card.kind, fingerprint)
            if found is None:
                folder = artifact.path.parent / str(fingerprint)
                again = f"cellssl {artifact.card.kind} RECIPE --plate {shlex.quote(plate)}"
                cure = f"name the store that it is in with a further --store, or make it again: {again}"
                what = f"is in no known store: it holds the files of plate {plate}"
                self.findings.faults.append(Fault(folder, artifact.path, what, cure))
            else:
                self._left.append(found)
        for name, fingerprint in artifact.card.inputs.items():
            found = self._find(artifact, kind_of_input(name), fingerprint)
            if found is None:
                self.findings.not_found.append(NotFound(kind_of_input(name), str(fingerprint), artifact.path))
            else:
                self._left.append(found)

    def _find(self, artifact: Artifact, kind: str, fingerprint: Any) -> Path | None:
        """Return the folder of another artifact; its card may come from anyone, and names no path."""
        if not is_identity(kind, fingerprint):
            return None
        roots = dict.fromkeys((artifact.path.parents[1], self.store.root, *self.store.upstreams))
        folders = [root / kind / fingerprint for root in roots]
        if kind == "pretrain":
            folders += [root / SHARED / fingerprint for root in roots]
        return next((folder for folder in folders if (folder / cards.NAME).is_file()), None)

    def _parts(self, artifact: Artifact) -> list[tuple[str, Any]]:
        if not _is_whole(artifact, PARTS):
            return []
        try:
            return list(read_json(artifact.path / PARTS).items())
        except (OSError, ValueError, AttributeError):
            what, cure = "does not name parts", _cure(artifact.path, artifact.card)
            self.findings.faults.append(Fault(artifact.path / PARTS, artifact.path, what, cure))
            return []

    def _own_images(self, fetched: Artifact) -> Iterator[_Check]:
        """Yield the images of the user that the field table of one plate names; those in the artifact are in its card.

        A table that is damaged is found as such, and names nothing.
        """
        if fetched.card.kind != "fetch" or "plate" not in fetched.card.section or not _is_whole(fetched, FIELDS):
            return
        try:
            table = read_table(fetched.path / FIELDS)
            channels = [name.removeprefix("path_") for name in table.columns if name.startswith("path_")]
            images = [
                pair for one in channels for pair in zip(table[f"path_{one}"], table[f"sha256_{one}"], strict=True)
            ]
        except (CellsslError, OSError, ValueError, KeyError) as error:
            what = f"cannot be read as a field table: {error}"
            self.findings.faults.append(
                Fault(fetched.path / FIELDS, fetched.path, what, _cure(fetched.path, fetched.card))
            )
            return
        for text, sha256 in images:
            yield from self._own_files(fetched, str(text), str(sha256))

    def _own_files(self, fetched: Artifact, text: str, sha256: str) -> Iterator[_Check]:
        """Yield the file of an image of the user; note an image that is composed of others, for when they are read."""
        try:
            files = parse_reference(text).files
            is_own = any(Path(file).is_absolute() for file in files)
            if is_own and not is_composed(text):
                yield from self._own_image(fetched, Path(text), sha256)
            elif is_own:
                composed = _Composed(text, sha256, fetched.path, held_files([text]))
                self.composed.append(composed)
                yield from composed.checks()
        except (CellsslError, ValueError, OSError) as error:
            what = f"is an image of yours and cannot be read: {error}"
            self.findings.faults.append(Fault(Path(text), fetched.path, what, CHANGED_IMAGE))

    def _own_image(self, fetched: Artifact, image: Path, sha256: str) -> Iterator[_Check]:
        check = _Check(image, 0, sha256, fetched.path, CHANGED_IMAGE, "has changed since it was fetched")
        try:
            size = identity_of(image).bytes
        except (OSError, ValueError) as error:  # ValueError: no file can have this name
            reason = error.strerror if isinstance(error, OSError) else error
            self.findings.faults.append(check.fault(f"is an image of yours and cannot be read: {reason}"))
        else:
            yield _Check(image, size, sha256, fetched.path, check.cure, check.otherwise)


def _is_whole(artifact: Artifact, name: str) -> bool:
    """Return whether the artifact has this file with the bytes that its card lists; small files only."""
    if name not in artifact.card.files or artifact.plain_fault(name):
        return False
    return artifact.has_its_bytes(name)


def _cure(folder: Path, card: cards.Card) -> str:
    if is_shared_model(card):
        return cure_of_shared(folder)
    if ".aside-" in folder.name:
        return "it was set aside by --force and nothing needs it; cellssl gc --yes removes it"
    return f"{command_again(folder, card)} makes it again"
