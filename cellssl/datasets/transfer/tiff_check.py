"""tiff_check: a file in -> how many bytes are missing at its end, by its own TIFF directory."""

from __future__ import annotations

from pathlib import Path

from cellssl.disk import raise_fault

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def missing_bytes(path: Path) -> int:
    """Return how many bytes of pixels lie beyond the end of a TIFF file; 0 for whole files and for other formats.

    An empty file lacks at least one byte. Raises FailedError where the file cannot be read.
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
    except (tifffile.TiffFileError, ValueError, IndexError, OSError, KeyError, TypeError) as error:
        raise_fault(error, path)
        return 1  # the directory, which many files have at their end, is missing
