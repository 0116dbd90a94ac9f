"""image_folder: a folder with one folder of pictures per class in -> the pictures as crops, with their class."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field as Setting

from cellssl.config.paths import InputPath
from cellssl.config.settings import NOT_IN_FINGERPRINT
from cellssl.datasets.base import Field, Value
from cellssl.datasets.crops.class_images import ClassImageDataset, Picture, Pictures
from cellssl.disk import raise_fault
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Progress

if TYPE_CHECKING:
    from jaxtyping import UInt16

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
PARTS = ("train", "val", "test")
PLATE_MARK = re.compile(
    r".+\.(htd|mlf|mrf|mes)|index(\.idx)?\.xml|imageindex\.columbusidx\.xml|timepoint_\d+|\.zattrs|zarr\.json",
    re.IGNORECASE,
)
"""Files and folders of ImageXpress, CellVoyager, Harmony, Columbus and OME-Zarr plates."""


@dataclass(frozen=True)
class _File:
    path: Path
    picture: Picture


class Settings(ClassImageDataset):
    """Your own pictures, sorted into one folder per class: PNG, JPEG or TIFF, all grey or all RGB."""

    folder: InputPath = Setting(json_schema_extra=NOT_IN_FINGERPRINT)
    """Folder with one folder per class, which may hold further folders; its content counts, its path does not."""
    parts: bool = False
    """Whether the class folders lie in folders called train, val and test, which become the column `official_part`."""
    side_px: int | None = Setting(None, ge=8)
    """Side in pixels to which every picture is resized: its shorter side gets this length, the middle square is kept.
    If not given, all pictures must be squares of one size already."""

    def plate(self) -> str:
        """Return the name of the folder."""
        return self.folder.name or "pictures"

    def wells(self) -> Sequence[str]:
        """Return one well for every class of every part."""
        return sorted({file.picture.well for file in self._files()})

    def external_files(self) -> Mapping[str, Path]:
        """Return all pictures."""
        return {file.path.relative_to(self.folder).as_posix(): file.path for file in self._files()}

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """Return a hash of every picture's name, class, part and bytes, and the side."""
        rows = [
            [file.picture.name, file.picture.class_name, file.picture.part, sha256(file.path)] for file in self._files()
        ]
        return {"side_px": self.side_px, "pictures": hashlib.sha256(json.dumps(rows).encode()).hexdigest()}

    def load_pictures(self, scratch: Path) -> Generator[Event, None, Pictures]:
        """Return the pictures; all must have the channels, the depth and the size of the first one.

        Raises DataError where one cannot be read or differs from the first.
        """
        files = self._files()
        yield Progress(0, len(files), "crops")
        first = _read(files[0].path)
        side = self.side_px or first.shape[2]
        if self.side_px is None and first.shape[1] != first.shape[2]:
            raise DataError(
                f"{files[0].path} is {first.shape[1]} x {first.shape[2]} pixels, not a square",
                hint="set fetch.dataset.side_px: pictures are resized to it, and their middle square is kept",
            )
        channels = ("grey",) if len(first) == 1 else ("red", "green", "blue")
        shape = (len(first), side, side)

        def read(some: slice) -> np.ndarray:
            return np.stack([self._read_alike(file.path, shape, first.dtype) for file in files[some]])

        return Pictures([file.picture for file in files], channels, shape, int(np.iinfo(first.dtype).max), read)

    def _read_alike(self, path: Path, shape: tuple[int, int, int], dtype: np.dtype) -> np.ndarray:
        """Return one picture (c, y, x); DataError where it does not have the shape and type of the first one."""
        pixels = _read(path)
        if len(pixels) != shape[0] or pixels.dtype != dtype:
            raise DataError(
                f"{path} is {_kind(len(pixels), pixels.dtype)}, and the first picture is {_kind(shape[0], dtype)}",
                hint="save all pictures with the same channels and bits",
            )
        if self.side_px is not None:
            return _square(pixels, self.side_px)
        if pixels.shape != shape:
            raise DataError(
                f"{path} is {pixels.shape[1]} x {pixels.shape[2]} pixels, and the first picture is "
                f"{shape[1]} x {shape[2]}",
                hint="set fetch.dataset.side_px: pictures are resized to it, and their middle square is kept",
            )
        return pixels

    def _files(self) -> list[_File]:
        return _list_files(self.folder, self.parts, *_modification_times(self.folder, self.parts))


def _modification_times(folder: Path, parts: bool) -> tuple[int, ...]:
    """Return when the folder and its class folders were last changed (ns); a listing is valid until they change."""
    return tuple(path.stat().st_mtime_ns for path in (folder, *_class_folders(folder, parts)))


def _class_folders(folder: Path, parts: bool) -> list[Path]:
    """Return the folders of the classes.

    Raises UsageError where the folder is not there, or where it has no train and test folders though `parts` is set.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", hint="correct fetch.dataset.folder")
    if mark := _mark_of_a_plate(folder):
        raise UsageError(
            f"{folder} is a plate as a microscope wrote it ({mark}), and no folder of classes",
            hint=f"cellssl init {shlex.quote(str(folder))} writes a table and a recipe for it",
        )
    above = [folder / part for part in PARTS if (folder / part).is_dir()] if parts else [folder]
    if parts and [path.name for path in above][:1] + [path.name for path in above][-1:] != ["train", "test"]:
        raise UsageError(
            f"{folder} has no folders train and test",
            hint="leave fetch.dataset.parts out, or put the class folders into train and test",
        )
    return [path for top in above for path in sorted(top.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def _mark_of_a_plate(folder: Path) -> str:
    """Return the file or folder that only plates of microscopes have; "" where there is none."""
    inside = [one for one in folder.iterdir() if PLATE_MARK.fullmatch(one.name)]
    below = (one for image_folder in folder.glob("[Ii]mages") for one in image_folder.iterdir())
    return next((one.name for one in [*sorted(inside), *below] if PLATE_MARK.fullmatch(one.name)), "")


@lru_cache(maxsize=1)
def _list_files(folder: Path, parts: bool, *changed_ns: int) -> list[_File]:
    """Return all pictures; DataError where a class has none, UsageError where there is no class."""
    files = []
    for class_folder in _class_folders(folder, parts):
        part = class_folder.parent.name if parts else None
        found = (path for path in class_folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        pictures = sorted(path for path in found if not path.name.startswith("."))  # such as the ._x.png of a Mac
        if not pictures:
            raise DataError(f"{class_folder} holds no picture", hint="put PNG, JPEG or TIFF files there, or remove it")
        name = class_folder.name
        well = f"{part}-{name}" if part else name
        files += [_File(path, Picture(path.relative_to(folder).as_posix(), name, well, part)) for path in pictures]
    if not files:
        raise UsageError(f"{folder} holds no folders", hint="sort the pictures into one folder per class")
    return files


def _read(path: Path) -> np.ndarray:
    """Return a picture as (c, y, x) of uint8 or uint16, with 1 or 3 channels.

    Raises DataError where it cannot be decoded, or is another kind of picture; FailedError where it cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = _with_tifffile(path) if path.suffix.lower().startswith(".tif") else _with_pillow(path)
    except Exception as error:  # decoders raise anything, from SyntaxError to ZeroDivisionError
        raise_fault(error, path)
        raise DataError(
            f"{path} cannot be read as a picture: {str(error).partition(chr(10))[0] or type(error).__name__}",
            hint="repair it, or remove it from the folder",
        ) from error
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{path} has the shape {pixels.shape} and the type {pixels.dtype}; grey or RGB of 8 or 16 bits is needed",
            hint="save it without palette, transparency or further pages",
        )
    return np.moveaxis(pixels, 2, 0)


def _with_tifffile(path: Path) -> np.ndarray:
    import tifffile

    pixels: np.ndarray = tifffile.imread(path)
    return pixels


def _with_pillow(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        if image.mode not in ("L", "RGB", "I", "I;16", "I;16B"):
            raise ValueError(f"Pillow reads it as {image.mode}; grey or RGB is needed")
        pixels = np.asarray(image)
        return pixels.astype(np.uint16) if image.mode.startswith("I") else pixels


def _square(pixels: np.ndarray, side_px: int) -> UInt16[np.ndarray, "c y x"]:
    """Resize a picture to the shorter side `side_px`, area-filtered where it shrinks; return its middle square."""
    from PIL import Image

    _, height, width = pixels.shape
    factor = side_px / min(height, width)
    size = (max(side_px, round(width * factor)), max(side_px, round(height * factor)))
    floats = [Image.fromarray(channel.astype(np.float32)).resize(size, Image.Resampling.BILINEAR) for channel in pixels]
    left, top = (size[0] - side_px) // 2, (size[1] - side_px) // 2
    return np.rint([np.asarray(one)[top : top + side_px, left : left + side_px] for one in floats]).astype(np.uint16)


def _kind(channels: int, dtype: np.dtype) -> str:
    return f"{'grey' if channels == 1 else 'RGB'} of {8 * dtype.itemsize} bits"
