"""image_table: a table of images in, and a plate map where there is one -> fields of a lab's own images out.

The table has one row per field, or one row per plane, and a path or address per channel. Images on this machine stay
where they are; images with an address are fetched.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pydantic import Field as Setting
from pydantic import field_validator, model_validator

from cellssl.config.paths import NAME, InputPath
from cellssl.config.settings import NOT_IN_FINGERPRINT, ORDERED
from cellssl.counting import counted
from cellssl.datasets.base import Field, Forecast, Remark, Value
from cellssl.datasets.tables.columns import ExtraColumns, FieldSelection, ImageColumns, with_site
from cellssl.datasets.tables.controls import is_control, near_control, usual_controls
from cellssl.datasets.tables.csv_table import Table, read_table
from cellssl.datasets.tables.doses import UnitSetting
from cellssl.datasets.tables.places import Places, common_prefix, is_address
from cellssl.datasets.tables.planes import (
    Channel,
    ImageRow,
    PlaneSettings,
    TChoice,
    ZChoice,
    image_rows,
    plane_keys,
)
from cellssl.datasets.tables.platemap import PlatemapColumns, holds_grids
from cellssl.datasets.tables.treatments import TreatmentSettings, read_treatments
from cellssl.datasets.tables.usual_names import usual_columns
from cellssl.datasets.tables.wells import listed
from cellssl.datasets.transfer.settings import OnlineDataset
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Progress
from cellssl.images.content import held_files
from cellssl.images.reference import ImageReference, parse_reference
from cellssl.images.sources import source_fault

SUFFIX = re.compile(r"\.\w{1,5}")
COLUMN_NUMBERS = ("1", "2", "3")
"""How the header of a grid of a plate begins, where a table of images has names of columns."""
CHANGED_BY_READING = frozenset({"plates", "wells", "doses"})
"""Topics of notes that say that a name or number of the table was changed when it was read."""


@dataclass(frozen=True)
class _Read:
    """A table as it was read, with what was noticed."""

    rows: list[ImageRow]
    remarks: list[Remark]
    places: Places


_LAST_READ: dict[tuple[object, ...], _Read] = {}
"""What was read last, by the table, the plate map and the settings: every plate asks for the same rows again."""


class Settings(OnlineDataset):
    """A lab's own images: a table with one row per field of view, and the path of an image per channel.

    Images on this machine stay where they are; images with an http, https or s3 address are fetched. For a folder as a
    microscope wrote it, `cellssl init FOLDER` writes the table and the recipe.
    """

    table: InputPath = Setting(json_schema_extra=NOT_IN_FINGERPRINT)
    """The CSV file (comma, tab or semicolon); its content counts, its path does not."""
    channels: dict[str, Channel] = Setting(min_length=1, json_schema_extra=ORDERED)
    """Channel -> the column with the paths of its images, or several columns that are joined, such as
    `dna = ["PathName_DAPI", "FileName_DAPI"]` of a CellProfiler file list. Where a file holds several channels,
    `dna = { column = "file", channel = "DAPI" }` takes one by its name or by its number from 0, and `page` takes a page
    of a TIFF, by its number from 0 or from a column. Their order is that of the channels of the crops."""
    columns: ImageColumns = ImageColumns()
    """Names of the columns with plate, well, site, batch, compound, dose_micromolar, moa and more; none is required."""
    root: InputPath | None = Setting(None, json_schema_extra=NOT_IN_FINGERPRINT)
    """Folder that relative paths start from; if not given, the folder of the table."""
    paths: dict[str, InputPath] = Setting({}, json_schema_extra=NOT_IN_FINGERPRINT)
    """Beginning of paths as the table has them -> the folder that it is on this machine, such as
    `{ "D:/Screen" = "/mnt/screen" }`."""
    pixel_um: float | None = Setting(None, gt=0)
    """Side of a pixel in micrometres; the column `columns.pixel_um` comes first where it has a value."""
    z: ZChoice = None
    """The z plane of a stack: "max", "mean" or "focus" make one plane of all, a number takes one of them: the number in
    `columns.z`, or the place in the file, from 0. If not given, a stack is an error."""
    t: TChoice = None
    """The time point: "first", a number (that in `columns.t`, or the place in the file, from 0), or "all", which makes
    every time point a field of its own. If not given, several time points are an error."""
    intensity_range: tuple[float, float] | None = None
    """The pixel values that become black (0) and white (65,535), for images of float numbers or of signed integers."""
    platemap: InputPath | None = Setting(None, json_schema_extra=NOT_IN_FINGERPRINT)
    """A plate map (CSV, TSV or XLSX) with the compounds and doses of wells: a long table with one row per well, or a
    grid of the plate per sheet. Its content counts, its path does not."""
    platemap_columns: PlatemapColumns = PlatemapColumns()
    """Names of the columns or grids of the plate map, where they are not known by their usual names."""
    dose_unit: UnitSetting | None = None
    """Unit of doses that have none in their cell; if not given, that in the name of the column, or micromolar."""
    dose_tolerance: float = Setting(0.02, ge=0, le=0.2)
    """Doses of one compound that lie within this share of each other are one dose, named after the roundest of them;
    the column dose_dispensed keeps what the table says. 0 joins nothing."""
    compounds: tuple[str, ...] = ()
    """Only fields of these compounds (name the controls too); empty means all."""
    plates: tuple[str, ...] = ()
    """Only fields of these plates; empty means all."""
    wells: tuple[str, ...] = ()
    """Only fields of these wells; empty means all."""
    keep: ExtraColumns = ()
    """Further columns of the table, or of the plate map, that are copied into the field table as text."""

    @field_validator("channels")
    @classmethod
    def _check_channels(cls, channels: dict[str, Channel]) -> dict[str, Channel]:
        for name in channels:
            if not NAME.fullmatch(name):
                raise ValueError(f"a channel cannot be called {name!r}; use letters, digits, '.', '_', '+' and '-'")
        return channels

    @field_validator("intensity_range")
    @classmethod
    def _check_range(cls, given: tuple[float, float] | None) -> tuple[float, float] | None:
        if given is not None and not given[0] < given[1]:
            raise ValueError("must be two numbers, the lower one first")
        return given

    @model_validator(mode="after")
    def _check_kept(self) -> Settings:
        if self.t == "all" and "time_point" in self.keep:
            raise ValueError('with t = "all", the column time_point is written by this tool: rename that of the table')
        return self

    def external_files(self) -> Mapping[str, Path]:
        """Return the table, the plate map and all images on this machine: each may change under the same name.

        Where reading changed a name or a dose, such as `A1` beside `A01`, the table counts once more, so that a result
        of a version that read it otherwise is not taken for this one; all other results keep their names.
        """
        found = {"table": self.table}
        if self.platemap is not None:
            found["platemap"] = self.platemap
        read = self._read_once()
        if any(remark.kind == "note" and remark.topic in CHANGED_BY_READING for remark in read.remarks):
            found["table as read"] = self.table
        references = [one for row in read.rows for one in row.references.values()]
        held = held_files(str(one) for one in references if not is_address(one.files[0]))
        for row in read.rows:
            found |= _files_of(row, held)
        return found

    def plan(self, cache: Path) -> list[Field]:
        """Return one field for every selected row."""
        fields = [row.field for row in self._rows()]
        return sorted(fields, key=lambda field: (field.plate, field.well, field.site))

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """Return a hash of the addresses; for images on this machine, `fetch` counts their bytes."""
        addresses = self._addresses(fields)
        if not addresses:
            return {}
        return {"addresses": hashlib.sha256(json.dumps(addresses, sort_keys=True).encode()).hexdigest()}

    def make(self, fields: Sequence[Field], folder: Path) -> Generator[Event, None, dict[str, str]]:
        """Fetch the images that have an address, and record their checksums; copy no image of this machine."""
        addresses = self._addresses(fields)
        if not addresses:
            yield Progress(len(fields), len(fields), "fields")
            return {}
        from cellssl.datasets.transfer.checksums import read_record
        from cellssl.datasets.transfer.single_files import FilesToFetch, fetch_files

        targets = {place: folder / place for place in addresses}
        files = FilesToFetch(addresses, targets, folder / "scratch", read_record(self.checksums))
        faults = yield from fetch_files(files, self.connections, self.retry_policy())
        reasons = {
            field.field_id: faults[place] for field in fields for place in _files_in_table(field) if place in faults
        }
        whole = {place for field in fields if field.field_id not in reasons for place in _files_in_table(field)}
        yield from self.write_record({place: targets[place] for place in sorted(whole & set(targets))}, folder)
        return reasons

    def forecast(self, fields: Sequence[Field], folder: Path) -> Forecast:
        """Return the sizes that servers give for the images that are not in `folder` yet; http images come twice."""
        missing = {place: url for place, url in self._addresses(fields).items() if not (folder / place).is_file()}
        if not missing:
            return Forecast(0, 0, 0)
        from cellssl.datasets.transfer.single_files import file_sizes, times_moved

        found = file_sizes(missing, self.connections, self.retry_policy())
        known = {place: size for place, size in found.items() if size is not None}
        if len(known) < len(found):
            return Forecast(None, None, len(missing) - len(found))
        moved = sum(size * times_moved(missing[place]) for place, size in known.items())
        return Forecast(moved, sum(known.values()), len(missing) - len(found))

    def absent_images(self) -> list[str]:
        """Return the paths in the table at which there is no image that can be read."""
        places = [place for row in self._rows() for one in row.references.values() for place in one.files]
        return [place for place in dict.fromkeys(places) if not is_address(place) and source_fault(Path(place))]

    def remarks(self, controls: Sequence[str] = ()) -> list[Remark]:
        """Return how table and plate map were read, and what in them does not fit together."""
        read = self._read_once()
        return [*read.remarks, *_path_remarks(read.places), *self._control_remarks(read.rows, controls)]

    def _control_remarks(self, rows: Sequence[ImageRow], controls: Sequence[str]) -> list[Remark]:
        """Return what is doubtful about controls: wells without a compound, and types that contradict the compound."""
        fields = [row.field for row in rows]
        nameless: dict[str, None] = {}
        contradictory: dict[str, None] = {}
        for field in fields:
            well = f"{field.plate} {field.well}"
            if field.compound is None and not is_control(None, field.control_type, controls):
                nameless.setdefault(well) if field.control_type != "empty" else None
            elif field.control_type not in (None, "negative") and (field.compound or "") in controls:
                contradictory.setdefault(f"{well} ({field.compound}, {field.control_type})")
        found = []
        if nameless and any(field.compound is not None for field in fields):
            found.append(
                Remark(
                    "warning",
                    "controls",
                    f"{counted(len(nameless), 'well')} without a compound, which are no controls: {listed(nameless)}",
                    self._line_for_nameless(),
                    tuple(nameless),
                )
            )
        if alike := _like_controls(fields, controls):
            found.append(
                Remark(
                    "warning",
                    "controls",
                    f"compounds with usual names of controls, which are no controls here: {listed(alike, 5)}",
                    "if they are controls, list them in fetch.controls",
                    tuple(alike),
                )
            )
        if contradictory:
            found.append(
                Remark(
                    "warning",
                    "controls",
                    f"{counted(len(contradictory), 'well')} with a control by the compound, and something else by the "
                    f"type, counted as controls: {listed(contradictory, 5)}",
                    "correct the compound or the type",
                    tuple(contradictory),
                )
            )
        return found

    def _line_for_nameless(self) -> str:
        """Return the line of the recipe that makes controls of wells without a compound."""
        usual = usual_columns(read_table(self.table).header)
        for meaning in ("solvent", "control_type"):
            if meaning in usual and getattr(self.columns, meaning) is None:
                return f'if they are controls: columns.{meaning} = "{usual[meaning][0]}" (or fetch.controls = [""])'
        return 'if they are controls: fetch.controls = [""], beside the other controls'

    def _addresses(self, fields: Sequence[Field]) -> dict[str, str]:
        """Return place in the artifact -> address, for every image of these fields that has an address."""
        ids = {field.field_id for field in fields}
        found: dict[str, str] = {}
        for row in self._rows():
            if row.field.field_id in ids:
                placed = _placed(row)
                pairs = ((placed[channel].files, one.files) for channel, one in row.references.items())
                for places, files in pairs:
                    found |= {place: file for place, file in zip(places, files, strict=True) if is_address(file)}
        return found

    def _rows(self) -> list[ImageRow]:
        return self._read_once().rows

    def _read_once(self) -> _Read:
        """Return the selected rows; the table is read once for all plates, while no file of it changes."""
        table = self._open_table()
        stats = [path.stat() for path in (self.table, self.platemap) if path is not None and path.exists()]
        key = (*((stat.st_size, stat.st_mtime_ns) for stat in stats), self.model_dump_json())
        read = _LAST_READ.get(key)
        if read is None or not read.places.unchanged():
            read = self._read(table)
            _LAST_READ.clear()
            _LAST_READ[key] = read
        return read

    def _open_table(self) -> Table:
        """Return the table; UsageError with the cure where it is a folder or a plate map."""
        if self.table.is_dir():
            raise UsageError(
                f"{self.table} is a folder, not a table of images",
                hint=f"cellssl init {shlex.quote(str(self.table))} writes a table and a recipe for it",
            )
        try:
            table = read_table(self.table)
            is_title = len(table.header) == 1  # of a table with one column, or above a grid
            is_grid = table.header[:3] == COLUMN_NUMBERS or (is_title and holds_grids(self.table))
        except DataError:
            is_grid = holds_grids(self.table)  # under a title, or in Excel
            if not is_grid:
                raise
        if is_grid:
            raise UsageError(
                f"{self.table} is a plate map, with the columns of a plate, and no table of images",
                hint=f'give it as platemap = "{self.table.name}", and a table with one row per field as table; '
                f"cellssl init FOLDER --platemap {shlex.quote(self.table.name)} writes that table for a folder",
            )
        return table

    def _read(self, table: Table) -> _Read:
        stem = self.table.name.partition(".")[0]
        fields, remarks = read_treatments(
            table,
            TreatmentSettings(
                self.columns,
                stem,
                self.pixel_um,
                self.platemap,
                self.platemap_columns,
                self.dose_unit,
                self.dose_tolerance,
                self.keep,
            ),
        )
        planes = plane_keys(table, self.columns)
        if self.columns.site is None:
            fields = _with_numbered_sites(fields, planes)
        _check_unique(fields, table, planes)
        places = Places((self.root or self.table.parent).absolute(), self.paths)
        settings = PlaneSettings(self.channels, self.columns, self.z, self.t, self.intensity_range)
        rows, of_planes = image_rows(fields, table, settings, places)
        _check_no_windows(places)
        found = [replace(row, field=_with_images(row)) for row in rows]
        selection = FieldSelection(self.compounds, self.plates, self.wells)
        selected = selection.rows([row.field for row in found])
        return _Read([found[row] for row in selected], [*remarks, *of_planes], places)


def _like_controls(fields: Sequence[Field], controls: Sequence[str]) -> list[str]:
    """Return compounds such as water or vehicle that are no controls; other spellings are said elsewhere."""
    compounds = dict.fromkeys(
        field.compound
        for field in fields
        if field.compound and not is_control(field.compound, field.control_type, controls)
    )
    return [repr(name) for name in usual_controls(compounds) if near_control(name, controls) is None]


def _files_of(row: ImageRow, held: Mapping[str, Mapping[str, Path]]) -> dict[str, Path]:
    """Return the files of a field's images by their role; of an image that is a folder, all its files, once a field."""
    found: dict[str, Path] = {}
    folders = set()
    for channel, reference in row.references.items():
        for number, file in enumerate(reference.files):
            name = f"{row.field.field_id}/{channel}" + (f"/{number}" if len(reference.files) > 1 else "")
            inside = held.get(file, {})
            if list(inside) == [""]:
                found[name] = inside[""]
            elif file not in folders:
                folders.add(file)
                found |= {f"{name}/{place}": path for place, path in inside.items()}
    return found


def _files_in_table(field: Field) -> list[str]:
    """Return the files that the images of a field are made from."""
    return [file for text in field.images.values() for file in parse_reference(text).files]


def _with_images(row: ImageRow) -> Field:
    return replace(row.field, images={channel: str(one) for channel, one in _placed(row).items()})


def _placed(row: ImageRow) -> dict[str, ImageReference]:
    """Return where the images lie: absolute paths as they are, images with an address in a folder of the plate."""
    return {
        channel: replace(
            reference,
            files=tuple(
                _place_in_artifact(row.field, channel, reference, number) if is_address(file) else file
                for number, file in enumerate(reference.files)
            ),
        )
        for channel, reference in row.references.items()
    }


def _place_in_artifact(field: Field, channel: str, reference: ImageReference, number: int) -> str:
    """Return the place of a fetched image, relative to the artifact of its plate."""
    suffix = PurePosixPath(urlsplit(reference.files[number]).path).suffix
    plane = f"_z{number}" if len(reference.files) > 1 else ""
    return f"{field.plate}/{field.field_id}_{channel}{plane}{suffix if SUFFIX.fullmatch(suffix) else '.tif'}"


def _with_numbered_sites(fields: Sequence[Field], planes: Sequence[tuple[str, str]]) -> list[Field]:
    """Number the sites by the order of the table, from 1 in every well, and for every plane alike."""
    counts: Counter[tuple[str, str, tuple[str, str]]] = Counter()
    numbered = []
    for field, plane in zip(fields, planes, strict=True):
        counts[field.plate, field.well, plane] += 1
        numbered.append(with_site(field, counts[field.plate, field.well, plane]))
    return numbered


def _check_unique(fields: Sequence[Field], table: Table, planes: Sequence[tuple[str, str]]) -> None:
    first: dict[tuple[str, tuple[str, str]], int] = {}
    for row, (field, plane) in enumerate(zip(fields, planes, strict=True)):
        key = (field.field_id, plane)
        if key in first:
            raise DataError(
                f"{table.where(row)} is plate {field.plate}, well {field.well}, site {field.site}, "
                f"and so is line {table.lines[first[key]]}",
                hint="keep one row per field, or give the column that distinguishes them: columns.site for fields, "
                "columns.batch for plates that were measured again, columns.z and columns.t for planes",
            )
        first[key] = row


def _check_no_windows(places: Places) -> None:
    """Raise UsageError where the table has paths of a Windows computer that `paths` does not map."""
    if places.windows:
        first, where = next(iter(places.windows.items()))
        prefix = common_prefix(list(places.windows))
        raise UsageError(
            f"{where}: {first} is a path of a Windows computer ({counted(len(places.windows), 'such path')} in all)",
            hint=f'write which folder it is on this machine: paths = {{ "{prefix}" = "/folder/here" }}',
        )


def _path_remarks(places: Places) -> list[Remark]:
    found = []
    if places.found:
        items = tuple(f"{there} -> {here}" for there, here in places.found.items())
        text = f"{counted(len(items), 'image')} named in another case or form of letters, and found: {items[0]}"
        found.append(Remark("note", "paths", text, items=items))
    if places.ambiguous:
        items = tuple(f"{there}: {' or '.join(files)}" for there, files in places.ambiguous.items())
        text = f"{counted(len(items), 'image')} with several files that differ in case only: {items[0]}"
        found.append(Remark("warning", "paths", text, "write the name of the file as it is", items))
    return found
