"""formats: the path of an image in, the name of its format and whether it is read out, or the cure where it is not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cellssl.errors import DataError

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF or BigTIFF, in either byte order."""
HEAD_BYTES = 16
ZARR_FILES = (".zattrs", ".zgroup", "zarr.json")
"""Files in the folder of a Zarr group, of version 2 and 3."""
READ = "TIFF, OME-TIFF, PNG, BMP, JPEG and OME-Zarr"
AS_OME_TIFF = (
    "export it as OME-TIFF: in Fiji with File > Import > Bio-Formats, then File > Save As > OME-TIFF; for many files "
    "with `bfconvert IN OUT.ome.tif` of Bio-Formats"
)
REMOTE = re.compile(r"(https?|s3|gs):/+", re.IGNORECASE)


@dataclass(frozen=True)
class ImageFormat:
    """A format that images come in."""

    name: str
    """Its name in words."""
    reader: str = ""
    """What reads it: "tiff", "pillow", "zarr" or "instrument"; "" where nothing does."""
    cure: str = AS_OME_TIFF
    """What to do with a file that is not read."""


OME_ZARR = ImageFormat("OME-Zarr", "zarr")
INSTRUMENTS = (
    (b"ZISRAWFILE", ImageFormat("Zeiss CZI", "instrument")),
    (b"\xda\xce\xbe\x0a", ImageFormat("Nikon ND2", "instrument")),
    (b"\0\0\0\x0cjP  \r\n\x87\n", ImageFormat("JPEG 2000, or Nikon ND2 of before 2010")),
    (b"\x70\0\0\0", ImageFormat("Leica LIF", "instrument")),
)
"""First bytes -> format of a microscope's own files."""
BY_HEAD = (
    *((head, ImageFormat("TIFF", "tiff")) for head in TIFF),
    (b"\x89PNG", ImageFormat("PNG", "pillow")),
    (b"BM", ImageFormat("BMP", "pillow")),
    (b"\xff\xd8", ImageFormat("JPEG", "pillow")),
    *INSTRUMENTS,
    (b"II\xbc", ImageFormat("JPEG XR")),
    (b"\xff\x4f\xff\x51", ImageFormat("JPEG 2000")),
    (b"\xff\x0a", ImageFormat("JPEG XL")),
    (b"GIF8", ImageFormat("GIF", cure="save it as TIFF or PNG, in grey")),
    (b"\x89HDF", ImageFormat("HDF5 (such as Imaris IMS, or h5 of ilastik)")),
    (b"\x93NUMPY", ImageFormat("NumPy array", cure="write one TIFF per field: tifffile.imwrite(NAME, array)")),
    (b"PK\x03\x04", ImageFormat("zip archive", cure="unpack it, and name the files or the OME-Zarr folder in it")),
    (b"\x1f\x8b", ImageFormat("gzip archive", cure="unpack it, and name the files in it")),
)
"""First bytes -> format, whatever the name of the file."""
BY_SUFFIX = {
    ".vsi": ImageFormat("Olympus or Evident VSI"),
    ".ets": ImageFormat("Olympus or Evident ETS"),
    ".oib": ImageFormat("Olympus OIB"),
    ".oif": ImageFormat("Olympus OIF"),
    ".oir": ImageFormat("Olympus or Evident OIR"),
    ".zvi": ImageFormat("Zeiss ZVI"),
    ".c01": ImageFormat("Cellomics C01"),
    ".dib": ImageFormat("Cellomics DIB"),
    ".dv": ImageFormat("DeltaVision DV"),
    ".ims": ImageFormat("Imaris IMS"),
    ".xdce": ImageFormat("IN Cell XDCE", cure="name the TIFF files that it lists"),
    ".htd": ImageFormat("ImageXpress HTD", cure="name the TIFF files beside it: cellssl init FOLDER"),
    ".mlf": ImageFormat("CellVoyager MLF", cure="name the TIFF files that it lists: cellssl init FOLDER"),
    ".xml": ImageFormat("XML", cure="name the images that it lists: cellssl init FOLDER"),
    ".lifext": ImageFormat("Leica LIFEXT"),
    ".nd": ImageFormat("MetaMorph ND", cure="name the STK or TIFF files beside it"),
}
"""Suffix -> format, for files whose first bytes say too little, or that are a TIFF of another thing than the pixels."""
DECIDED_BY_SUFFIX = (".vsi",)
"""Suffixes that count more than the first bytes: a VSI file is a TIFF of thumbnails."""
EXPERIMENTAL = frozenset(form.name for _, form in INSTRUMENTS if form.reader)


def format_of(path: Path) -> ImageFormat:
    """Return the format of a file or folder that can be opened.

    Raises DataError, with the name of the format and its cure, where it is not read.
    """
    found = _zarr_format(path) if path.is_dir() else _file_format(path)
    if not found.reader:
        raise DataError(f"{path} is {_article(found.name)} file, which is not read; {found.cure}")
    return found


def _file_format(path: Path) -> ImageFormat:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    named = BY_SUFFIX.get(path.suffix.lower())
    if named is not None and path.suffix.lower() in DECIDED_BY_SUFFIX:
        return named
    found = next((form for magic, form in BY_HEAD if head.startswith(magic)), named)
    if found is None and {*ZARR_FILES, ".zarray"} & {one.name for one in (path, *_beside(path))}:
        found = ImageFormat("part of an OME-Zarr", cure=ZARR_CURE)
    if found is None:
        raise DataError(f"{path} is empty" if not head else f"{path} is not a {READ.replace(' and ', ' or ')} image")
    return found


ZARR_CURE = (
    'name the folder of the image group, the one whose .zattrs or zarr.json has "multiscales", such as plate.zarr/A/1/0'
)


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr group."""
    return any((path / name).is_file() for name in ZARR_FILES)


def _zarr_format(path: Path) -> ImageFormat:
    if is_zarr(path):
        return OME_ZARR
    if (path / ".zarray").is_file() or any(is_zarr(above) for above in path.parents):
        raise DataError(f"{path} is a part of an OME-Zarr, and no image group; {ZARR_CURE}")
    raise DataError(f"{path} is a folder, and no OME-Zarr image; name an image, or let `cellssl init {path}` find them")


def remote_fault(place: str) -> str:
    """Return why an OME-Zarr with an http or s3 address is not read, with the cure; "" for a path on this machine."""
    if not REMOTE.match(place):
        return ""
    return (
        f"{place} is an address, and an OME-Zarr is read from a disk only; copy it (aws s3 sync, rclone, wget -r), or "
        "mount it as a folder (s3fs, rclone mount), and name the folder"
    )


def inside_zarr(path: Path) -> bool:
    """Return whether a path leads into an OME-Zarr, by its name."""
    return any(part.lower().endswith(".zarr") for part in path.parts)


def _beside(path: Path) -> list[Path]:
    """Return the metadata of Zarr in the folders above a file that lies in one."""
    names = (*ZARR_FILES, ".zarray")
    above = [folder for folder in path.parents[:8] if inside_zarr(folder)]
    return [folder / name for folder in above for name in names if (folder / name).is_file()]


def experimental_formats(paths: list[Path]) -> list[str]:
    """Return the names of the formats among these files whose reader no file of an instrument has tested yet.

    One file of every suffix is looked at.
    """
    by_suffix = {path.suffix.lower(): path for path in paths}
    found = set()
    for path in by_suffix.values():
        if path.is_file():
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
            found |= {form.name for magic, form in INSTRUMENTS if form.reader and head.startswith(magic)}
    return sorted(found)


def experimental_note(name: str) -> str:
    """Return the sentence that warns of an experimental reader."""
    return f"reading {name} is experimental: compare a field with the viewer of your microscope"


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "AEIOX" else f"a {name}"
