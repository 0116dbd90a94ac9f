"""layout: what a folder of images holds: plates, fields, planes and their files, as every recogniser returns it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cellssl.letters import letters_of

WELL = re.compile(r"([A-Pa-p]|A[A-Fa-f])[-_ :]?0?([1-9]|[1-3]\d|4[0-8])(?!\d)")
"""A well of a plate of up to 32 x 48 wells: A1, a01, A-01, AF48."""
WORDS_OF_A_WELL = re.compile(r"row\W*([A-P]|A[A-F]|\d{1,2})\W*col(?:umn)?\W*(\d{1,2})(?!\d)", re.I)
"""A well in words: Row:A,Column:1."""
WELL_AS_A_WORD = re.compile(
    r"(?:(?<![A-Za-z0-9])(?:well[-_ :]*)?(?P<letters>[A-P]|A[A-F])"
    r"|(?:^|(?<=/)|well[-_ :]*)(?P<apart>[A-P]|A[A-F])[-_ :/])"
    r"(?P<number>0?[1-9]|[1-3]\d|4[0-8])(?!\d|[A-Za-z](?!\d))",
    re.I,
)
"""A well as a word of its own within a text; `Position 1` and `Stage1` name none."""
LETTERS_OF_OTHERS = frozenset("CFP")
"""Rows whose letters before a number mostly stand for a channel, a field, a plate or a position."""
MARKS_A_NUCLEUS = ("dapi", "hoechst", "h33342", "h33258", "dna", "draq", "nuclei", "nucleus", "nuclear", "h2b")
"""What the names of channels that show nuclei contain, the surest first."""


@dataclass(frozen=True)
class Plane:
    """One channel of one field at one z plane and one time point, or all planes of it where its file holds them."""

    file: str
    """The file, or the folder of an OME-Zarr image, relative to the folder that was given; "" where it is missing."""
    plate: str
    """Name of the plate."""
    well: str
    """Name of the well, such as B02."""
    site: int
    """Number of the field in its well."""
    channel: str
    """Name of the channel, as the microscope or the file names give it."""
    batch: str = ""
    """The measurement, where one plate was measured several times."""
    z: int = 0
    """Number of the z plane, where every plane is a file of its own."""
    t: int = 0
    """Number of the time point, where every time point is a file of its own."""
    in_file: int | None = None
    """Number of the channel in its file, from 0; None where the file holds one channel."""
    is_page: bool = False
    """Whether `in_file` is the number of a page of a TIFF that does not say what its pages are."""
    series: int = 0
    """Number of the image in its file, from 0."""

    @property
    def field(self) -> tuple[str, str, str, int]:
        """Return what distinguishes its field of view."""
        return self.plate, self.batch, self.well, self.site


@dataclass(frozen=True)
class Optics:
    """What an index or a header says of all images of one measurement; None where it does not say it."""

    pixel_um: float | None = None
    objective: str | None = None
    acquired: str | None = None


@dataclass
class Found:
    """What was recognised in one folder: one measurement of one plate, or all files that follow one pattern."""

    format: str
    """Name of the format in words."""
    planes: list[Plane]
    optics: Optics = Optics()
    doubts: list[str] = field(default_factory=list)
    """Sentences on what is missing or may be wrong."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> files that are no part of the fields."""
    held: tuple[int, int] = (1, 1)
    """Most z planes and time points that one file holds."""
    folder: str = ""
    """What the folder of a measurement, or the name of an OME-Zarr plate, calls the plate."""


def canonical_well(text: str) -> str:
    """Return the well as a letter and two digits (B02); text that names no well comes back as it is."""
    match = WELL.fullmatch(text.strip())
    return f"{match[1].upper()}{int(match[2]):02d}" if match else text.strip()


def well_in(text: str) -> str | None:
    """Return the only well that a text names as a word of its own; None where it names none, or several."""
    if match := WORDS_OF_A_WELL.search(text):
        row, column = match[1].upper(), int(match[2])
        return well_at(int(row), column) if row.isdigit() else canonical_well(f"{row}{column}")
    found = {}
    for match in WELL_AS_A_WORD.finditer(text):
        found[canonical_well((match["letters"] or match["apart"]) + match["number"])] = match["number"]
    surer = {well for well in found if well[0] not in LETTERS_OF_OTHERS} or set(found)
    padded = {well for well in surer if len(found[well]) > 1}
    one = surer if len(surer) == 1 else padded
    return one.pop() if len(one) == 1 else None


def wells_in(texts: Sequence[str]) -> list[str | None]:
    """Return the well that each text names; P1, P2 and P3 alone are positions, as F1 and C1 are fields and channels."""
    wells = [well_in(text) for text in texts]
    rows = {well[:-2] for well in wells if well}
    if len(rows) == 1 and rows <= LETTERS_OF_OTHERS and not any("well" in text.lower() for text in texts):
        return [None] * len(wells)
    return wells


def well_at(row: int, column: int) -> str:
    """Return the name of the well in a row and a column, both from 1; row 27 is AA."""
    return f"{letters_of(row)}{column:02d}"


def channel_key(name: str) -> str:
    """Return a name for a channel that a recipe and a file can have: `HOECHST 33342` becomes hoechst_33342."""
    key = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:60]
    return key or "channel"


def nucleus_channel(channels: Sequence[str]) -> tuple[str, bool]:
    """Return the channel that shows nuclei by its name, and whether the name says so; else the first channel."""
    for mark in MARKS_A_NUCLEUS:
        for channel in channels:
            if mark in channel.lower():
                return channel, True
    for channel in channels:
        if re.search(r"(?<!\d)(405|350|358|360|365|377|385|390)(?!\d)", channel):  # excitation of DAPI and Hoechst, nm
            return channel, True
    return channels[0], False
