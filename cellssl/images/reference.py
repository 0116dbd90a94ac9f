"""reference: which planes of which files are the image of one channel in; its text in a field table out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from cellssl.bounded import parse_json

PROJECTIONS = ("max", "mean", "focus")
"""Ways to make one plane of several z planes: the brightest value, the mean, or the plane in best focus."""


@dataclass(frozen=True)
class ImageReference:
    """The image of one channel of one field: one plane, or several z planes that are made one.

    In a field table, the reference of a file that holds one grey plane is the path of that file. Any other reference
    is a JSON object of the attributes that differ from their defaults.
    """

    files: tuple[str, ...]
    """The file; or one file per z plane, in the order of z. An OME-Zarr image is the folder of its image group."""
    series: int | None = None
    """Number of the image in its file, from 0: a scene, a position or a series; None where the file has one."""
    channel: int | str | None = None
    """Number of the channel in its file, from 0, or its name there; None where the file has one channel."""
    page: int | None = None
    """Number of the page in a TIFF whose pages have no meaning, from 0; excludes `channel`, `z` and `t`."""
    z: int | str | None = None
    """Number of the z plane, from 0, or one of PROJECTIONS; None where there is one plane."""
    t: int | None = None
    """Number of the time point in its file, from 0; None where there is one."""
    intensity_range: tuple[float, float] | None = None
    """Pixel values that become 0 and 65,535; None where the file holds whole numbers from 0 to 65,535."""

    @property
    def is_plain(self) -> bool:
        """Whether the image is the one grey plane of one file."""
        return len(self.files) == 1 and not self.choice()

    def choice(self) -> dict[str, Any]:
        """Return what is chosen in the files, by name, without the files: this counts in a fingerprint."""
        return {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.name != "files" and getattr(self, one.name) != one.default
        }

    def __str__(self) -> str:
        """Return its text in a field table."""
        if self.is_plain:
            return self.files[0]
        return json.dumps({"files": self.files, **self.choice()}, sort_keys=True, ensure_ascii=False)

    def named(self) -> str:
        """Return its name for people: the file, and what is chosen in it."""
        chosen = ", ".join(f"{name} {value}" for name, value in self.choice().items() if name != "intensity_range")
        return f"{self.files[0]}{f' ({chosen})' if chosen else ''}"

    def within(self, folder: Path) -> ImageReference:
        """Return the reference with relative files joined to `folder`; absolute files stay."""
        return replace(self, files=tuple(str(folder / file) for file in self.files))


def parse_reference(text: str) -> ImageReference:
    """Return the reference that a cell of a field table holds.

    Raises ValueError where the cell begins like JSON and is no reference.
    """
    if not text.startswith("{"):
        return ImageReference((text,))
    given = parse_json(text)
    assert isinstance(given, dict)
    if unknown := set(given) - {one.name for one in fields(ImageReference)}:
        raise ValueError(f"{text!r} is not the reference of an image: {sorted(unknown)[0]!r} is no part of one")
    if wrong := [name for name, fits in PARTS.items() if name in given and not fits(given[name])]:
        raise ValueError(f"{text!r} is not the reference of an image: {wrong[0]} is {given[wrong[0]]!r}")
    if not given.get("files"):
        raise ValueError(f"{text!r} is not the reference of an image: it names no file")
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return ImageReference(**values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_range(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 2 and all(type(one) in (int, float) for one in value)
    return numbers and value[0] < value[1]


PARTS: dict[str, Callable[[Any], bool]] = {
    "files": lambda value: isinstance(value, list) and all(isinstance(one, str) and one for one in value),
    "series": _is_number,
    "channel": lambda value: _is_number(value) or isinstance(value, str),
    "page": _is_number,
    "z": lambda value: _is_number(value) or value in PROJECTIONS,
    "t": _is_number,
    "intensity_range": _is_range,
}
"""Part of a reference -> whether a value may stand there: a field table may come from anyone."""
