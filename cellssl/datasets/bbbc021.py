"""bbbc021: which compounds, doses and plates in -> those fields of BBBC021, from the web or a local folder."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, TypeAdapter, ValidationInfo
from pydantic import Field as Knob

from cellssl.config.doses import Doses, chosen_doses, names_doses
from cellssl.config.paths import InputPath, shipped_folder
from cellssl.config.plugins import did_you_mean
from cellssl.config.settings import NOT_IN_FINGERPRINT
from cellssl.datasets.base import Field, Forecast, Value
from cellssl.datasets.tables.manifest import Channel, Manifest, TableEntry, read_manifest
from cellssl.datasets.transfer.settings import OnlineSettings
from cellssl.errors import DataError, IntegrityError, UsageError
from cellssl.events import Event

if TYPE_CHECKING:
    from cellssl.datasets.transfer.sources import Source as Opened

ALGORITHM = 2
"""Since 2 a record of the images is part of the result, and images of quarantined fields are not."""
CONTROL = "DMSO"
SITE = re.compile(r"_s(\d+)_")
PLAIN = re.compile(r"[\w][\w.+ -]*")
OFFICIAL = "use the official tables, or a manifest whose tables are right"
NUMBERS: dict[str, Callable[[str], Value]] = {
    "TableNumber": int,
    "ImageNumber": int,
    "Replicate": int,
    "Image_Metadata_Concentration": float,
}


def _address_or_folder(given: Any, info: ValidationInfo) -> Any:
    """An address as it is; anything else is a folder, also as file://."""
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
    folder = type(given)(path)  # a text from the command line stays one
    return TypeAdapter(InputPath).validate_python(folder, context=info.context)


Source = Annotated[str | Path, BeforeValidator(_address_or_folder)]


class Settings(OnlineSettings):
    """BBBC021: breast cancer cells under 113 compounds, 55 plates; controls of the same plates always come along."""

    source: Source | None = Knob(None, json_schema_extra=NOT_IN_FINGERPRINT)
    """Where tables and archives come from: an http(s) or s3 address, or a folder, in which images may lie unpacked;
    the publisher's address where nothing is given. The same fields are the same result from anywhere."""
    compounds: tuple[str, ...] = ()
    """Compounds as the table spells them (cycloheximide is `cyclohexamide`); all where nothing is given."""
    doses: Doses = "all"
    """All doses of each compound, its highest few ("top 4"), a range ("0.1 to 3"), or a list in micromolar."""
    plates: tuple[str, ...] = ()
    """Only fields of these plates, such as Week1_22123; all where nothing is given."""
    wells: tuple[str, ...] = ()
    """Only treated fields of these wells, such as E03; all where nothing is given."""
    fields_per_well: int | None = Knob(None, ge=1)
    """The first so many fields of every well; all four where nothing is given."""
    labelled_only: bool = False
    """Only treatments whose mechanism is known."""
    manifest: InputPath | None = Knob(None, json_schema_extra=NOT_IN_FINGERPRINT)
    """Another description of the set, such as data-manifests/bbbc021.toml with changes; its content counts."""

    def external_files(self) -> Mapping[str, Path]:
        """The manifest, where it is not the shipped one."""
        return {} if self.manifest is None else {"manifest": self.manifest}

    def plan(self, cache: Path) -> list[Field]:
        """The chosen fields and the controls of their plates, by the official tables."""
        manifest = self._manifest()
        tables = self._official(manifest, cache)
        _check_columns(manifest)
        with _in_words("moa", manifest):
            mechanisms = _mechanisms(_rows(tables["moa"]))
        with _in_words("image", manifest):
            fields = [_field(row, manifest, mechanisms) for row in _rows(tables["image"])]
        chosen = self._chosen(fields)
        plates = {field.plate for field in chosen}
        controls = [field for field in fields if field.compound == CONTROL and field.plate in plates]
        both = {field.field_id: field for field in (*chosen, *controls)}
        ordered = sorted(both.values(), key=lambda field: (field.plate, field.well, field.site))
        return list(_first_of_every_well(ordered, self.fields_per_well))

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """How it is done: which images they are is said by the official names in the fields' rows."""
        return {"algorithm": ALGORITHM}

    def make(self, fields: Sequence[Field], folder: Path) -> Generator[Event, None, dict[str, str]]:
        """Bring the images of one plate that are not there yet, and write down their checksums."""
        from cellssl.datasets.transfer.checksums import read_record
        from cellssl.datasets.transfer.sources import Bench
        from cellssl.datasets.transfer.zip_members import Taken
        from cellssl.files import remove_unfinished

        wanted = {place: folder / place for field in fields for place in field.images.values()}
        reasons: dict[str, str] = {}
        if not all(path.is_file() for path in wanted.values()):
            manifest = self._manifest()
            archive = manifest.archives.of(fields[0].plate)
            bench = Bench(folder, self.connections, read_record(self.checksums), self.checksums)
            remove_unfinished(bench.scratch)
            for one in self._source(manifest).images(archive, fields[0].batch or "", wanted, bench):
                if not isinstance(one, Taken):
                    yield one
                elif one.reason is not None:
                    reasons[one.member] = one.reason
        lacking = _by_field(fields, reasons)
        whole = {place for field in fields if field.field_id not in lacking for place in field.images.values()}
        yield from self.recorded({place: wanted[place] for place in sorted(whole)}, folder)
        return lacking

    def forecast(self, fields: Sequence[Field], folder: Path) -> Forecast:
        """What it costs to bring the images of one plate that are not in `folder` yet."""
        manifest = self._manifest()
        wanted = {place: folder / place for field in fields for place in field.images.values()}
        missing = {place: path for place, path in wanted.items() if not path.is_file()}
        if not missing:
            return Forecast(0, 0, 0)
        archive = manifest.archives.of(fields[0].plate)
        return self._source(manifest).forecast(archive, fields[0].batch or "", missing)

    def tables(self, fields: Sequence[Field], cache: Path) -> dict[str, str]:
        """The official tables, whole."""
        manifest = self._manifest()
        texts = self._official(manifest, cache)
        return {entry.file: texts[name] for name, entry in manifest.tables.items()}

    def _manifest(self) -> Manifest:
        return read_manifest(self.manifest or shipped_folder("data-manifests") / "bbbc021.toml")

    def _source(self, manifest: Manifest) -> Opened:
        """Where everything comes from; UsageError where it is a folder that is not there."""
        from cellssl.datasets.transfer.open_source import source_at

        source = self._place(manifest)
        if isinstance(source, Path) and not source.is_dir():
            raise UsageError(f"there is no folder {source}", hint="correct fetch.dataset.source or --mirror")
        return source_at(source, self.patience())

    def _place(self, manifest: Manifest) -> str | Path:
        return self.source or manifest.address

    def _official(self, manifest: Manifest, cache: Path) -> dict[str, str]:
        """The official tables, from the cache where they lie whole."""
        return {name: self._table(entry, manifest, cache) for name, entry in manifest.tables.items()}

    def _table(self, entry: TableEntry, manifest: Manifest, cache: Path) -> str:
        kept = cache / f"{entry.sha256[:12]}-{entry.file}"
        if kept.is_file() and entry.matches(content := kept.read_bytes()):
            return content.decode()
        from cellssl.files import write_text

        cache.mkdir(parents=True, exist_ok=True)
        text = self._brought(entry, manifest, cache)
        write_text(kept, text, cache)
        return text

    def _brought(self, entry: TableEntry, manifest: Manifest, cache: Path) -> str:
        """What is wrong with it may have happened on the way, so that it is asked for twice."""
        source, name = self._source(manifest), f"{entry.file} of {self._place(manifest)}"
        try:
            return entry.official(source.table(entry.file, cache), name)
        except (IntegrityError, DataError):
            return entry.official(source.table(entry.file, cache), name)

    def _chosen(self, fields: Sequence[Field]) -> list[Field]:
        """The treated fields that the knobs mean, or controls where they are asked for by name."""
        of_compounds = self._of_compounds(fields)
        for what, wanted in (("plate", self.plates), ("well", self.wells)):
            known = tuple(sorted({str(getattr(field, what)) for field in fields}))
            _check_known(wanted, known, what)
        return [
            field
            for field in of_compounds
            if (not self.plates or field.plate in self.plates)
            and (not self.wells or field.well in self.wells)
            and (not self.labelled_only or field.moa is not None)
        ]

    def _of_compounds(self, fields: Sequence[Field]) -> list[Field]:
        """Which doses are meant is looked up in the whole set, so that no plate depends on another."""
        given: dict[str, set[float]] = {}
        for field in fields:
            given.setdefault(str(field.compound), set()).add(field.dose_micromolar or 0.0)
        _check_known(self.compounds, tuple(sorted(given)), "compound")
        doses = self._doses({name: given[name] for name in self.compounds or given})
        return [field for field in fields if field.dose_micromolar in doses.get(str(field.compound), ())]

    def _doses(self, given: Mapping[str, set[float]]) -> dict[str, set[float]]:
        """The chosen ones of every compound; a dose that is named must be one of any of them."""
        if not names_doses(self.doses):
            return {name: set(chosen_doses(there, self.doses, name)) for name, there in given.items()}
        listed = set(chosen_doses(set().union(*given.values()), self.doses, " or ".join(self.compounds) or "anything"))
        return {name: listed & there for name, there in given.items()}


def _check_columns(manifest: Manifest) -> None:
    """Another manifest may describe tables that are no tables of BBBC021."""
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
        there = manifest.tables[table].columns if table in manifest.tables else ()
        missing = [column for column in columns if column not in there]
        if missing:
            raise UsageError(
                f"the manifest's table {table!r} has no column {', '.join(missing)}, which fields are made of",
                hint="compare it with data-manifests/bbbc021.toml",
            )


@contextmanager
def _in_words(table: str, manifest: Manifest) -> Iterator[None]:
    """A value that is no number, in a table that another manifest takes for right."""
    try:
        yield
    except ValueError as error:
        raise DataError(f"{manifest.tables[table].file} cannot be read: {error}", hint=OFFICIAL) from error


def _field(row: dict[str, str], manifest: Manifest, mechanisms: Mapping[tuple[str, float], str]) -> Field:
    """A row of the image table. Files are joined by the table alone; their names differ from week to week."""
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
        extra={name: NUMBERS.get(name, str)(text) for name, text in row.items()},
    )


def _member(row: Mapping[str, str], channel: Channel) -> str:
    """PLATE/FILE, as archives call an image; the table's path has one level more."""
    folder = row[f"Image_PathName_{channel.column}"].rpartition("/")[2]
    file = row[f"Image_FileName_{channel.column}"]
    for name in (folder, file):
        if not PLAIN.fullmatch(name):
            raise DataError(f"the image table has the name {name!r}, which leads out of its folder", hint=OFFICIAL)
    return f"{folder}/{file}"


def _site(file: str) -> int:
    """The number of the field in its well, which stands in file names only."""
    found = SITE.search(file)
    if found is None:
        raise DataError(f"the image table has the file {file!r}, which names no site", hint=OFFICIAL)
    return int(found.group(1))


def _rows(text: str) -> Iterator[dict[str, str]]:
    return csv.DictReader(io.StringIO(text, newline=""))


def _mechanisms(rows: Iterator[dict[str, str]]) -> dict[tuple[str, float], str]:
    """By compound and the number of its dose, which is written in several ways."""
    return {(row["compound"], float(row["concentration"])): row["moa"] for row in rows}


def _first_of_every_well(ordered: Sequence[Field], most: int | None) -> Iterator[Field]:
    for _, of_well in groupby(ordered, key=lambda field: (field.plate, field.well)):
        yield from list(of_well)[:most]


def _by_field(fields: Sequence[Field], reasons: Mapping[str, str]) -> dict[str, str]:
    """The first reason of every field that lacks an image."""
    lacking = ((field, next((place for place in field.images.values() if place in reasons), None)) for field in fields)
    return {field.field_id: reasons[place] for field, place in lacking if place is not None}


def _check_known(wanted: Sequence[str], known: tuple[str, ...], what: str) -> None:
    for word in wanted:
        if word not in known:
            raise UsageError(f"BBBC021 has no {what} {word!r}", hint=did_you_mean(word, known))
