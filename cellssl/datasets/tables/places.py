"""places: the cells of a table that name an image in -> its address, or the absolute path of its file here, out."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cellssl.disk import raise_fault
from cellssl.errors import UsageError

UNTIDY = re.compile(r"//|/\.(/|$)|/$")
"""What `Path` tidies up; for other paths it is left out, because it is slow for tens of thousands of images."""
DRIVE = re.compile(r"[A-Za-z]:(/|$)")
"""How an absolute path of Windows begins, after its separators were turned."""


def is_address(place: str) -> bool:
    """Return whether an image is fetched from a server."""
    return "://" in place


class Places:
    """Turns what a table says of an image into its place on this machine; lists every folder once."""

    def __init__(self, root: Path, prefixes: Mapping[str, Path]) -> None:
        """Start relative paths from `root`; `prefixes` is the beginning of paths elsewhere -> the folder here."""
        self.root = root
        self.prefixes = sorted(
            ((_turned(there).rstrip("/"), str(here)) for there, here in prefixes.items()),
            key=lambda pair: -len(pair[0]),
        )
        self.listings: dict[str, _Listing] = {}
        self.found: dict[str, str] = {}
        """Places of the table whose files are written in another way -> the files that were found."""
        self.ambiguous: dict[str, tuple[str, ...]] = {}
        """Places of the table that differ from several files in case only -> these files."""
        self.windows: dict[str, str] = {}
        """Paths of a Windows computer that no prefix maps -> where they stand in the table."""

    def place(self, parts: Sequence[str], where: str) -> str:
        """Join the cells of a row to an address, or to the absolute path of a file.

        A file whose name differs in case or in the form of its letters only is found, where there is one such file.
        Raises UsageError for addresses of other kinds.
        """
        first = urlsplit(parts[0]) if re.match(r"[A-Za-z][\w+.-]+:/", parts[0]) else None
        if first is not None and first.scheme == "file":
            parts = [_path_of_url(parts[0]), *parts[1:]]
        elif first is not None and "://" in parts[0]:
            if first.scheme not in ("http", "https", "s3") or not first.netloc:
                raise UsageError(
                    f"{where}: {parts[0]} is not an address that images can be fetched from",
                    hint="use http, https, s3 or file:///, or download the images and give their folder as root",
                )
            return "/".join(part.strip("/") for part in parts)
        text = self._mapped(_turned("/".join(parts)))
        if DRIVE.match(text) or (text.startswith("//") and not self._is_here(text)):
            self.windows.setdefault(text, where)
            return f"/{text}".replace("//", "/")
        place = text if text.startswith("/") else f"{self.root}/{text}"
        return self._as_written(str(Path(self.root, text)) if UNTIDY.search(place) else place)

    def unchanged(self) -> bool:
        """Return whether all folders that were listed are as they were."""
        return all(one.changed_ns == _changed_ns(one.folder or folder) for folder, one in self.listings.items())

    def _mapped(self, text: str) -> str:
        """Return the path with the longest prefix that fits replaced; Windows does not tell upper from lower case."""
        for there, here in self.prefixes:
            exact = text if not (DRIVE.match(there) or there.startswith("//")) else text.casefold()
            prefix = there if exact is text else there.casefold()
            if exact == prefix or exact.startswith(f"{prefix}/"):
                return here + text[len(there) :]
        return text

    def _is_here(self, text: str) -> bool:
        """Return whether a path that begins with two separators is one of this machine, and no share of a server."""
        return os.path.lexists(f"/{text.lstrip('/').split('/', 1)[0]}")

    def _as_written(self, place: str) -> str:
        """Return the place as the file system writes it, where that differs in case or form of letters only."""
        folder, _, name = place.rpartition("/")
        listing = self._listing(folder or "/")
        if listing is None or name in listing.names:
            return place
        candidates = listing.alike(name)
        if len(candidates) == 1:
            self.found[place] = f"{listing.folder}/{candidates[0]}"
            return self.found[place]
        if candidates:
            self.ambiguous[place] = tuple(f"{listing.folder}/{one}" for one in candidates)
        return place

    def _listing(self, folder: str) -> _Listing | None:
        """Return the names in a folder, which may itself be written in another way; None where there is no such one."""
        known = self.listings.get(folder)
        if known is not None:
            return known if known.folder else None
        listing = _list(folder)
        if listing is None and folder not in ("", "/"):
            above, _, name = folder.rpartition("/")
            parent = self._listing(above or "/")
            candidates = parent.alike(name) if parent is not None else []
            if len(candidates) == 1 and parent is not None and candidates[0] != name:
                listing = _list(f"{parent.folder.rstrip('/')}/{candidates[0]}")
        self.listings[folder] = listing or _Listing("", frozenset(), _changed_ns(folder))
        return listing


class _Listing:
    """The names in a folder, by themselves and by a form in which case and forms of letters make no difference."""

    def __init__(self, folder: str, names: frozenset[str], changed_ns: int) -> None:
        self.folder, self.names, self.changed_ns = folder, names, changed_ns
        self._alike: dict[str, list[str]] | None = None

    def alike(self, name: str) -> list[str]:
        """Return the names that differ from this one in case or form of letters only."""
        if self._alike is None:
            self._alike = {}
            for one in sorted(self.names):
                self._alike.setdefault(_folded(one), []).append(one)
        return self._alike.get(_folded(name), [])


def _list(folder: str) -> _Listing | None:
    changed_ns = _changed_ns(folder)
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a Path for every name is slow
        return _Listing(folder, frozenset(names), changed_ns)
    except (OSError, ValueError) as error:  # no folder, or one that may not be listed: the images are reported later
        raise_fault(error, Path(folder))
        return None


def _changed_ns(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except (OSError, ValueError) as error:
        raise_fault(error, Path(folder))
        return 0


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _turned(path: str) -> str:
    return path.replace("\\", "/")


def _path_of_url(url: str) -> str:
    """Return the path in `file:///D:/Screen`, `file:/data/a%20b` or `file://server/share` (`//server/share`)."""
    text = unquote(url.split(":", 1)[1])
    if text.startswith("///"):
        text = text[2:]
    elif text.startswith("//localhost/"):
        text = text[11:]
    return text[1:] if DRIVE.match(text[1:]) else text


def common_prefix(paths: Sequence[str]) -> str:
    """Return the folder that paths of another machine have in common, for the line of the recipe that maps it."""
    folders = [path.split("/")[:-1] for path in paths]
    shared = [level[0] for level in zip(*folders, strict=False) if len(set(level)) == 1]
    return "/".join(folders[0][: len(shared)] or folders[0])
