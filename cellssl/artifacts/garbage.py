"""garbage: a store in, the folders that no result needs out; only what cellssl itself has written is among them."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from cellssl.artifacts.card import BY_RECIPE, FINGERPRINT, NAME, read_card
from cellssl.artifacts.locks import hold_lock, is_locked
from cellssl.artifacts.references import Needs, References
from cellssl.artifacts.store import MARKER, SCRATCH, has_marker
from cellssl.artifacts.trash import (
    DAY_S,
    FOLDER_NAME,
    TRASH,
    Trashed,
    delete,
    expired,
    is_mine,
    measured,
    move_to_trash,
    put_back,
    trashed,
)
from cellssl.config.recipe import CHAIN
from cellssl.disk import FULL
from cellssl.errors import BusyError, FailedError, IntegrityError, UsageError

YOUNG_TRAINING_DAYS = 7.0
"""A training that can continue stays for so long after its last checkpoint, unless asked for."""
OURS = re.compile(FOLDER_NAME)


@dataclass(frozen=True)
class Folder:
    """A folder below KIND/ of a store, with the reason why it is not needed, or why it stays all the same."""

    path: Path
    reason: str
    bytes: int = 0
    age_s: float = 0.0
    """Seconds since anything in it was written."""

    @property
    def place(self) -> str:
        """Its place in the store, such as `segment/3f9a2c71d0e4`."""
        return f"{self.path.parent.name}/{self.path.name}"


@dataclass(frozen=True)
class Survey:
    """What a store holds besides the results that its recipes need."""

    unneeded: list[Folder] = field(default_factory=list)
    kept: list[Folder] = field(default_factory=list)
    """What no pointer reaches, and what stays all the same, each with the reason."""
    unreadable: list[str] = field(default_factory=list)
    """Why it is not known which results are needed; while there is a reason, no finished result is unneeded."""
    busy: bool = False
    """Whether a process works in the store; meanwhile no finished result is unneeded: it may wait to be gathered."""


@dataclass(frozen=True)
class Outcome:
    """What was moved to the trash and deleted from it, and what could not be."""

    moved: list[Folder] = field(default_factory=list)
    stayed: list[Folder] = field(default_factory=list)
    """What is needed by now, each with the reason."""
    deleted: list[Trashed] = field(default_factory=list)
    faults: list[FailedError] = field(default_factory=list)


def check_is_store(root: Path) -> None:
    """Raise UsageError for a folder that has neither the marker of a store nor a readable artifact."""
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}", hint="give the folder of a store with --store")
    if has_marker(root) or any(_is_artifact(folder, References([root])) for folder in _finished(root)):
        return
    inner = [path.parent for path in sorted(root.glob(f"*/{MARKER}"))]
    hint = f"perhaps you mean --store {inner[0]}" if inner else "give the folder that holds fetch/, segment/ and so on"
    raise UsageError(f"{root} is not a store: it has neither {MARKER} nor a readable KIND/FINGERPRINT/{NAME}", hint)


def _finished(root: Path) -> Iterator[Path]:
    """Yield the folders with the name of a finished artifact and a card."""
    for kind in CHAIN:
        folders = (folder for folder in _named(root / kind) if FINGERPRINT.fullmatch(folder.name))
        yield from (folder for folder in folders if (folder / NAME).is_file())


def _named(kind: Path) -> list[Path]:
    """Return what is below KIND/ and has a name that cellssl gives to folders."""
    return sorted(path for path in kind.iterdir() if OURS.fullmatch(path.name)) if kind.is_dir() else []


def _is_artifact(folder: Path, references: References) -> bool:
    try:
        references.card(folder)
    except IntegrityError:
        return False
    return True


class Collector:
    """Lists what no result of a store needs, and moves it to the store's trash.

    The pointers of `others` (further stores) are followed too: what they need stays. With `older_than_days`, what was
    written later stays; without it, that holds for trainings that can continue.
    """

    def __init__(self, root: Path, others: Sequence[Path] = (), older_than_days: float | None = None) -> None:
        check_is_store(root)
        self.root = root
        self.older_than_days = older_than_days
        self._references = References((root, *others))

    def survey(self) -> Survey:
        """Look at every folder of the store whose name is one that cellssl gives."""
        needs, busy, kept, unneeded = self._needs(), self._is_busy(), [], []
        for kind in CHAIN:
            if (self.root / kind).is_symlink():
                kept.append(Folder(self.root / kind, "it is a link, and links are not followed"))
                continue
            for path in _named(self.root / kind):
                found = self._unneeded(path, needs, busy)
                if found is not None:
                    reason = self._why_it_stays(found, needs)
                    unneeded += [] if reason else [found]
                    kept += [Folder(path, reason, found.bytes, found.age_s)] if reason else []
        return Survey(unneeded, kept, needs.unreadable, busy)

    def collect(self, survey: Survey, *, move: bool, purge: bool) -> Outcome:
        """Move what is not needed to the trash, and delete what has been there long enough; all of it with `purge`."""
        done = Outcome()
        if move:
            self._delete(list(expired(trashed(self.root))), done)  # first: on a full disk, only this makes room
            for folder in survey.unneeded:
                try:
                    reason = self.move(folder)
                except FailedError as error:
                    done.faults.append(error)
                else:
                    if reason:
                        done.stayed.append(replace(folder, reason=reason))
                    else:
                        done.moved.append(folder)
        if purge:
            self._delete(trashed(self.root), done)
        return done

    def move(self, folder: Folder) -> str:
        """Move an unneeded folder to the trash; return "" where it was moved, and otherwise why it is still needed.

        The lock of its artifact is held meanwhile. Whether the folder is needed is looked at again before the rename,
        and once more after it, when no other process can find the artifact any more; then it is put back. Raises
        FailedError where it cannot be moved, and stays.
        """
        lock = folder.path.with_name(f"{_fingerprint(folder.path)}.lock")
        try:
            if _is_locked(lock):
                return "another process works on it"
            with _briefly_held(lock):
                gone = not os.path.lexists(folder.path)
                if gone or self._why_too_young(replace(folder, age_s=measured(folder.path)[1])):
                    return "another process has moved it" if gone else "it was written to meanwhile"
                if not self._still_unneeded(folder.path, lock):
                    return "it is needed by now"
                entry = move_to_trash(self.root, folder.path, folder.reason)
                if not self._still_unneeded(folder.path, lock):
                    put_back(self.root, entry)
                    return "it is needed by now"
        except BusyError:
            return "another process works on it"
        except OSError as error:
            raise FailedError(
                f"{folder.path} cannot be moved to {self.root / TRASH}: {error.strerror}",
                hint="let its owner run cellssl gc; a folder on another file system is to be moved by hand",
            ) from error
        return ""

    def _delete(self, entries: Sequence[Trashed], done: Outcome) -> None:
        """Delete folders from the trash for good."""
        for entry in entries:
            try:
                if not is_mine(entry.path):
                    raise PermissionError(errno.EPERM, "it belongs to another user")
                delete(entry)
                done.deleted.append(entry)
            except FileNotFoundError:
                continue  # another process deletes it
            except OSError as error:
                fault = f"{error.filename or entry.path} cannot be deleted: {error.strerror}"
                done.faults.append(FailedError(fault, hint="let its owner delete it"))

    def _needs(self) -> Needs:
        """Return what the pointers need; it is not known where any card of the store cannot be read."""
        needs, finished = self._references.needs(), 0
        for folder in _finished(self.root):
            finished += 1
            try:
                self._references.card(folder)
            except IntegrityError as error:
                needs.unreadable += [] if error.message in needs.unreadable else [error.message]
        if finished and not (self.root / BY_RECIPE).is_dir():
            needs.unreadable.append(f"{self.root / BY_RECIPE} is gone, which says what the recipes need")
        return needs

    def _unneeded(self, path: Path, needs: Needs, busy: bool) -> Folder | None:
        """Return a folder that nothing is known to need, or None."""
        name = (path.parent.name, path.name)
        if FINGERPRINT.fullmatch(path.name):
            if name in needs.names or busy or needs.unreadable:
                return None
            reason = "no pointer in by-recipe/ reaches it"
        elif _is_locked(path.with_name(f"{_fingerprint(path)}.lock")):
            return None
        elif path.name.endswith(".partial"):
            reason = "it is unfinished, and no process works on it"
        elif path.name.endswith(".doomed"):
            reason = "an earlier version had begun to remove it"
        else:
            reason = "--force has set it aside"
        return Folder(path, reason, *measured(path))

    def _why_it_stays(self, folder: Folder, needs: Needs) -> str:
        """Return why something stays although nothing is known to need it; "" where it need not."""
        path = folder.path
        if path.is_symlink() or not path.is_dir():
            return "it is a link or a file, and not a folder"
        if not is_mine(path):
            return "it belongs to another user"
        if FINGERPRINT.fullmatch(path.name) and not (path / NAME).is_file():
            return f"it has no {NAME}, so it is not known whose it is; remove it yourself if it is not needed"
        if FINGERPRINT.fullmatch(path.name) and (perhaps := needs.why_perhaps(path.parent.name)):
            return perhaps
        if strangers := self._files_of_others(path):
            return f"it holds files that cellssl has not written: {', '.join(strangers[:3])}"
        return self._why_too_young(folder)

    def _why_too_young(self, folder: Folder) -> str:
        days = self.older_than_days
        if days is not None:
            return f"it is younger than {days:g} days" if folder.age_s < days * DAY_S else ""
        if _can_continue(folder.path) and folder.age_s < YOUNG_TRAINING_DAYS * DAY_S:
            return f"its training can continue, and is younger than {YOUNG_TRAINING_DAYS:.0f} days; see --older-than"
        return ""

    def _files_of_others(self, path: Path) -> list[str]:
        """Return the files in a finished artifact that its card does not list."""
        if not (path / NAME).is_file() or path.name.endswith((".partial", ".doomed")):
            return []
        try:
            card = self._references.card(path) if FINGERPRINT.fullmatch(path.name) else read_card(path)
        except IntegrityError:
            return []  # of what --force has set aside because of its card
        known = {NAME, *card.files, *card.extras}
        found = (file.relative_to(path) for file in sorted(path.rglob("*")) if file.is_symlink() or not file.is_dir())
        return [name.as_posix() for name in found if name.as_posix() not in known and name.parts[0] != SCRATCH]

    def _still_unneeded(self, path: Path, own_lock: Path) -> bool:
        if not FINGERPRINT.fullmatch(path.name):
            return True  # its lock is held
        needs, kind = self._references.needs(), path.parent.name
        known = not needs.unreadable and not needs.why_perhaps(kind)
        return known and (kind, path.name) not in needs.names and not self._is_busy(own_lock)

    def _is_busy(self, own_lock: Path | None = None) -> bool:
        """Return whether any process makes an artifact in the store."""
        locks = (lock for kind in CHAIN for lock in (self.root / kind).glob("*.lock"))
        return any(lock != own_lock and _is_locked(lock) for lock in locks)


def _fingerprint(path: Path) -> str:
    return path.name.removeprefix(".").partition(".")[0]


def _is_locked(lock: Path) -> bool:
    if not FINGERPRINT.fullmatch(lock.stem) or lock.is_symlink() or not lock.is_file():
        return False
    try:
        return is_locked(lock)
    except OSError:
        return True  # it cannot be known here


@contextmanager
def _briefly_held(lock: Path) -> Iterator[None]:
    """Hold a lock for the moment of a rename; on a full disk it is an empty file, which other processes wait for."""
    with ExitStack() as held:
        try:
            held.enter_context(hold_lock(lock, wait=False))
        except OSError as error:
            if error.errno not in FULL:
                raise
            lock.touch(exist_ok=False)
            held.callback(lock.unlink, missing_ok=True)
        yield


def _can_continue(path: Path) -> bool:
    """Return whether an unfinished result holds a checkpoint."""
    return path.name.endswith(".partial") and any((path / SCRATCH).glob("*.ckpt"))
