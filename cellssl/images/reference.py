"""reference: which planes of which files are the image of one channel in; its text in a field table out."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

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
    series: int = 0
    """Number of the image in its file, from 0: a scene, a position or a series."""
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

    def within(self, folder: Path) -> ImageReference:
        """Return the reference with relative files joined to `folder`; absolute files stay."""
        return replace(self, files=tuple(str(folder / file) for file in self.files))


def parse_reference(text: str) -> ImageReference:
    """Return the reference that a cell of a field table holds.

    Raises ValueError where the cell begins like JSON and is no reference.
    """
    if not text.startswith("{"):
        return ImageReference((text,))
    given = json.loads(text)
    names = {one.name for one in fields(ImageReference)}
    if not isinstance(given, dict) or not given.get("files") or set(given) - names:
        raise ValueError(f"{text!r} is not the reference of an image")
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return ImageReference(**values)
