"""trash: a folder of a store in, the same folder in the store's .trash out, from where it can be put back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cellssl.bounded import read_json
from cellssl.config.recipe import CHAIN
from cellssl.errors import FailedError, UsageError
from cellssl.files import write_text

TRASH = ".trash"
"""Folder of a store for what `cellssl gc` has removed."""
KEPT_DAYS = 7
DAY_S = 86400.0
STAMP = "%Y%m%dT%H%M%SZ"
FOLDER_NAME = r"[0-9a-f]{12}(?:\.partial|\.aside-[0-9a-f]{8})?|\.[0-9a-f]{12}(?:\.partial|\.aside-[0-9a-f]{8})?\.doomed"
"""Names of folders that cellssl writes below KIND/: results, unfinished ones, those that --force has set aside, and
those that a former version had begun to remove."""
ENTRY = re.compile(rf"(?P<stamp>\d{{8}}T\d{{6}}Z)\.(?P<kind>{'|'.join(CHAIN)})\.(?P<name>{FOLDER_NAME})")
REMOVING = "removing."
"""Start of the name of an entry that is being deleted, so that half of it is never put back."""


@dataclass(frozen=True)
class Trashed:
    """A folder in the trash; its name says when it was moved, and from where."""

    path: Path
    origin: str
    """Its former place in the store, such as `segment/3f9a2c71d0e4`."""
    moved_s: float
    """When it was moved, in seconds since 1970."""

    @property
    def age_s(self) -> float:
        """Seconds since it was moved."""
        return time.time() - self.moved_s

    @property
    def record(self) -> Path:
        """The file beside it that says why it was moved."""
        return self.path.with_name(f"{self.path.name}.json")

    def reason(self) -> str:
        """Return why it was moved; "" where that is not recorded."""
        try:
            return str(read_json(self.record)["reason"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""


def is_mine(path: Path) -> bool:
    """Return whether a folder belongs to the user of this process; everything does to root."""
    return os.geteuid() in (0, path.lstat().st_uid)


def measured(path: Path) -> tuple[int, float]:
    """Return the bytes of a folder, and the seconds since anything in it was written; links are not followed."""
    size, newest = 0, 0.0
    for folder, _, files in os.walk(path):
        for name in (folder, *(f"{folder}/{file}" for file in files)):
            try:
                stat = os.lstat(name)
            except OSError:
                continue  # it was removed meanwhile
            size += stat.st_size if name != folder else 0
            newest = max(newest, stat.st_mtime)
    return size, max(0.0, time.time() - newest)


def trashed(root: Path) -> list[Trashed]:
    """Return the folders in the trash of a store, the oldest first; what others have put there is left out."""
    trash = root / TRASH
    if trash.is_symlink() or not trash.is_dir():
        return []
    return [entry for path in sorted(trash.iterdir()) if (entry := _entry(path)) is not None]


def _entry(path: Path) -> Trashed | None:
    named = ENTRY.fullmatch(path.name.removeprefix(REMOVING))
    if named is None or path.is_symlink() or not path.is_dir():
        return None
    moved_s = _seconds(named["stamp"])
    return None if moved_s is None else Trashed(path, f"{named['kind']}/{named['name']}", moved_s)


def _seconds(stamp: str) -> float | None:
    from calendar import timegm

    try:
        return float(timegm(time.strptime(stamp, STAMP)))
    except ValueError:
        return None


def move_to_trash(root: Path, folder: Path, reason: str) -> Trashed:
    """Move a folder KIND/NAME of the store to its trash by one rename; OSError where that fails and nothing was moved.

    The reason is recorded in a file beside it, unless the disk is full.
    """
    trash = root / TRASH
    if trash.is_symlink():
        raise FailedError(f"{trash} is a link, so nothing is moved there", hint="remove the link")
    trash.mkdir(exist_ok=True)
    now_s = time.time()
    origin = f"{folder.parent.name}/{folder.name}"
    stamp = time.strftime(STAMP, time.gmtime(now_s))
    entry = Trashed(trash / f"{stamp}.{folder.parent.name}.{folder.name}", origin, now_s)
    folder.rename(entry.path)
    with contextlib.suppress(OSError):
        record = {"origin": origin, "moved": stamp, "reason": reason}
        write_text(entry.record, json.dumps(record, indent=1, sort_keys=True) + "\n")
    return entry


def put_back(root: Path, entry: Trashed) -> Path:
    """Move a folder from the trash to its former place by one rename, and return that place.

    Raises UsageError where something is there by now, and OSError where it cannot be moved.
    """
    target = root / entry.origin
    if os.path.lexists(target):
        raise UsageError(f"{target} is there by now, so {entry.path} stays there", hint=f"remove or rename {target}")
    target.parent.mkdir(exist_ok=True)
    entry.path.rename(target)
    entry.record.unlink(missing_ok=True)
    return target


def find_trashed(root: Path, origin: str) -> Trashed:
    """Return what was moved last from a place such as `segment/3f9a2c71d0e4`; UsageError where nothing was."""
    entries = [entry for entry in trashed(root) if not entry.path.name.startswith(REMOVING)]
    found = [entry for entry in entries if origin in (entry.origin, entry.path.name)]
    if not found:
        there = ", ".join(sorted({entry.origin for entry in entries})) or "nothing"
        raise UsageError(f"{origin} is not in {root / TRASH}", hint=f"there is: {there}")
    return found[-1]


def delete(entry: Trashed) -> None:
    """Delete a folder from the trash for good; OSError where a part of it cannot be deleted and stays."""
    path = entry.path
    if not path.name.startswith(REMOVING):
        path = path.rename(path.with_name(REMOVING + path.name))
    shutil.rmtree(path)
    entry.record.unlink(missing_ok=True)


def expired(entries: list[Trashed]) -> Iterator[Trashed]:
    """Yield what has been in the trash for so long that it may be deleted, and what was half deleted before."""
    for entry in entries:
        if entry.age_s >= KEPT_DAYS * DAY_S or entry.path.name.startswith(REMOVING):
            yield entry
