"""headers: image files of a folder in, what their headers say out; each header is read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cellssl.datasets.plates.folder import CONTAINERS
from cellssl.datasets.plates.layout import WELL, canonical_well, wells_in
from cellssl.errors import DataError
from cellssl.images.header import ImageHeader, read_header

SAMPLED = 48
"""Headers that are read of files that are alike; `cellssl check` reads all."""


def spread(items: Sequence[str], number: int) -> list[str]:
    """Return at most so many items, evenly spread, the first and the last among them."""
    if len(items) <= number:
        return list(items)
    return [items[round(place * (len(items) - 1) / (number - 1))] for place in range(number)]


@dataclass(frozen=True)
class Kind:
    """What a file holds, as far as it matters for planes."""

    format: str = "image"
    channels: int = 1
    z_planes: int = 1
    time_points: int = 1
    series: int = 1
    pages: int = 1
    """Number of pages of which the file does not say what they are."""
    channel_names: tuple[str, ...] = ()
    series_wells: tuple[tuple[int, str], ...] = ()
    """Number of an image in its file -> the well that its name there says."""


@dataclass
class Headers:
    """Reads headers of the files of a folder, and remembers them."""

    root: Path
    faults: dict[str, str] = field(default_factory=dict)
    """File -> why its header cannot be read."""
    _read: dict[str, ImageHeader | None] = field(default_factory=dict)

    def of(self, file: str) -> ImageHeader | None:
        """Return the header of a file, or of an OME-Zarr image; None where it cannot be read."""
        if file not in self._read:
            try:
                self._read[file] = read_header(self.root / file)
            except DataError as error:
                self._read[file] = None
                self.faults[file] = error.message
        return self._read[file]

    def known(self) -> dict[str, ImageHeader]:
        """Return the headers that have been read, by file."""
        return {file: header for file, header in self._read.items() if header is not None}

    def kinds(self, files: Iterable[str]) -> dict[str, Kind]:
        """Return what each file holds: of a sample where all of it is alike, else of every file."""
        listed = list(files)
        sample = list(spread(listed, SAMPLED))
        kinds = {file: self._kind(file) for file in sample}
        if (
            len(kinds) < len(listed)
            and len(Counter(kinds.values())) == 1
            and not listed[0].lower().endswith(CONTAINERS)
        ):
            alike = next(iter(kinds.values()))
            return dict.fromkeys(listed, alike)
        return {file: kinds.get(file) or self._kind(file) for file in listed}

    def _kind(self, file: str) -> Kind:
        header = self.of(file)
        if header is None:
            return Kind()
        wells = _series_wells(self.root / file) if header.series > 1 else ()
        return Kind(
            header.format,
            header.channels,
            header.z_planes,
            header.time_points,
            header.series,
            _unnamed_pages(header),
            header.channel_names if header.channels == len(header.channel_names) else (),
            wells,
        )


def _unnamed_pages(header: ImageHeader) -> int:
    several = header.channels * header.z_planes * header.time_points > 1 or header.series > 1
    return 1 if several else header.pages


def _series_wells(path: Path) -> tuple[tuple[int, str], ...]:
    """Return the wells that the names of the images in a file say, by the number of the image."""
    from cellssl.datasets.plates.indexed import opened

    info, _, fault = opened(path)
    if fault:
        return ()
    said = [str(image.get("extra", {}).get("well") or "").replace("/", "") for image in info["images"]]
    named = wells_in([str(image.get("name") or "") for image in info["images"]])
    wells = [canonical_well(text) if WELL.fullmatch(text) else name for text, name in zip(said, named, strict=True)]
    return tuple((number, well) for number, well in enumerate(wells) if well)
