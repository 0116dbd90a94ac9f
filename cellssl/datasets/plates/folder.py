"""folder: a folder as a microscope or a person left it in, the files in it by path and size out."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from cellssl.disk import raise_fault
from cellssl.errors import DataError, UsageError

MOST_ENTRIES = 3_000_000
"""Files in the largest folder that is listed; a plate of 1,536 wells with 9 sites and 6 channels has 83,000."""
DEEPEST = 40
"""Folders below each other in the deepest folder that is listed."""
GREY = (".tif", ".tiff", ".stk", ".png", ".bmp")
"""Endings of files that hold images in most of the layouts."""
CONTAINERS = (".czi", ".nd2", ".lif")
"""Endings of files of microscopes that hold many images."""
LOSSY = (".jpg", ".jpeg")
UNREADABLE = {
    ".vsi": "Olympus VSI",
    ".oib": "Olympus OIB",
    ".oif": "Olympus OIF",
    ".oir": "Olympus OIR",
    ".c01": "Cellomics C01",
    ".dib": "Cellomics DIB",
    ".lsm": "Zeiss LSM",
    ".zvi": "Zeiss ZVI",
    ".ims": "Imaris",
    ".flex": "Opera Flex",
    ".dv": "DeltaVision",
    ".xdce": "IN Cell index",
    ".jp2": "JPEG 2000",
    ".jxr": "JPEG XR",
    ".scn": "Leica SCN",
    ".nd": "MetaMorph index",
}
"""Endings of image files that are not read, and the names of their formats."""
ZARR_MARKS = ("zarr.json", ".zattrs", ".zgroup")
END = r"(?![a-z0-9])"
"""Behind a word: `proj12` is a name, `proj_12` is a projection."""
LEFT_OUT = (
    ("copies that a file manager made", re.compile(r"( \(\d\)| - (Copy|Kopie|Copie)( \(\d+\))?)$", re.I)),
    ("thumbnails", re.compile(r"(?<![a-z])thumb(nail)?s?(?![a-z])", re.I)),
    (
        "flat-field and other correction images",
        re.compile(
            rf"flat[-_ ]?field|^(DC|SC|BFC|FFC)_|(?<![a-z])(ffc|illum\w*|shading|dark[-_ ]?(frame|field|current)|"
            rf"background){END}",
            re.I,
        ),
    ),
    (
        "masks, overlays and other derived files",
        re.compile(
            rf"(?<![a-z])(masks?|overlays?|outlines?|segmentations?|segmented|seg|labels|cp_masks|flows|probabilit\w*|"
            rf"contours?){END}|(?<![a-z])(label|objects)$",
            re.I,
        ),
    ),
    (
        "stitched images and composites",
        re.compile(
            rf"(?<![a-z])(stitch\w*|montages?|mosaics?|composites?|overviews?|previews?|merged?|rgb){END}", re.I
        ),
    ),
    (
        "projections",
        re.compile(rf"^(MAX|AVG|SUM|STD|MIN|MED)_|(?i:(?<![a-z])(proj|projections?|maxproj|mip|maxip|edf){END})"),
    ),
)
"""Reason to leave a file out -> what its name contains, or all of the name of a folder around it."""
REST_OF_A_FOLDER = re.compile(
    r"[\W_\d]*((images?|files?|corrections?|functions?|results?|outputs?|max)[\W_\d]*)*", re.I
)
"""What else the name of such a folder may contain."""


@dataclass
class Listing:
    """The files of a folder, whatever lies below it; paths are relative to `root`, with slashes."""

    root: Path
    sizes: dict[str, int] = field(default_factory=dict)
    """File -> bytes, for images and tables that can be part of a plate."""
    zarrs: list[str] = field(default_factory=list)
    """Folders that are OME-Zarr groups; what lies in them is not listed."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> files."""
    doubts: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    """Ending -> number of files that are no images."""

    def leave_out(self, reason: str, files: list[str]) -> None:
        """Move files out of the listing, with the reason."""
        for file in files:
            self.sizes.pop(file, None)
        if files:
            self.left_out.setdefault(reason, []).extend(files)

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """Return name -> files of that name, wherever they lie; upper and lower case are one."""
        names: dict[str, list[str]] = {}
        for file in self.sizes:
            names.setdefault(PurePosixPath(file).name.casefold(), []).append(file)
        return names

    def images(self) -> list[str]:
        """Return the image files, sorted."""
        return sorted(file for file in self.sizes if is_image(file))

    def named(self, *endings: str) -> list[str]:
        """Return the files whose names end so, whatever their case, sorted."""
        return sorted(file for file in self.sizes if file.lower().endswith(endings))


def is_image(file: str) -> bool:
    """Return whether the name of a file is that of an image."""
    return file.lower().endswith((*GREY, *CONTAINERS, *LOSSY))


def list_folder(root: Path) -> Listing:
    """Return what lies in a folder and below it.

    Links are followed, each folder once. Raises UsageError where it is no folder, DataError where it cannot be read or
    holds more than MOST_ENTRIES files.
    """
    if re.match(r"(https?|s3|gs|ftp):/", str(root)):
        raise UsageError(f"{root} is an address, and plates are read from this machine", hint="copy or mount the plate")
    if not root.exists():
        raise UsageError(f"there is no folder {root}", hint="give the folder that the microscope wrote")
    if not root.is_dir():
        raise UsageError(f"{root} is a file", hint=f"give the folder around it: cellssl init {root.parent}")
    listing = Listing(root)
    _walk(listing)
    return listing


def _walk(listing: Listing) -> None:
    """Fill the listing; folders that may not be read are named among the doubts."""
    waiting, seen, count = [("", 0)], set[tuple[int, int]](), 0
    while waiting:
        place, depth = waiting.pop()
        folder = listing.root / place
        try:
            state = folder.stat()
            entries = list(os.scandir(folder))
        except OSError as error:
            raise_fault(error, folder)
            if not place:
                raise DataError(
                    f"{folder} cannot be read: {error.strerror}", hint="ask its owner for the right to read it"
                ) from error
            listing.doubts.append(f"{place} cannot be read ({error.strerror}), so its files are not counted")
            continue
        if (state.st_dev, state.st_ino) in seen:
            continue
        seen.add((state.st_dev, state.st_ino))
        count += len(entries)
        if count > MOST_ENTRIES:
            raise DataError(
                f"{listing.root} holds more than {MOST_ENTRIES:,} files", hint="give the folder of one plate"
            )
        if any(entry.name in ZARR_MARKS for entry in entries):
            listing.zarrs.append(place)
            continue
        for entry in entries:
            below = f"{place}/{entry.name}" if place else entry.name
            _enter(listing, entry, below, depth, waiting)


def _enter(listing: Listing, entry: os.DirEntry[str], below: str, depth: int, waiting: list[tuple[str, int]]) -> None:
    """Note one entry of a folder."""
    try:
        if entry.is_dir():
            if not entry.name.startswith(".") and depth < DEEPEST:
                waiting.append((below, depth + 1))
            return
        if not entry.is_file():  # a pipe, or a link to nothing
            if is_image(below):
                listing.left_out.setdefault("links to files that are not there, and devices", []).append(below)
            return
        size = entry.stat().st_size
    except OSError as error:
        raise_fault(error, listing.root / below)
        listing.left_out.setdefault("files that cannot be read", []).append(below)
        return
    reason = _no_field(entry.name, below, size)
    if reason:
        listing.left_out.setdefault(reason, []).append(below)
    elif entry.name.startswith("."):
        listing.others["hidden"] += 1
    else:
        listing.sizes[below] = size


def _no_field(name: str, below: str, size: int) -> str:
    """Return why an image can be no field by its name and size, or ""."""
    if not is_image(name):
        return ""
    if name.startswith("._"):
        return "hidden files of macOS"
    if name.startswith("."):
        return "hidden files"
    if size == 0:
        return "empty files (0 bytes)"
    if "\\" in below or any(character in below for character in "\n\r\t\0"):
        return "files whose names hold a backslash, a tab or a line end, which a table cannot name"
    return ""


def sort_out(listing: Listing, *, not_all: bool) -> None:
    """Leave out files that other images are made into or from, by their names.

    With `not_all`, what would be all images that there are is taken, with a doubt.
    """
    for reason, pattern in LEFT_OUT:
        images = listing.images()
        named = [file for file in images if _says(pattern, file)]
        if not_all and named and len(named) == len(images):
            listing.doubts.append(f"all {len(images)} images look like {reason} by their names; they are taken")
        else:
            listing.leave_out(reason, named)
    lossy = [file for file in listing.sizes if file.lower().endswith(LOSSY)]
    if lossy and (len(lossy) < len(listing.images()) or not not_all):
        listing.leave_out("JPEG images beside others", lossy)
    listing.doubts += _unread(listing)


def _says(pattern: re.Pattern[str], file: str) -> bool:
    """Return whether the name of a file contains the words, or that of a folder around it is nothing else."""
    *folders, name = file.rpartition(".")[0].split("/")
    if pattern.search(name):
        return True
    matches = (pattern.search(folder) for folder in folders)
    return any(
        REST_OF_A_FOLDER.fullmatch(folder[: match.start()] + folder[match.end() :])
        for folder, match in zip(folders, matches, strict=True)
        if match
    )


def _unread(listing: Listing) -> list[str]:
    """Name the formats in the folder that are not read."""
    counts = Counter(
        UNREADABLE[ending]
        for file in listing.sizes
        if (ending := PurePosixPath(file).suffix.lower()) in UNREADABLE and ending not in (".nd", ".xdce")
    )
    return [
        f"{number:,} files are {name}, which is not read: export them as OME-TIFF or OME-Zarr"
        for name, number in counts.most_common()
    ]
