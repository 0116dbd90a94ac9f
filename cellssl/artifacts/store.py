"""store: a fingerprint in, the folder of its artifact out; a draft becomes an artifact by one rename."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellssl.artifacts import card as cards
from cellssl.artifacts.card import BY_RECIPE, FINGERPRINT, Card, FileEntry, is_identity
from cellssl.artifacts.hash_cache import FOLDER as HASHES
from cellssl.artifacts.hash_cache import HashCache
from cellssl.artifacts.hashing import Hashed, identity_of, sha256_of
from cellssl.artifacts.hub_names import folder_to_read, is_hub_name, is_kept, name_of_folder
from cellssl.artifacts.locks import Lock, LockHolder, hold_lock, this_process
from cellssl.artifacts.looks import card_in, lost_in
from cellssl.artifacts.naming import is_like_a_card, kind_and_fingerprint, no_artifact, what_to_give
from cellssl.artifacts.remake import command_again
from cellssl.bounded import read_json
from cellssl.config.recipe import CHAIN
from cellssl.disk import faults_explained, raise_fault
from cellssl.errors import DataError, FailedError, IntegrityError, UsageError
from cellssl.files import remove_unfinished, write_text

SCRATCH = "scratch"
MARKER = "cellssl-store.json"
"""File of a store that says that the folder is one; `cellssl gc` removes nothing from a folder that is not a store."""
STORE_FORMAT = 1
"""Version of the layout of a store; a higher one is refused by what removes anything."""
OTHER_BYTES = "does not have the bytes that its card lists"


@dataclass(frozen=True)
class Artifact:
    """A finished result on disk."""

    path: Path
    card: Card
    hashes: HashCache = field(default_factory=HashCache, repr=False, compare=False)
    """Which of its files have been read and compared before."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the artifact, which is the name of its folder."""
        return self.card.fingerprint

    def file(self, name: str) -> Path:
        """Return the path of one of its files, whose bytes are those that the card lists; they are read once.

        Raises IntegrityError where the card lists no such file, its size or its sha256 differs, or it is a link out of
        the store: an artifact from an untrusted source must not give access to other files of this machine.
        """
        if name not in self.card.files:
            raise IntegrityError(f"{self.path} has no file {name}", hint=f"it holds: {', '.join(self.card.files)}")
        path = self.path / name
        if fault := self.plain_fault(name) or self._fault_of_bytes(path, self.card.files[name].sha256):
            raise IntegrityError(f"{path} {fault}", hint=self._cure())
        return path

    def not_compared(self) -> list[Path]:
        """Return the files that came here, or changed, after their bytes were last read; reads no byte of them.

        Files in folders, such as images, are left out. Raises IntegrityError where a file is missing or has another
        size.
        """
        names = [name for name in self.card.files if "/" not in name]
        for name in names:
            if fault := self.plain_fault(name):
                raise IntegrityError(f"{self.path / name} {fault}", hint=self._cure())
        paths = {self.path / name: self.card.files[name].sha256 for name in names}
        return [path for path, sha256 in paths.items() if self.hashes.known(path) != sha256]

    def _cure(self) -> str:
        if cards.is_shared_model(self.card):
            return cure_of_shared(self.path)
        return f"{command_again(self.path, self.card)} makes it again"

    def plain_fault(self, name: str) -> str:
        """Return what is wrong with a file without reading it, as the rest of a sentence; "" where nothing is."""
        path, entry = self.path / name, self.card.files.get(name)
        if entry is None or not path.is_file():
            return "is missing"
        if self._is_link_outside(path):
            return f"is a link out of {'the store' if self._lies_in_store() else 'its folder'}"
        size = path.stat().st_size
        return "" if size == entry.bytes else f"is {size:,} bytes long, not {entry.bytes:,}"

    def _fault_of_bytes(self, path: Path, sha256: str) -> str:
        try:
            same = self.hashes.known(path) == sha256 or self.hashes.read_again(path) == sha256
        except OSError as error:
            raise_fault(error, path)
            return f"cannot be read: {error.strerror}"
        return "" if same else OTHER_BYTES

    def _is_link_outside(self, path: Path) -> bool:
        # a folder that bears another name does not lie in a store: then nothing outside it belongs to it
        root = self.path.parents[1] if self._lies_in_store() else self.path
        return not path.resolve().is_relative_to(root.resolve())

    def _lies_in_store(self) -> bool:
        return self.path.parts[-2:] == (self.card.kind, self.card.fingerprint)

    def check_still_there(self) -> None:
        """Raise FailedError where its folder has been moved away since it was found."""
        if not (self.path / cards.NAME).is_file():
            raise FailedError(
                f"{self.path} was moved away meanwhile, perhaps by cellssl gc", hint="run the same command again"
            )

    def lost_files(self) -> list[str]:
        """Return the files of the card that are not there, such as those that a purge of old files has removed."""
        return lost_in(self.path, self.card.files)

    def faults(self) -> list[str]:
        """Return one sentence per file that differs from the card; none where every byte is as it was written."""
        plain = {name: self.plain_fault(name) for name in self.card.files}
        faults = {name: fault or ("" if self.has_its_bytes(name) else OTHER_BYTES) for name, fault in plain.items()}
        return [f"{name} {fault}" for name, fault in faults.items() if fault]

    def has_its_bytes(self, name: str) -> bool:
        """Read a file, whatever is known of it, and return whether it has the bytes that the card lists."""
        try:
            return sha256_of(self.path / name) == self.card.files[name].sha256
        except OSError:
            return False


def cure_of_shared(folder: Path) -> str:
    """Return the cure for a shared model that is damaged: the store's own copy may go, a folder of the user may not."""
    if is_kept(folder) or name_of_folder(folder):
        return f"remove {folder}, and get that model again from where it came"
    return f"get the folder {folder} again from where it came"


def has_marker(root: Path) -> bool:
    """Return whether a folder has the marker of a store; IntegrityError where a later version has written it."""
    if not (root / MARKER).is_file():
        return False
    try:
        marker = read_json(root / MARKER)
        later = int(marker["format"]) > STORE_FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if later:
        raise IntegrityError(
            f"{root / MARKER} has format {marker['format']}, written by a later version of cellssl",
            hint=f"this cellssl reads formats up to {STORE_FORMAT}; use that version",
        )
    return True


@dataclass(frozen=True)
class Draft:
    """A result that is being made: its `.partial` folder is also where an interrupted run resumes."""

    path: Path
    target: Path
    lock: Lock
    extras: set[str] = field(default_factory=set)
    hashes: HashCache = field(default_factory=HashCache, repr=False, compare=False)

    def file(self, name: str) -> Path:
        """Return where to write the file `name` of the result; DataError for a name that leads out of the folder.

        Names of fields, plates and wells come from tables of users, and some files are named after them.
        """
        if cards.leaves_its_folder(name):
            raise DataError(
                f"{name!r} cannot be the name of a file in a result", hint="correct that name in your table"
            )
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def extra(self, name: str) -> Path:
        """Return where to write a file that is kept with the result but is not part of it."""
        self.extras.add(name)
        return self.file(name)

    def scratch(self) -> Path:
        """Return a folder for intermediate files; it is removed when the result is finished."""
        path = self.path / SCRATCH
        path.mkdir(parents=True, exist_ok=True)
        return path

    def commit(self, planned: Card) -> Artifact:
        """Hash every file, write the card, rename the folder to its final name, and return the artifact."""
        (self.path / cards.NAME).unlink(missing_ok=True)
        files = {name: path for name, path in _walk(self.path) if name not in self.extras}
        hashed = self.hashes.hash_all({path: path.stat().st_size for path in files.values()}, keep=False)
        entries = {name: FileEntry(hashed[path].identity.bytes, hashed[path].sha256) for name, path in files.items()}
        extras = tuple(sorted(name for name in self.extras if (self.path / name).exists()))
        finished = Card(**{**vars(planned), "files": entries, "extras": extras})
        finished.write(self.path)
        self.lock.check_held()
        _sync_tree(self.path)
        shutil.rmtree(
            self.path / SCRATCH, ignore_errors=True
        )  # not earlier: a run that is killed before this line resumes from it
        _replace_folder(self.path, self.target)
        self._note_hashes(entries)
        return Artifact(self.target, finished, self.hashes)

    def _note_hashes(self, entries: Mapping[str, FileEntry]) -> None:
        """Keep the hashes of the finished files, which no other process has written to: they are not read again.

        Files in folders, such as images, are compared by who reads them.
        """
        names = {name: self.target / name for name in entries if "/" not in name}
        self.hashes.note(
            {path: Hashed(entries[name].sha256, identity_of(path), settled=True) for name, path in names.items()}
        )


class Store:
    """A folder of artifacts, and further such folders to read from.

    `hashes` is where hashes of files are looked up; by default the cache in this folder.
    """

    def __init__(self, root: Path, upstreams: tuple[Path, ...] = (), hashes: HashCache | None = None) -> None:
        self.root = root.absolute()
        self.upstreams = tuple(path.absolute() for path in upstreams)
        self.hashes = hashes or HashCache(self.root / HASHES)

    def find(self, kind: str, fingerprint: str) -> Artifact | None:
        """Return the finished artifact, from this folder or one of the further ones, or None.

        Raises IntegrityError where its folder holds the card of another artifact.
        """
        if not is_identity(kind, fingerprint):
            raise IntegrityError(
                f"{kind!r}, {fingerprint!r} cannot name an artifact", hint="correct it where you read it"
            )
        for root in (self.root, *self.upstreams):
            folder = root / kind / fingerprint
            if (folder / cards.NAME).is_file():
                card = card_in(folder)
                if (card.kind, card.fingerprint) != (kind, fingerprint):
                    raise IntegrityError(
                        f"{folder} holds the card of the {card.kind} artifact {card.fingerprint}",
                        hint="rename the folder to that fingerprint, or make the artifact again with --force",
                    )
                return Artifact(folder, card, self.hashes)
        return None

    def get(self, kind: str, fingerprint: str) -> Artifact:
        """Return the artifact as `find` does; UsageError where there is none."""
        found = self.find(kind, fingerprint)
        if found is None:
            raise UsageError(
                f"there is no {kind} artifact {fingerprint} in {self.root}",
                hint="if it was made in another store, name that one with a second --store",
            )
        return found

    def partial(self, kind: str, fingerprint: str) -> Path:
        """Return the folder of an unfinished artifact."""
        return self.root / kind / f"{fingerprint}.partial"

    def resolve(self, reference: str | Path, kinds: tuple[str, ...]) -> Artifact:
        """Return the artifact that a user names: folder, card file, fingerprint, KIND/FINGERPRINT or hf://OWNER/NAME.

        Raises UsageError where there is none, or it is an artifact of another kind; a model of a hub must be here.
        """
        if is_hub_name(reference):
            reference = folder_to_read(str(reference), (self.root, *self.upstreams))
        text, path = str(reference), Path(reference)
        if not os.path.lexists(path):
            found = self._by_name(text, kinds)
        elif path.is_dir():
            if path.name.endswith(".partial") or not os.path.lexists(path / cards.NAME):
                raise no_artifact(path, kinds)
            found = Artifact(path.absolute(), cards.read_card(path), self.hashes)
        elif is_like_a_card(path):
            found = self._by_card_file(path)
        else:
            raise no_artifact(path, kinds)
        if found is None:
            where = f" in {self.root}" if kind_and_fingerprint(text) or FINGERPRINT.fullmatch(text) else ""
            raise UsageError(f"there is no artifact {text}{where}", hint=what_to_give(kinds))
        if found.card.kind not in kinds:
            raise UsageError(f"{text} is an artifact of {found.card.kind}", hint=f"give one of: {', '.join(kinds)}")
        return found

    def _by_name(self, text: str, kinds: Sequence[str]) -> Artifact | None:
        """Return the artifact with a name as it is printed; one of another kind where there is none of `kinds`."""
        if named := kind_and_fingerprint(text):
            return self.find(*named)
        if not FINGERPRINT.fullmatch(text):
            return None
        every = dict.fromkeys((*kinds, *CHAIN))
        return next((hit for kind in every if (hit := self.find(kind, text))), None)

    def _by_card_file(self, path: Path) -> Artifact:
        card = cards.read_card(path)
        if path.name == cards.NAME:
            return Artifact(path.absolute().parent, card, self.hashes)
        found = self.find(card.kind, card.fingerprint)
        folder = Path(str(read_json(path).get("path")))
        # a card file may come from anyone: it leads to the folder of this artifact, and nowhere else
        if found is None and folder.parts[-2:] == (card.kind, card.fingerprint) and (folder / cards.NAME).is_file():
            found = Store(folder.parents[1], hashes=self.hashes).find(card.kind, card.fingerprint)
        return found or self.get(card.kind, card.fingerprint)

    def with_store_of(self, artifact: Artifact) -> Store:
        """Return this store, extended so that it reads the store in which `artifact` lies, too.

        A shared model lies in no store.
        """
        if artifact.path.parts[-2:] != (artifact.card.kind, artifact.fingerprint):
            return self
        root = artifact.path.parent.parent
        known = {self.root, *self.upstreams}
        return self if root in known else Store(self.root, (*self.upstreams, root), self.hashes)

    @contextmanager
    def drafting(
        self, kind: str, fingerprint: str, *, wait: bool = True, waiting: Callable[[LockHolder], None] = lambda _: None
    ) -> Iterator[Draft]:
        """Lock one artifact and give the folder to make it in, with the files that an earlier try left there."""
        with faults_explained(self.root):
            self._write_marker()
        lock_file = self.root / kind / f"{fingerprint}.lock"
        with faults_explained(lock_file.parent), hold_lock(lock_file, wait=wait, waiting=waiting) as lock:
            partial = self.partial(kind, fingerprint)
            partial.mkdir(parents=True, exist_ok=True)
            remove_unfinished(partial)
            try:
                yield Draft(partial, self.root / kind / fingerprint, lock, hashes=self.hashes)
            finally:
                _remove_if_empty(partial)

    def open_draft(self, kind: str, fingerprint: str) -> Draft:
        """Return the draft that another process is making, to read its files; only that process can commit it."""
        lock = Lock(self.root / kind / f"{fingerprint}.lock", this_process())
        return Draft(self.partial(kind, fingerprint), self.root / kind / fingerprint, lock)

    def write_pointer(
        self,
        recipe: str,
        arm: str,
        seed: int | None,
        stage: str,
        artifact: Artifact,
        overrides: Sequence[str] = (),
    ) -> None:
        """Write a small file that points to the artifact, for users; it also keeps the artifact from `cellssl gc`.

        `overrides` are those that `recipe`, the name of the pointers' folder, stands for; a file there lists them.
        """
        folder = self.root / BY_RECIPE / recipe / arm / ("all" if seed is None else str(seed))
        content: dict[str, Any] = {"kind": artifact.card.kind, "fingerprint": artifact.fingerprint}
        with contextlib.suppress(ValueError):
            content["path"] = str(artifact.path.relative_to(self.root))
        with faults_explained(self.root):
            self._write_marker()
            if overrides:
                _write_json(self.root / BY_RECIPE / recipe / "overrides.json", {"set": list(overrides)})
            _write_json(folder / f"{stage}.json", content)

    def _write_marker(self) -> None:
        """Mark the folder as a store."""
        if not os.path.lexists(self.root / MARKER):
            what = "a folder of results of cellssl; docs/file-formats.md says what lies in it"
            _write_json(self.root / MARKER, {"format": STORE_FORMAT, "what": what})


def _replace_folder(made: Path, target: Path) -> None:
    """Rename a folder to its final name; a former one is set aside, and comes back where that fails."""
    aside = target.with_name(f"{target.name}.aside-{secrets.token_hex(4)}") if target.exists() else None
    if aside is not None:
        target.rename(aside)
    try:
        made.rename(target)
    except OSError:
        if aside is not None:
            aside.rename(target)
        raise


def _write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a small file, unless it has that content already."""
    text = json.dumps(content, sort_keys=True) + "\n"
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text)


def _remove_if_empty(partial: Path) -> None:
    """Remove the folder where no work was started: another process made the artifact, or it cannot be made."""
    for folder in (partial / SCRATCH, partial):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        within = path.relative_to(folder)
        if path.is_file() and within.parts[0] != SCRATCH:
            yield within.as_posix(), path


def _sync_tree(folder: Path) -> None:
    """Write every byte to the disk before the folder gets its final name."""
    for path in (*(path for _, path in _walk(folder)), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
