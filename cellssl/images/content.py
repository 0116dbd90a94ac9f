"""content: references in; the files that hold the images, why they cannot be opened, and what their bytes hash to, out.

An OME-Zarr image is a folder with a file per chunk: its metadata and its full-size array count, its reduced copies and
labels do not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from cellssl.bounded import read_json
from cellssl.disk import raise_fault
from cellssl.errors import DataError
from cellssl.images.formats import ZARR_FILES
from cellssl.images.opening import A_FOLDER, image_fault
from cellssl.images.reference import ImageReference, parse_reference
from cellssl.images.sources import source_fault

HashAll = Callable[[Iterable[Path]], Mapping[Path, str]]
"""Files -> the sha256 of each."""


def reference_fault(reference: ImageReference, folder: Path = Path()) -> str:
    """Return why a file of a reference cannot be opened, as a sentence; "" where all can.

    Relative files lie in `folder`. Raises FailedError where the file system could not tell.
    """
    for file in reference.files:
        if fault := source_fault(folder / file):
            return f"{file} {fault}"
    return ""


def is_composed(text: str, folder: Path = Path()) -> bool:
    """Return whether an image is more than one plain file: something chosen in a file, several files, or a folder."""
    return text.startswith("{") or (folder / text).is_dir()


def files_of(file: str) -> dict[str, Path]:
    """Return every file on disk that holds the pixels of one file of a reference, by its place in it.

    A file is its own; of an OME-Zarr image group, those of its metadata and of its full-size array. Raises DataError
    where the metadata cannot be read, FileNotFoundError and other OSErrors where the folder cannot.
    """
    path = Path(file)
    if not path.is_dir():
        return {"": path}
    metadata = {name: path / name for name in ZARR_FILES if (path / name).is_file()}
    array = _full_size_array(metadata)
    found = {str(one.relative_to(path)): one for one in _files_below(path if array is None else path / array)}
    return dict(sorted({**metadata, **found}.items()))


def held_files(texts: Iterable[str], folder: Path = Path()) -> dict[str, dict[str, Path]]:
    """Return `files_of` every file that these references name, by its name; those that cannot be opened are left out.

    Relative files lie in `folder`.
    """
    names = dict.fromkeys(
        file for text in texts for file in (parse_reference(text).files if text.startswith("{") else (text,))
    )
    found = {}
    for name in names:
        path = folder / name
        fault = image_fault(path)
        if not fault:
            found[name] = {"": path}
        elif fault.startswith(A_FOLDER) and not source_fault(path):
            found[name] = files_of(str(path))
    return found


def hashes_of(texts: Iterable[str], sha256_of_all: HashAll, folder: Path = Path()) -> dict[str, str]:
    """Return the hash of every reference whose files can be opened: of their bytes, and of what is chosen in them.

    The hash of one file without a choice is that of its bytes. `sha256_of_all` hashes many files at once, as
    `HashCache.sha256_of_all` does. Relative files lie in `folder`; the names of files and folders do not count.
    """
    texts = list(dict.fromkeys(texts))
    held = held_files(texts, folder)
    known = sha256_of_all(dict.fromkeys(path for files in held.values() for path in files.values()))
    found = ((text, combined_hash(text, held, known)) for text in texts)
    return {text: sha256 for text, sha256 in found if sha256 is not None}


def combined_hash(text: str, held: Mapping[str, Mapping[str, Path]], sha256_of: Mapping[Path, str]) -> str | None:
    """Return the hash of a reference from those of its files; None where one of them is not held."""
    if not text.startswith("{"):
        return _hash_of_file(held[text], sha256_of) if text in held else None
    reference = parse_reference(text)
    if not all(file in held for file in reference.files):
        return None
    files = [_hash_of_file(held[file], sha256_of) for file in reference.files]
    return _sha256({"files": files, **reference.choice()}) if not reference.is_plain else files[0]


def _hash_of_file(held: Mapping[str, Path], sha256_of: Mapping[Path, str]) -> str:
    if list(held) == [""]:
        return sha256_of[held[""]]
    return _sha256({place: sha256_of[path] for place, path in held.items()})


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def state_of(reference: ImageReference) -> str:
    """Return a text that differs after any file of the reference is edited, replaced or removed; reads no bytes."""
    states: list[list[Any]] = []
    for file in reference.files:
        for place, path in files_of(file).items():
            try:
                seen = path.stat()
            except OSError as error:
                raise_fault(error, path)
                states.append([place, "gone"])
            else:
                states.append([place, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino])
    return _sha256(states)


def _full_size_array(metadata: Mapping[str, Path]) -> str | None:
    """Return the place of the full-size array in an image group; None where the group does not name one."""
    for name in (".zattrs", "zarr.json"):
        if name not in metadata:
            continue
        try:
            given = read_json(metadata[name])
        except ValueError as error:
            raise DataError(f"{metadata[name]} is damaged: {error}") from error
        place = _first_dataset(given if name == ".zattrs" else _within(given, "attributes", "ome"))
        if place is not None and Path(place).is_absolute() is False and ".." not in Path(place).parts:
            return place
    return None


def _first_dataset(attributes: Any) -> str | None:
    scales = attributes.get("multiscales") if isinstance(attributes, dict) else None
    images = scales[0].get("datasets") if isinstance(scales, list) and scales and isinstance(scales[0], dict) else None
    first = images[0] if isinstance(images, list) and images else None
    place = first.get("path") if isinstance(first, dict) else None
    return place if isinstance(place, str) and place else None


def _within(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _files_below(folder: Path) -> list[Path]:
    """Return the files of a folder, without those that desktops leave there, such as .DS_Store."""
    found = (Path(above, name) for above, _, names in os.walk(folder) for name in names)
    return [path for path in found if not path.name.startswith(".") or path.name.startswith(".z")]
