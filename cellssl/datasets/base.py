"""base: the contract of every data set: its settings in, the plan of its fields and one plate's images out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from cellssl.config.settings import Plugin
from cellssl.events import Event

Value = str | int | float | None
"""What a cell of a table can hold."""
ControlType = Literal["negative", "positive", "treatment", "empty"]
"""What a well is: a negative control, a positive control, treated, or without cells."""


@dataclass(frozen=True)
class Field:
    """One field of view of one plate; for crops that are already cut, the field that they were cut from.

    Each attribute is a column of the field table, one row per field.
    """

    field_id: str
    """Name of the field, unique in the data set; files are named after it."""
    plate: str
    """Name of the plate."""
    well: str
    """Name of the well in the plate."""
    site: int
    """Number of the field in its well."""
    images: dict[str, str]
    """Channel -> file, or the text of an `ImageReference`. A relative path lies in the folder that `Dataset.make`
    writes to; an absolute path is an image of the user that stays where it is. Empty where the data set gives crops and
    no images of fields."""
    batch: str | None = None
    """Plates that were made together, such as a week; None where unknown."""
    compound: str | None = None
    """Name of the compound; None where unknown."""
    dose_micromolar: float | None = None
    """0 for controls; None where unknown."""
    moa: str | None = None
    """Mechanism of action; None where unknown."""
    pixel_um: float | None = None
    """Side of a pixel in micrometres; None where unknown."""
    extra: dict[str, Value] = field(default_factory=dict)
    """Further columns of the field table."""
    control_type: ControlType | None = None
    """What the user's table says of the well; None where it says nothing."""

    def row(self) -> dict[str, Any]:
        """Return the attributes as they count in the fingerprint of a plate; no control_type where none is known."""
        values = asdict(self)
        if self.control_type is None:
            del values["control_type"]
        return values


@dataclass(frozen=True)
class Remark:
    """One sentence on the user's tables: how they were read, or what in them does not fit together."""

    kind: Literal["note", "warning"]
    """A note says how something was read; a warning names what may be wrong."""
    topic: str
    """What it is about: plates, wells, fields, compounds, controls, doses, plate map or paths."""
    text: str
    """What was found, and where."""
    hint: str = ""
    """The cure: a line of the recipe, or what to correct."""
    items: tuple[str, ...] = ()
    """Everything that the sentence counts, such as all wells without a treatment; the sentence shows the first ones."""

    def __str__(self) -> str:
        """Return the sentence and its cure."""
        return f"{self.text}; {self.hint}" if self.hint else self.text


@dataclass(frozen=True)
class Forecast:
    """What `Dataset.make` will cost for the fields of one plate."""

    moved_bytes: int | None
    """Bytes to download or to copy; None where they are not known beforehand."""
    disk_bytes: int | None
    """Bytes that the images will take on the disk; None where they are not known beforehand."""
    absent: int
    """Number of images that their source does not have."""
    whole_archive: bool = False
    """True where a whole archive must be downloaded, because the server does not send parts of files."""


class Dataset(Plugin):
    """The base class of all data sets: settings that a recipe can give, and methods that give fields and images.

    To add a data set, write `cellssl/datasets/NAME.py` with a class `Settings(Dataset)`; NAME is its name in a recipe
    (`fetch.dataset = "NAME"`). Its public attributes are its settings, each with a docstring, which
    `cellssl explain datasets NAME` prints. Settings that cannot change a result are declared with
    `json_schema_extra=NOT_IN_FINGERPRINT`. `plan`, `identity` and `make` must be written; the other methods have
    defaults for a data set that reads no file of the user, adds no table and makes everything on this machine.

    The stage `fetch` calls the methods in this order:

    1. `external_files` and `plan`, to find out which fields there are;
    2. `identity`, once per plate, to find out whether this plate has been made before;
    3. `make`, once per plate that has not;
    4. `tables`, once for all plates.

    A data set gives either images of fields or crops that are already cut:

    - Images: `Field.images` names one single-channel image per channel, the same channels in every field; each a TIFF
      of uint8 or uint16, or another format that `cellssl.images.reading` reads.
    - Crops: `gives_crops` is True, `Field.images` is empty, and `make` calls
      `cellssl.datasets.crops.precut.write_precut`, which writes `crops.npy`, `cells.csv` and `channels.json`; the stage
      `segment` passes them through.

    The module must import quickly: import numpy only if needed, and torch, pandas, scikit-learn and the like inside the
    methods that use them. An ALGORITHM in the module counts in the fingerprint of every plate: raise it when the same
    settings give other pixels.
    """

    gives_crops: ClassVar[bool] = False
    """Whether it gives crops that are already cut."""

    def external_files(self) -> Mapping[str, Path]:
        """Return role -> file of the user whose bytes are part of the result, such as a table, a stack or images.

        Every file exists. Their content counts in the fingerprint, their path does not. None by default.
        """
        return {}

    @abstractmethod
    def plan(self, cache: Path) -> list[Field]:
        """Return all fields that the settings select, sorted by plate, well and site.

        Reads tables only, no pixels. The same settings and files give the same plan at every call, and a field does
        not depend on which other plates are selected. `cache` is a folder for tables that must be downloaded before any
        plate is known; it may not exist yet, and may vanish at any time.

        Raises UsageError where the settings name what the data set does not have, DataError where a table is wrong.
        """

    @abstractmethod
    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """Return what, besides the rows of the fields, determines the pixels of one plate.

        Examples are a simulator's settings, or the hash of a stack. `fields` are those of one plate. The values go into
        the fingerprint of the plate, as JSON: they depend on nothing else, least of all on other plates, on where
        files lie, or on the order of calls. Images of the user (absolute paths in `Field.images`) need no entry, since
        `fetch` counts their bytes itself. `sha256` returns the hash of a file, and caches it.
        """

    @abstractmethod
    def make(self, fields: Sequence[Field], folder: Path) -> Generator[Event, None, dict[str, str]]:
        """Write the images of one plate's fields into `folder`; yield events, so that work can be shown and stopped.

        Returns field_id -> reason for every field whose images could not be made; `fetch` puts it into quarantine. The
        work may be killed at any time and is then called again with the same folder: an image with its final name is
        complete and is not made again. `folder/scratch` is for unfinished files; it is removed when the plate is
        finished. Where images were downloaded or copied, `record.csv` lists them with their checksums; `archives.csv`
        lists archives that were downloaded whole, and is not part of the result
        (`cellssl.datasets.transfer.settings`).

        Raises NetworkError where a server does not send what it should, IntegrityError where bytes differ from the
        expected ones, DataError where a file of the user cannot be read.
        """

    def forecast(self, fields: Sequence[Field], folder: Path) -> Forecast:
        """Return what `make` will cost for one plate; downloads nothing but directories of archives.

        Files that lie in `folder` already cost nothing. By default all images are made on this machine: nothing is
        downloaded, and the space on the disk is unknown.
        """
        return Forecast(0, None, 0)

    def absent_images(self) -> list[str]:
        """Return the images that the settings name on this machine and that are not there; asks no server.

        `cellssl doctor` counts them before any work. None by default.
        """
        return []

    def remarks(self, controls: Sequence[str] = ()) -> list[Remark]:
        """Return how the user's tables were read, and what in them does not fit together.

        `controls` are the compounds of the control wells. Opens tables and lists folders, and reads no pixels. Raises
        what `plan` raises. None by default.
        """
        return []

    def tables(self, fields: Sequence[Field], cache: Path) -> dict[str, str]:
        """Return tables that go with all fields, such as official CSV files: file name -> text. None by default."""
        return {}
