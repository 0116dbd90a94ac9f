"""store: a fingerprint in, the folder of its result out; drafts become results by one rename."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellssl.artifacts import card as cards
from cellssl.artifacts.card import Card, FileEntry
from cellssl.artifacts.hashing import HashCache, sha256_of
from cellssl.artifacts.locks import Lock, LockHolder, hold_lock, this_process
from cellssl.errors import DataError, FailedError, IntegrityError, UsageError
from cellssl.files import remove_unfinished, write_text

FINGERPRINT = re.compile(r"[0-9a-f]{12}")
SCRATCH = "scratch"
FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)


@dataclass(frozen=True)
class Artifact:
    """A finished result on disk."""

    path: Path
    card: Card

    @property
    def fingerprint(self) -> str:
        """The name of its folder."""
        return self.card.fingerprint

    def file(self, name: str) -> Path:
        """The path of one of its files.

        Raises IntegrityError where the card knows no such file, the file has lost or gained bytes, or a link in its
        place leads out of the store: an artifact from a stranger must not bring other files of this machine to light.
        """
        entry = self.card.files.get(name)
        path = self.path / name
        if entry is None:
            raise IntegrityError(f"{self.path} has no file {name}", hint=f"it holds: {', '.join(self.card.files)}")
        if not path.is_file() or path.stat().st_size != entry.bytes:
            raise IntegrityError(
                f"{path} is missing or is not {entry.bytes:,} bytes long", hint="make it again with --force"
            )
        if self._leads_away(path):
            raise IntegrityError(f"{path} is a link out of the store", hint="make it again with --force")
        return path

    def _leads_away(self, path: Path) -> bool:
        return not path.resolve().is_relative_to(self.path.parents[1].resolve())

    def faults(self) -> list[str]:
        """What differs from the card, a sentence a file; empty when every byte is as it was written."""
        found = []
        for name, entry in self.card.files.items():
            path = self.path / name
            if not path.is_file():
                found.append(f"{name} is missing")
            elif self._leads_away(path):
                found.append(f"{name} is a link out of the store")
            elif sha256_of(path) != entry.sha256:
                found.append(f"{name} has other bytes than its card says")
        return found


@dataclass(frozen=True)
class Draft:
    """A result in the making: its `.partial` folder is also the resume point."""

    path: Path
    target: Path
    lock: Lock
    extras: set[str] = field(default_factory=set)

    def file(self, name: str) -> Path:
        """Where to write the file `name` of the result; DataError for a name that leads elsewhere.

        Names of fields, plates and wells come from tables of others, and some files are called after them.
        """
        if cards.leaves_its_folder(name):
            raise DataError(f"{name!r} cannot name a file of a result", hint="correct that name in your table")
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def extra(self, name: str) -> Path:
        """Where to write a file that is kept beside the result but is not part of it."""
        self.extras.add(name)
        return self.file(name)

    def scratch(self) -> Path:
        """A folder for work in progress; it is removed before the result is finished."""
        path = self.path / SCRATCH
        path.mkdir(parents=True, exist_ok=True)
        return path

    def commit(self, planned: Card) -> Artifact:
        """Hash every file, write the card, and give the folder its final name."""
        (self.path / cards.NAME).unlink(missing_ok=True)
        files = {name: path for name, path in _walk(self.path) if name not in self.extras}
        entries = {name: FileEntry(path.stat().st_size, sha256_of(path)) for name, path in files.items()}
        extras = tuple(sorted(name for name in self.extras if (self.path / name).exists()))
        finished = Card(**{**vars(planned), "files": entries, "extras": extras})
        finished.write(self.path)
        self.lock.still_mine()
        _sync_tree(self.path)
        shutil.rmtree(self.path / SCRATCH, ignore_errors=True)  # not before: whoever is killed here resumes from it
        if self.target.exists():
            self.target.rename(self.target.with_name(f"{self.target.name}.aside-{secrets.token_hex(4)}"))
        self.path.rename(self.target)
        return Artifact(self.target, finished)


class Store:
    """A folder of artifacts, with further ones to read from.

    `trusting` lets a file of the user be the one that it was where its size and time are.
    """

    def __init__(self, root: Path, upstreams: tuple[Path, ...] = (), *, trusting: bool = True) -> None:
        self.root = root.absolute()
        self.upstreams = tuple(path.absolute() for path in upstreams)
        self.hashes = HashCache(self.root / "hashes", trusted=trusting)

    def find(self, kind: str, fingerprint: str) -> Artifact | None:
        """The finished artifact, here or upstream."""
        for root in (self.root, *self.upstreams):
            folder = root / kind / fingerprint
            if (folder / cards.NAME).is_file():
                card = cards.read_card(folder)
                if (card.kind, card.fingerprint) != (kind, fingerprint):
                    raise IntegrityError(
                        f"{folder} holds the card of the {card.kind} artifact {card.fingerprint}",
                        hint="give the folder its own name back, or make the artifact again with --force",
                    )
                return Artifact(folder, card)
        return None

    def get(self, kind: str, fingerprint: str) -> Artifact:
        """As `find`, but what is not there is an error."""
        found = self.find(kind, fingerprint)
        if found is None:
            raise UsageError(
                f"there is no {kind} artifact {fingerprint} in {self.root}",
                hint="it was made in another store? name that one with a second --store",
            )
        return found

    def partial(self, kind: str, fingerprint: str) -> Path:
        """Where an unfinished artifact stands."""
        return self.root / kind / f"{fingerprint}.partial"

    def resolve(self, reference: str | Path, kinds: tuple[str, ...]) -> Artifact:
        """The artifact that a person names: by folder, by card file, or by fingerprint."""
        text, path = str(reference), Path(reference)
        found = None
        if FINGERPRINT.fullmatch(text) and not path.exists():
            found = next((hit for kind in kinds if (hit := self.find(kind, text))), None)
        elif path.is_dir():
            found = Artifact(path.absolute(), cards.read_card(path))
        elif path.is_file():
            found = self._by_card_file(path)
        if found is None:
            raise UsageError(
                f"there is no artifact {text}",
                hint=f"give a folder, a card file or a fingerprint of: {', '.join(kinds)}",
            )
        if found.card.kind not in kinds:
            raise UsageError(f"{text} is a {found.card.kind} artifact", hint=f"give one of: {', '.join(kinds)}")
        return found

    def _by_card_file(self, path: Path) -> Artifact:
        card = cards.read_card(path)
        if path.name == cards.NAME:
            return Artifact(path.absolute().parent, card)
        found = self.find(card.kind, card.fingerprint)
        kept_in = Path(str(json.loads(path.read_text(encoding="utf-8")).get("path")))
        if found is None and (kept_in / cards.NAME).is_file():
            found = Artifact(kept_in, cards.read_card(kept_in))
        return found or self.get(card.kind, card.fingerprint)

    def beside(self, artifact: Artifact) -> Store:
        """This store, able to read what lies in the store of `artifact` too."""
        root = artifact.path.parent.parent
        known = {self.root, *self.upstreams}
        return self if root in known else Store(self.root, (*self.upstreams, root), trusting=self.hashes.trusted)

    @contextmanager
    def drafting(
        self, kind: str, fingerprint: str, *, wait: bool = True, waiting: Callable[[LockHolder], None] = lambda _: None
    ) -> Iterator[Draft]:
        """The right to make one artifact, and the folder to make it in, with whatever an earlier try left there."""
        lock_file = self.root / kind / f"{fingerprint}.lock"
        with self._in_words(), hold_lock(lock_file, wait=wait, waiting=waiting) as lock:
            partial = self.partial(kind, fingerprint)
            partial.mkdir(parents=True, exist_ok=True)
            remove_unfinished(partial)
            try:
                yield Draft(partial, self.root / kind / fingerprint, lock)
            finally:
                _remove_if_empty(partial)

    def visiting(self, kind: str, fingerprint: str) -> Draft:
        """The folder in which another process makes an artifact, to look into; only that process can finish it."""
        lock = Lock(self.root / kind / f"{fingerprint}.lock", this_process())
        return Draft(self.partial(kind, fingerprint), self.root / kind / fingerprint, lock)

    def point(self, recipe: str, arm: str, seed: int | None, stage: str, artifact: Artifact) -> None:
        """Leave a small pointer for people, which also keeps the artifact from being collected."""
        folder = self.root / "by-recipe" / recipe / arm / ("all" if seed is None else str(seed))
        content: dict[str, Any] = {"kind": artifact.card.kind, "fingerprint": artifact.fingerprint}
        with contextlib.suppress(ValueError):
            content["path"] = str(artifact.path.relative_to(self.root))
        text = json.dumps(content, sort_keys=True) + "\n"
        file = folder / f"{stage}.json"
        with self._in_words():
            if not file.is_file() or file.read_text(encoding="utf-8") != text:
                folder.mkdir(parents=True, exist_ok=True)
                write_text(file, text)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """A disk that is full, read-only or not a folder is no fault of ours."""
        try:
            yield
        except OSError as error:
            if error.errno in FULL:
                free = shutil.disk_usage(self.root).free
                raise FailedError(
                    f"the disk of {self.root} is full ({free / 1e6:,.0f} MB free)",
                    hint="free some space (cellssl gc lists what nothing needs) and run the same command again",
                ) from error
            if error.errno in NOT_OURS:
                raise FailedError(
                    f"{error.filename or self.root} cannot be written: {error.strerror}",
                    hint="choose another folder with --store",
                ) from error
            raise


def _remove_if_empty(partial: Path) -> None:
    """Nothing was begun: somebody else had made it, or it cannot be made."""
    for folder in (partial / SCRATCH, partial):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        within = path.relative_to(folder)
        if path.is_file() and within.parts[0] != SCRATCH:
            yield within.as_posix(), path


def _sync_tree(folder: Path) -> None:
    """Bring every byte to the disk before the folder bears its final name."""
    for path in (*(path for _, path in _walk(folder)), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
