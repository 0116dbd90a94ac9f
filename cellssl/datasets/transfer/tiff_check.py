"""tiff_check: a file in -> how many of the bytes are missing that its own head speaks of."""

from __future__ import annotations

from pathlib import Path

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def missing_bytes(path: Path) -> int:
    """How far the pixels that a TIFF's directory names reach beyond its end; 0 for whole ones and for other files.

    An empty file lacks a byte at least.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        is_tiff = file.read(4) in MAGIC
    if not is_tiff:
        return 0 if size else 1
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0]
            pairs = zip(page.dataoffsets, page.databytecounts, strict=True)
            return max(0, max((offset + count for offset, count in pairs), default=0) - size)
    except (tifffile.TiffFileError, ValueError, IndexError, OSError, KeyError, TypeError):
        return 1  # the directory itself, at the end of many files, is not there
