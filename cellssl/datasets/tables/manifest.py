"""manifest: the TOML description of a published set in -> its tables, archives and channels; checks its tables."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

from pydantic import Field, ValidationError

from cellssl.config.settings import SettingsModel, first_fault
from cellssl.datasets.tables.csv_table import Table, parse
from cellssl.errors import IntegrityError, UsageError


class TableEntry(SettingsModel):
    """One official table of the set."""

    file: str
    """Name of the file."""
    rows: int = Field(ge=0)
    """Number of rows under the header."""
    size_bytes: int = Field(ge=0)
    """Size of the file in bytes."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the file's bytes."""
    columns: tuple[str, ...]
    """Names of the columns, in their order."""
    text: tuple[str, ...] = ()
    """Columns whose values are in quotes."""
    decimal: tuple[str, ...] = ()
    """Columns whose values have six decimals."""

    def official(self, content: bytes, name: str) -> str:
        """Return the table as its publisher wrote it, from a copy that may have other quotes, decimals or line ends.

        Raises IntegrityError with the difference where the copy has other columns or values.
        """
        table = parse(content, name)
        hint = f"get {self.file} from its publisher again"
        if table.header != self.columns:
            other = sorted(set(table.header) ^ set(self.columns)) or ["they are in another order"]
            raise IntegrityError(f"{name} has other columns than the official table: {', '.join(other)}", hint=hint)
        if len(table.rows) != self.rows:
            raise IntegrityError(f"{name} has {len(table.rows):,} rows, the official table {self.rows:,}", hint=hint)
        text = self._canonical_text(table)
        if not self.matches(text.encode()):
            found = hashlib.sha256(text.encode()).hexdigest()
            raise IntegrityError(
                f"{name} has other values than the official table: in the same format, its sha256 is {found[:12]}… "
                f"instead of {self.sha256[:12]}…",
                hint=hint,
            )
        return text

    def matches(self, content: bytes) -> bool:
        """Return whether these are the official bytes."""
        return len(content) == self.size_bytes and hashlib.sha256(content).hexdigest() == self.sha256

    def _canonical_text(self, table: Table) -> str:
        lines = [[_quoted(name) if name in self.text else name for name in self.columns]]
        lines += [[self._cell(*pair) for pair in zip(self.columns, row, strict=True)] for row in table.rows]
        return "\n".join((*(",".join(line) for line in lines), ""))

    def _cell(self, column: str, value: str) -> str:
        if column in self.text:
            return _quoted(value)
        return _six_decimals(value) if column in self.decimal else value


class Channel(SettingsModel):
    """One channel of the images."""

    name: str
    """Name of the channel in this tool."""
    wave: str
    """Its number in file names, such as w1."""
    column: str
    """Its name in the columns of the image table, such as DAPI."""


class Archives(SettingsModel):
    """The archives of the set, one per plate."""

    name: str = Field(pattern=r"\{plate\}")
    """Name of an archive, with {plate} for the name of its plate."""
    plates: tuple[str, ...]
    """Names of the plates."""

    def name_for(self, plate: str) -> str:
        """Return the name of a plate's archive; IntegrityError where the manifest does not list the plate."""
        if plate not in self.plates:
            raise IntegrityError(f"the manifest lists no archive of plate {plate}", hint="add it under archives.plates")
        return self.name.format(plate=plate)


class Manifest(SettingsModel):
    """Description of a published set."""

    title: str
    """Title of the set."""
    address: str = Field(pattern="^https?://")
    """Address of the folder with the tables and archives."""
    licence: str
    """Licence of the set."""
    citation: str
    """The publication to cite."""
    pixel_um: float = Field(gt=0)
    """Side of a pixel in micrometres."""
    channels: tuple[Channel, ...] = Field(min_length=1)
    """Channels, in the order in which they are stacked."""
    tables: dict[str, TableEntry]
    """The official tables."""
    archives: Archives
    """The official archives."""


def read_manifest(path: Path) -> Manifest:
    """Read the manifest in a TOML file; UsageError with one sentence where it is wrong."""
    try:
        return Manifest.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except ValidationError as error:
        fault = first_fault(error)
        where = ".".join(map(str, fault.path))
        raise UsageError(
            f"{path}: {where} {fault.message}", hint=fault.hint or "compare it with the files in data-manifests/"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint="give the path of a manifest") from error


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _six_decimals(text: str) -> str:
    try:
        return f"{float(text):.6f}"
    except ValueError:
        return text
