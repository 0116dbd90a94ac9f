"""_archive: a zip file and the members that are wanted in -> their files, or the reason why a member cannot be had."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cellssl.datasets._place import beside


@dataclass(frozen=True)
class Taken:
    """What became of one member; `broken` ones may be whole in another copy of the archive."""

    member: str
    reason: str | None = None
    broken: bool = False


def take(archive: Path, wanted: Mapping[str, Path], scratch: Path) -> Iterator[Taken]:
    """Unpack exactly the members named in `wanted`, each into its own file, with its CRC checked.

    What else the archive holds is never unpacked, so no name in it can lead out of the folder.
    """
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, EOFError, ValueError) as error:
        reason = f"{archive.name} is not a whole archive: {error}"
        yield from (Taken(member, reason, broken=True) for member in wanted)
        return
    with opened:
        for member, target in wanted.items():
            yield _take(opened, member, target, scratch)


def _take(opened: zipfile.ZipFile, member: str, target: Path, scratch: Path) -> Taken:
    try:
        entry = opened.getinfo(member)
    except KeyError:
        return Taken(member, f"{member} is not in its archive")
    if entry.is_dir() or stat.S_ISLNK(entry.external_attr >> 16):
        return Taken(member, f"{member} is no file in the archive")
    try:
        with beside(target, scratch) as written, opened.open(entry) as packed, written.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        return Taken(member, f"{member} is broken in the archive: {error}", broken=True)
    return Taken(member)
