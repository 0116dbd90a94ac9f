"""bbbc021: compounds, doses and plates to select in -> those fields of BBBC021, from the web or a local folder."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, TypeAdapter, ValidationInfo
from pydantic import Field as Setting

from cellssl.config.doses import Doses, chosen_doses, names_doses
from cellssl.config.paths import InputPath, shipped_folder
from cellssl.config.plugins import did_you_mean
from cellssl.config.settings import NOT_IN_FINGERPRINT
from cellssl.datasets.base import Field, Forecast, Value
from cellssl.datasets.tables.manifest import Channel, Manifest, TableEntry, read_manifest
from cellssl.datasets.transfer.settings import OnlineDataset
from cellssl.errors import DataError, IntegrityError, NetworkError, UsageError
from cellssl.events import Event

if TYPE_CHECKING:
    from cellssl.datasets.transfer.sources import Source as ImageSource

ALGORITHM = 2
"""2: a record of the images is part of the result, and images of quarantined fields are not."""
CONTROL = "DMSO"
SITE = re.compile(r"_s(\d+)_")
SAFE_NAME = re.compile(r"[\w][\w.+ -]*")
HINT_TABLES = "use the official tables, or a manifest whose tables are right"
NUMBER_COLUMNS: dict[str, Callable[[str], Value]] = {
    "TableNumber": int,
    "ImageNumber": int,
    "Replicate": int,
    "Image_Metadata_Concentration": float,
}


def _address_or_folder(given: object, info: ValidationInfo) -> object:
    """Return an address as it is; anything else, also file://, is a folder and becomes a Path."""
    if not isinstance(given, str):
        return given
    scheme, separator, rest = given.partition("://")
    if separator and scheme.lower() in ("http", "https", "s3"):
        if not urlsplit(given).netloc:
            raise ValueError("must be an address with a server, such as https://example.org/BBBC021")
        return f"{scheme.lower()}://{rest}"
    if separator and not given.lower().startswith("file:///"):
        raise ValueError("must be an http, https, s3 or file:/// address, or a folder")
    path = unquote(given[len("file://") :]) if separator else given
    folder = type(given)(path)  # a ShellText from the command line stays one, so that its path starts there
    return TypeAdapter(InputPath).validate_python(folder, context=info.context)


Source = Annotated[str | Path, BeforeValidator(_address_or_folder)]


class Settings(OnlineDataset):
    """BBBC021: breast cancer cells treated with 113 compounds, 55 plates; controls of the same plates are included."""

    source: Source | None = Setting(None, json_schema_extra=NOT_IN_FINGERPRINT)
    """Where tables and archives come from: an http(s) or s3 address, or a folder, in which images may lie unpacked; if
    not given, the publisher's address. The same fields give the same result from any source."""
    compounds: tuple[str, ...] = ()
    """Compounds as the table spells them (cycloheximide is `cyclohexamide`); empty means all."""
    doses: Doses = "all"
    """All doses of each compound, its highest few ("top 4"), a range ("0.1 to 3"), or a list in micromolar."""
    plates: tuple[str, ...] = ()
    """Only fields of these plates, such as Week1_22123; empty means all."""
    wells: tuple[str, ...] = ()
    """Only treated fields of these wells, such as E03; empty means all."""
    fields_per_well: int | None = Setting(None, ge=1)
    """Number of fields per well, the first ones; if not given, all four."""
    labelled_only: bool = False
    """Only treatments whose mechanism of action is known."""
    manifest: InputPath | None = Setting(None, json_schema_extra=NOT_IN_FINGERPRINT)
    """Another description of the set, such as a changed copy of data-manifests/bbbc021.toml; its content counts."""

    def external_files(self) -> Mapping[str, Path]:
        """Return the manifest, where it is not the shipped one."""
        return {} if self.manifest is None else {"manifest": self.manifest}

    def plan(self, cache: Path) -> list[Field]:
        """Return the selected fields and the controls of their plates, from the official tables."""
        manifest = self._manifest()
        tables = self._official_tables(manifest, cache)
        _check_columns(manifest)
        with _readable_errors("moa", manifest):
            mechanisms = _mechanisms(_rows(tables["moa"]))
        with _readable_errors("image", manifest):
            fields = [_field(row, manifest, mechanisms) for row in _rows(tables["image"])]
        selected = self._select(fields)
        plates = {field.plate for field in selected}
        controls = [field for field in fields if field.compound == CONTROL and field.plate in plates]
        both = {field.field_id: field for field in (*selected, *controls)}
        ordered = sorted(both.values(), key=lambda field: (field.plate, field.well, field.site))
        return list(_first_of_every_well(ordered, self.fields_per_well))

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """Return the algorithm: the official names in the rows of the fields say which images they are."""
        return {"algorithm": ALGORITHM}

    def make(self, fields: Sequence[Field], folder: Path) -> Generator[Event, None, dict[str, str]]:
        """Fetch the images of one plate that are not there yet, and record their checksums."""
        from cellssl.datasets.transfer.checksums import read_record
        from cellssl.datasets.transfer.sources import PlateDestination
        from cellssl.datasets.transfer.zip_members import MemberResult
        from cellssl.files import remove_unfinished

        targets = {place: folder / place for field in fields for place in field.images.values()}
        faults: dict[str, str] = {}
        if not all(path.is_file() for path in targets.values()):
            manifest = self._manifest()
            archive = manifest.archives.name_for(fields[0].plate)
            destination = PlateDestination(folder, self.connections, read_record(self.checksums), self.checksums)
            remove_unfinished(destination.scratch)
            for event in self._source(manifest).images(archive, fields[0].batch or "", targets, destination):
                if not isinstance(event, MemberResult):
                    yield event
                elif event.reason is not None:
                    faults[event.member] = event.reason
        reasons = _by_field(fields, faults)
        whole = {place for field in fields if field.field_id not in reasons for place in field.images.values()}
        yield from self.write_record({place: targets[place] for place in sorted(whole)}, folder)
        return reasons

    def forecast(self, fields: Sequence[Field], folder: Path) -> Forecast:
        """Return what it will cost to fetch the images of one plate that are not in `folder` yet."""
        manifest = self._manifest()
        targets = {place: folder / place for field in fields for place in field.images.values()}
        missing = {place: path for place, path in targets.items() if not path.is_file()}
        if not missing:
            return Forecast(0, 0, 0)
        archive = manifest.archives.name_for(fields[0].plate)
        return self._source(manifest).forecast(archive, fields[0].batch or "", missing)

    def absent_images(self) -> list[str]:
        """Return the images that a source folder holds neither unpacked nor in an archive; none for a server."""
        if not isinstance(self.source, Path):
            return []
        from cellssl.datasets.transfer.folder import absent_members

        manifest, absent = self._manifest(), []
        self._source(manifest)  # raises UsageError where there is no such folder
        with tempfile.TemporaryDirectory() as cache:
            fields = self.plan(Path(cache))
        for plate, of_plate in groupby(fields, key=lambda field: field.plate):
            some = list(of_plate)
            members = [place for field in some for place in field.images.values()]
            absent += absent_members(self.source, manifest.archives.name_for(plate), some[0].batch or "", members)
        return absent

    def tables(self, fields: Sequence[Field], cache: Path) -> dict[str, str]:
        """Return the official tables, with all their rows."""
        manifest = self._manifest()
        texts = self._official_tables(manifest, cache)
        return {entry.file: texts[name] for name, entry in manifest.tables.items()}

    def _manifest(self) -> Manifest:
        return read_manifest(self.manifest or shipped_folder("data-manifests") / "bbbc021.toml")

    def _source(self, manifest: Manifest) -> ImageSource:
        """Return the source of tables and images; UsageError where it is a folder that does not exist."""
        from cellssl.datasets.transfer.open_source import open_source

        place = self._source_place(manifest)
        if isinstance(place, Path) and not place.is_dir():
            raise UsageError(f"there is no folder {place}", hint="correct fetch.dataset.source or --mirror")
        return open_source(place, self.retry_policy())

    def _source_place(self, manifest: Manifest) -> str | Path:
        return self.source or manifest.address

    def _official_tables(self, manifest: Manifest, cache: Path) -> dict[str, str]:
        """Return the official tables, from the cache where they are complete."""
        return {name: self._table(entry, manifest, cache) for name, entry in manifest.tables.items()}

    def _table(self, entry: TableEntry, manifest: Manifest, cache: Path) -> str:
        cached = cache / f"{entry.sha256[:12]}-{entry.file}"
        if cached.is_file() and entry.matches(content := cached.read_bytes()):
            return content.decode()
        from cellssl.files import write_text

        cache.mkdir(parents=True, exist_ok=True)
        text = self._get_table(entry, manifest, cache)
        write_text(cached, text, cache)
        return text

    def _get_table(self, entry: TableEntry, manifest: Manifest, cache: Path) -> str:
        """Get a table from the source; again where it is wrong, because it may have been damaged on the way.

        Raises IntegrityError or DataError where the same wrong bytes came every time, NetworkError where not.
        """
        from cellssl.datasets.transfer.faults import readings_allowed

        source, name = self._source(manifest), f"{entry.file} of {self._source_place(manifest)}"
        wrong: set[bytes] = set()
        for _ in range(readings_allowed(self.tries)):
            content = source.table(entry.file, cache, past_caches=bool(wrong))
            try:
                return entry.official(content, name)
            except (IntegrityError, DataError) as error:
                fault = error
            wrong.add(content)
        if len(wrong) == 1:
            raise fault
        raise NetworkError(
            f"{name} has other bytes at every reading: {fault.message}",
            hint="something on the way changes them: run the same command again, or try another --mirror",
        ) from fault

    def _select(self, fields: Sequence[Field]) -> list[Field]:
        """Return the treated fields that the settings select, and controls where they are named as a compound."""
        of_compounds = self._of_compounds(fields)
        _check_known(self.plates, tuple(sorted({field.plate for field in fields})), "plate")
        _check_known(self.wells, tuple(sorted({field.well for field in fields})), "well")
        return [
            field
            for field in of_compounds
            if (not self.plates or field.plate in self.plates)
            and (not self.wells or field.well in self.wells)
            and (not self.labelled_only or field.moa is not None)
        ]

    def _of_compounds(self, fields: Sequence[Field]) -> list[Field]:
        """Return the fields of the selected compounds and doses.

        "top 4" and the like refer to the doses of the whole set, so that no plate depends on another.
        """
        tested: dict[str, set[float]] = {}
        for field in fields:
            tested.setdefault(str(field.compound), set()).add(field.dose_micromolar or 0.0)
        _check_known(self.compounds, tuple(sorted(tested)), "compound")
        doses = self._select_doses({name: tested[name] for name in self.compounds or tested})
        return [field for field in fields if field.dose_micromolar in doses.get(str(field.compound), ())]

    def _select_doses(self, tested: Mapping[str, set[float]]) -> dict[str, set[float]]:
        """Return the selected doses of every compound; a dose in a list must be a dose of at least one of them."""
        if not names_doses(self.doses):
            return {name: set(chosen_doses(own, self.doses, name)) for name, own in tested.items()}
        listed = set(
            chosen_doses(set().union(*tested.values()), self.doses, " or ".join(self.compounds) or "the data set")
        )
        return {name: listed & own for name, own in tested.items()}


def _check_columns(manifest: Manifest) -> None:
    """Raise UsageError where the tables of another manifest lack columns that the fields need."""
    stains = [channel.column for channel in manifest.channels]
    needed = {
        "image": [
            *(f"Image_{what}_{stain}" for stain in stains for what in ("FileName", "PathName")),
            *("Image_PathName_DAPI", "Image_Metadata_Plate_DAPI", "Image_Metadata_Well_DAPI"),
            *("Image_Metadata_Compound", "Image_Metadata_Concentration"),
        ],
        "moa": ["compound", "concentration", "moa"],
    }
    for table, columns in needed.items():
        present = manifest.tables[table].columns if table in manifest.tables else ()
        missing = [column for column in columns if column not in present]
        if missing:
            raise UsageError(
                f"the manifest's table {table!r} has no column {', '.join(missing)}, which is needed",
                hint="compare it with data-manifests/bbbc021.toml",
            )


@contextmanager
def _readable_errors(table: str, manifest: Manifest) -> Iterator[None]:
    """Turn a value that is not a number, in a table of another manifest, into a DataError."""
    try:
        yield
    except ValueError as error:
        raise DataError(f"{manifest.tables[table].file} cannot be read: {error}", hint=HINT_TABLES) from error


def _field(row: dict[str, str], manifest: Manifest, mechanisms: Mapping[tuple[str, float], str]) -> Field:
    """Return the field of one row of the image table; only the table names its files, as names differ between weeks."""
    plate, well = row["Image_Metadata_Plate_DAPI"], row["Image_Metadata_Well_DAPI"]
    compound, dose = row["Image_Metadata_Compound"], float(row["Image_Metadata_Concentration"])
    images = {channel.name: _member(row, channel) for channel in manifest.channels}
    site = _site(row[f"Image_FileName_{manifest.channels[0].column}"])
    return Field(
        field_id=f"{plate}_{well}_s{site}",
        plate=plate,
        well=well,
        site=site,
        images=images,
        batch=row["Image_PathName_DAPI"].partition("/")[0],
        compound=compound,
        dose_micromolar=dose,
        moa=mechanisms.get((compound, dose)),
        pixel_um=manifest.pixel_um,
        extra={name: NUMBER_COLUMNS.get(name, str)(text) for name, text in row.items()},
    )


def _member(row: Mapping[str, str], channel: Channel) -> str:
    """Return the name of an image in its archive, PLATE/FILE; the path in the table has one more level."""
    folder = row[f"Image_PathName_{channel.column}"].rpartition("/")[2]
    file = row[f"Image_FileName_{channel.column}"]
    for name in (folder, file):
        if not SAFE_NAME.fullmatch(name):
            raise DataError(f"the image table has the name {name!r}, which leads out of its folder", hint=HINT_TABLES)
    return f"{folder}/{file}"


def _site(file: str) -> int:
    """Return the number of the field in its well, which only file names hold."""
    found = SITE.search(file)
    if found is None:
        raise DataError(f"the image table has the file {file!r}, whose name gives no site", hint=HINT_TABLES)
    return int(found.group(1))


def _rows(text: str) -> Iterator[dict[str, str]]:
    return csv.DictReader(io.StringIO(text, newline=""))


def _mechanisms(rows: Iterator[dict[str, str]]) -> dict[tuple[str, float], str]:
    """Return (compound, dose) -> mechanism of action; the dose as a number, because it is written in several ways."""
    return {(row["compound"], float(row["concentration"])): row["moa"] for row in rows}


def _first_of_every_well(ordered: Sequence[Field], count: int | None) -> Iterator[Field]:
    for _, of_well in groupby(ordered, key=lambda field: (field.plate, field.well)):
        yield from list(of_well)[:count]


def _by_field(fields: Sequence[Field], faults: Mapping[str, str]) -> dict[str, str]:
    """Return field_id -> the first reason, for every field that lacks an image; `faults` gives reasons by image."""
    first = ((field, next((place for place in field.images.values() if place in faults), None)) for field in fields)
    return {field.field_id: faults[place] for field, place in first if place is not None}


def _check_known(wanted: Sequence[str], known: tuple[str, ...], what: str) -> None:
    for name in wanted:
        if name not in known:
            raise UsageError(f"BBBC021 has no {what} {name!r}", hint=did_you_mean(name, known))
