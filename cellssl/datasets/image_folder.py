"""image_folder: a folder of folders of pictures, one for each class, in -> the pictures as crops, with their class."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field as Knob

from cellssl.config.paths import InputPath
from cellssl.config.settings import NOT_IN_FINGERPRINT
from cellssl.datasets.base import Field, Value
from cellssl.datasets.crops.class_images import Picture, Pictures, PictureSettings
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Progress

if TYPE_CHECKING:
    from jaxtyping import UInt16

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class _File:
    path: Path
    picture: Picture


class Settings(PictureSettings):
    """Pictures of your own that are sorted into a folder for each class: PNG, JPEG or TIFF, all grey or all RGB."""

    folder: InputPath = Knob(json_schema_extra=NOT_IN_FINGERPRINT)
    """The folder that holds a folder for each class, which may hold folders; its content counts, its place does not."""
    parts: bool = False
    """Whether the folders of the classes lie in folders called train, val and test, which become `official_part`."""
    side_px: int | None = Knob(None, ge=8)
    """Side of the square that every picture is made: its shorter side is brought to so many pixels, and the middle is
    kept. Where nothing is given, all must be squares of one size already."""

    def plate(self) -> str:
        """The folder's own name."""
        return self.folder.name or "pictures"

    def wells(self) -> Sequence[str]:
        """A well for every class of every part."""
        return sorted({file.picture.well for file in self._files()})

    def external_files(self) -> Mapping[str, Path]:
        """All the pictures."""
        return {file.path.relative_to(self.folder).as_posix(): file.path for file in self._files()}

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """Every picture's name, class, part and bytes, and their side."""
        rows = [
            [file.picture.name, file.picture.classed, file.picture.part, sha256(file.path)] for file in self._files()
        ]
        return {"side_px": self.side_px, "pictures": hashlib.sha256(json.dumps(rows).encode()).hexdigest()}

    def arrive(self, scratch: Path) -> Generator[Event, None, Pictures]:
        """They are here; the first one says what all must be alike in."""
        files = self._files()
        yield Progress(0, len(files), "crops")
        first = _read(files[0].path)
        side = self.side_px or first.shape[2]
        if self.side_px is None and first.shape[1] != first.shape[2]:
            raise DataError(
                f"{files[0].path} is {first.shape[1]} x {first.shape[2]} pixels, no square",
                hint="set fetch.dataset.side_px: pictures are brought to that size and their middle is kept",
            )
        channels = ("grey",) if len(first) == 1 else ("red", "green", "blue")
        shape = (len(first), side, side)

        def read(some: slice) -> np.ndarray:
            return np.stack([self._alike(file.path, shape, first.dtype) for file in files[some]])

        return Pictures([file.picture for file in files], channels, shape, int(np.iinfo(first.dtype).max), read)

    def _alike(self, path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> np.ndarray:
        """One picture, with the shape (c, y, x) and depth that all have."""
        pixels = _read(path)
        if len(pixels) != shape[0] or pixels.dtype != dtype:
            raise DataError(
                f"{path} is {_kind(len(pixels), pixels.dtype)}, and the first picture is {_kind(shape[0], dtype)}",
                hint="save all pictures alike",
            )
        if self.side_px is not None:
            return _square(pixels, self.side_px)
        if pixels.shape != shape:
            raise DataError(
                f"{path} is {pixels.shape[1]} x {pixels.shape[2]} pixels, and the first picture is "
                f"{shape[1]} x {shape[2]}",
                hint="set fetch.dataset.side_px: pictures are brought to that size and their middle is kept",
            )
        return pixels

    def _files(self) -> list[_File]:
        return _listed(self.folder, self.parts, *_changed(self.folder, self.parts))


def _changed(folder: Path, parts: bool) -> tuple[int, ...]:
    """When the folder and those of its classes were last changed; a listing holds until then."""
    return tuple(path.stat().st_mtime_ns for path in (folder, *_class_folders(folder, parts)))


def _class_folders(folder: Path, parts: bool) -> list[Path]:
    """The folders that bear a class's name.

    Raises UsageError where there are none, or where parts are asked for and not there.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", hint="correct fetch.dataset.folder")
    above = [folder / part for part in PARTS if (folder / part).is_dir()] if parts else [folder]
    if parts and [path.name for path in above][:1] + [path.name for path in above][-1:] != ["train", "test"]:
        raise UsageError(
            f"{folder} has no folders train and test", hint="leave fetch.dataset.parts out, or sort them so"
        )
    return [path for top in above for path in sorted(top.iterdir()) if path.is_dir() and not path.name.startswith(".")]


@lru_cache(maxsize=1)
def _listed(folder: Path, parts: bool, *changed_ns: int) -> list[_File]:
    files = []
    for classed in _class_folders(folder, parts):
        part = classed.parent.name if parts else None
        found = (path for path in classed.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        pictures = sorted(path for path in found if not path.name.startswith("."))  # such as the ._x.png of a Mac
        if not pictures:
            raise DataError(f"{classed} holds no picture", hint="put PNG, JPEG or TIFF files there, or remove it")
        well = f"{part}-{classed.name}" if part else classed.name
        files += [
            _File(path, Picture(path.relative_to(folder).as_posix(), classed.name, well, part)) for path in pictures
        ]
    if not files:
        raise UsageError(f"{folder} holds no folders", hint="sort the pictures into a folder for each class")
    return files


def _read(path: Path) -> np.ndarray:
    """(c, y, x) of 8 or 16 bits, c being 1 or 3.

    Raises DataError where it cannot be read, or is another kind of picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = _by_tifffile(path) if path.suffix.lower().startswith(".tif") else _by_pillow(path)
    except Exception as error:  # decoders run into anything, from SyntaxError to ZeroDivisionError
        raise DataError(
            f"{path} cannot be read as a picture: {str(error).partition(chr(10))[0] or type(error).__name__}",
            hint="mend it, or take it out of the folder",
        ) from error
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{path} has the shape {pixels.shape} and the type {pixels.dtype}; grey or RGB of 8 or 16 bits is needed",
            hint="save it without palette, transparency and further pages",
        )
    return np.moveaxis(pixels, 2, 0)


def _by_tifffile(path: Path) -> np.ndarray:
    import tifffile

    pixels: np.ndarray = tifffile.imread(path)
    return pixels


def _by_pillow(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        if image.mode not in ("L", "RGB", "I", "I;16", "I;16B"):
            raise ValueError(f"Pillow calls it {image.mode}; grey or RGB is needed")
        pixels = np.asarray(image)
        return pixels.astype(np.uint16) if image.mode.startswith("I") else pixels


def _square(pixels: np.ndarray, side_px: int) -> UInt16[np.ndarray, "c y x"]:
    """The middle of a picture whose shorter side is brought to `side_px`, area-filtered where it shrinks."""
    from PIL import Image

    _, height, width = pixels.shape
    factor = side_px / min(height, width)
    size = (max(side_px, round(width * factor)), max(side_px, round(height * factor)))
    floats = [Image.fromarray(channel.astype(np.float32)).resize(size, Image.Resampling.BILINEAR) for channel in pixels]
    left, top = (size[0] - side_px) // 2, (size[1] - side_px) // 2
    return np.rint([np.asarray(one)[top : top + side_px, left : left + side_px] for one in floats]).astype(np.uint16)


def _kind(channels: int, dtype: np.dtype[Any]) -> str:
    return f"{'grey' if channels == 1 else 'RGB'} of {8 * dtype.itemsize} bits"
