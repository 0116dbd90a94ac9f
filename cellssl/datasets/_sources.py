"""_sources: an address or a folder, and what is wanted of it in -> tables as bytes, images as files."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from cellssl.datasets._archive import Taken, take
from cellssl.datasets._download import Patience, download
from cellssl.datasets._place import copy
from cellssl.errors import DataError, UsageError
from cellssl.events import Progress

Images = Mapping[str, Path]
"""Where each member of an archive, PLATE/FILE, is to lie."""


def table_from(source: str | Path, name: str, cache: Path) -> bytes:
    """The bytes of a table.

    Raises UsageError where a folder has no such table, NetworkError where a server does not give it.
    """
    if isinstance(source, Path):
        if not (source / name).is_file():
            raise UsageError(f"{source} holds no {name}", hint="put the official tables beside the images or archives")
        return (source / name).read_bytes()
    arrived = cache / f"{name}.{secrets.token_hex(4)}"  # its own name, for several processes may want it at once
    try:
        for _ in download(_address(source, name), arrived, Patience()):
            pass
        return arrived.read_bytes()
    finally:
        for left in cache.glob(f"{arrived.name}*"):
            left.unlink()


def images_from(
    source: str | Path, archive: str, batch: str, wanted: Images, scratch: Path
) -> Iterator[Progress | Taken]:
    """Every wanted image of one plate, with the reason where it cannot be had."""
    if isinstance(source, Path):
        yield from _from_folder(source, archive, batch, wanted, scratch)
    else:
        yield from _from_web(_address(source, archive), scratch / archive, wanted, scratch)


def _from_folder(root: Path, archive: str, batch: str, wanted: Images, scratch: Path) -> Iterator[Taken]:
    """Unpacked images first; the archive for the others."""
    unpacked = {member: _unpacked(root, archive, batch, member) for member in wanted}
    if not (root / archive).is_file() and not any(unpacked.values()):
        raise DataError(
            f"{root} holds neither {archive} nor its images, such as {next(iter(wanted))}",
            hint="put the archive there, or unpack it there",
        )
    for member, path in unpacked.items():
        if path is not None:
            copy(path, wanted[member], scratch)
            yield Taken(member)
    packed = {member: wanted[member] for member, path in unpacked.items() if path is None}
    if (root / archive).is_file():
        yield from take(root / archive, packed, scratch)
    else:
        yield from (Taken(member, f"{member} is not in the source folder") for member in packed)


def _unpacked(root: Path, archive: str, batch: str, member: str) -> Path | None:
    """The file, in the folders that the table names, or as unzip leaves them."""
    places = (root / batch / member, root / member, root / archive.removesuffix(".zip") / member)
    return next((place for place in places if place.is_file()), None)


def _from_web(url: str, archive: Path, wanted: Images, scratch: Path) -> Iterator[Progress | Taken]:
    """The whole archive, which is removed again; what is broken in it is fetched once more before it is given up."""
    broken: dict[str, Path] = {}
    for one in _taken_from_web(url, archive, wanted, scratch):
        if isinstance(one, Taken) and one.broken:
            broken[one.member] = wanted[one.member]
        else:
            yield one
    if broken:
        yield from _taken_from_web(url, archive, broken, scratch)


def _taken_from_web(url: str, archive: Path, wanted: Images, scratch: Path) -> Iterator[Progress | Taken]:
    if not archive.is_file():
        yield from download(url, archive, Patience())
    yield from take(archive, wanted, scratch)
    archive.unlink()


def _address(base: str, name: str) -> str:
    return f"{base.rstrip('/')}/{name}"
