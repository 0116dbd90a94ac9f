"""planes: a table of images and the choice of planes in -> one row per field, with the image of every channel, out.

A table has one row per field, or one row per z plane or time point; then the rows of a field become one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationError, model_validator
from pydantic import Field as Setting

from cellssl.config.settings import SettingsModel, first_fault
from cellssl.counting import counted
from cellssl.datasets.base import Field, Remark
from cellssl.datasets.tables.columns import ImageColumns
from cellssl.datasets.tables.csv_table import Table
from cellssl.datasets.tables.places import Places, is_address
from cellssl.datasets.tables.wells import listed
from cellssl.errors import DataError, UsageError
from cellssl.images.header import read_header
from cellssl.images.reference import ImageReference

WHOLE = re.compile(r"(\d+)(?:\.0+)?")
PLANE = re.compile(r"[A-Za-z_]*(-?\d+(?:\.\d+)?)")
"""How a z plane or time point is numbered: 3, z3, 3.0, or a height such as -1.5."""
NO_FILE = "no file is named"
"""How the name begins that an image gets whose cell in the table is empty; no such file exists."""


def _choice_of(*words: str) -> BeforeValidator:
    """Return a check that a value is one of these words, or a whole number from 0."""
    written: Any = Literal[words] | Annotated[int, Setting(ge=0)]

    def check(given: object) -> object:
        is_number = isinstance(given, int) and not isinstance(given, bool) and given >= 0
        if given is not None and not is_number and given not in words:
            raise ValueError(f"must be {', '.join(map(repr, words))} or a whole number from 0")
        return given

    return BeforeValidator(check, json_schema_input_type=written)


ZChoice = Annotated[int | Literal["max", "mean", "focus"] | None, _choice_of("max", "mean", "focus")]
TChoice = Annotated[int | Literal["first", "all"] | None, _choice_of("first", "all")]


def _as_columns(given: object) -> object:
    """Return the columns of a path as a tuple; one column may be given as a string."""
    return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given


Several = Annotated[tuple[str, ...], Setting(min_length=1)]
PathColumns = Annotated[
    tuple[str, ...], BeforeValidator(_as_columns, json_schema_input_type=str | Several), Setting(min_length=1)
]


class ChannelSource(SettingsModel):
    """One channel in files that hold several."""

    column: PathColumns
    """The column with the paths of the files, or several columns that are joined."""
    channel: int | str | None = None
    """The channel in the file: its name there, or its number from 0."""
    page: int | str | None = None
    """The page of a TIFF whose pages have no names: its number from 0, or the column that holds it, such as Frame_DAPI
    of a CellProfiler file list."""

    @model_validator(mode="after")
    def _check_one_way(self) -> ChannelSource:
        if self.channel is not None and self.page is not None:
            raise ValueError("give channel or page, and not both: a page is one channel at one plane")
        return self


def _channel_source(given: object) -> Any:
    """Return a channel as the columns of its path, or as a source where more than a column is given."""
    if not isinstance(given, dict):
        return _as_columns(given)
    try:
        source = ChannelSource.model_validate(given)
    except ValidationError as error:
        fault = first_fault(error)
        words = (".".join(map(str, fault.path)), fault.message, f"({fault.hint})" if fault.hint else "")
        raise ValueError(" ".join(filter(None, words))) from error
    return source.column if source.channel is None and source.page is None else source


Channel = Annotated[
    Several | ChannelSource,
    BeforeValidator(_channel_source, json_schema_input_type=str | Several | ChannelSource),
]


@dataclass(frozen=True)
class PlaneSettings:
    """Which images of a table's files are the channels of a field."""

    channels: Mapping[str, tuple[str, ...] | ChannelSource]
    columns: ImageColumns
    z: int | str | None = None
    t: int | str | None = None
    intensity_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class ImageRow:
    """A field, and the image of each of its channels as the table names it: with addresses, or with absolute paths."""

    field: Field
    references: dict[str, ImageReference]
    row: int
    """The row of the table that it begins in."""


def image_rows(
    fields: Sequence[Field], table: Table, settings: PlaneSettings, places: Places
) -> tuple[list[ImageRow], list[Remark]]:
    """Return one row per field, in the order of the table, and what is doubtful about their planes.

    Raises UsageError where a table has several planes or time points and none is chosen; DataError where rows of one
    field contradict each other.
    """
    references = _references(table, settings, places)
    rows = [ImageRow(*pair, row) for row, pair in enumerate(zip(fields, references, strict=True))]
    remarks: list[Remark] = []
    if settings.columns.z is not None or settings.columns.t is not None:
        rows, remarks = _merged(rows, table, settings)
    if settings.t == "all" and settings.columns.t is None:
        rows = [one for row in rows for one in _time_points(row)]
    return rows, remarks


def _references(table: Table, settings: PlaneSettings, places: Places) -> list[dict[str, ImageReference]]:
    """Return the image of every channel of every row, with the planes that the settings choose."""
    series = _whole_numbers(table, settings.columns.series)
    z = settings.z if settings.columns.z is None else None
    t = _time_in_file(settings)
    found: list[dict[str, ImageReference]] = [{} for _ in table.rows]
    for name, given in settings.channels.items():
        source = given if isinstance(given, ChannelSource) else ChannelSource(column=given)
        columns = [table.column(column) for column in source.column]
        pages = _whole_numbers(table, source.page) if isinstance(source.page, str) else [source.page] * len(table.rows)
        for row, of_row in enumerate(found):
            parts = [texts[row] for texts in columns]
            if not parts[-1]:
                missing = f"{NO_FILE} in line {table.lines[row]}, column {source.column[-1]}"
                of_row[name] = ImageReference((str(places.root / missing),))
                continue
            reference = ImageReference(
                (places.place(parts, table.where(row)),),
                series=series[row],
                channel=source.channel,
                page=pages[row],
                intensity_range=settings.intensity_range,
            )
            of_row[name] = reference if pages[row] is not None else replace(reference, z=z, t=t)
    return found


def _time_in_file(settings: PlaneSettings) -> int | None:
    """Return the time point that is taken of every file; None where the table's rows, or all of them, are."""
    if settings.columns.t is not None or settings.t == "all" or settings.t is None:
        return None
    return 0 if settings.t == "first" else int(settings.t)


def _cell_numbers(table: Table, column: str, pattern: re.Pattern[str], what: str, hint: str) -> list[str]:
    """Return the text of the number in every cell of a column; DataError lists all cells that have none."""
    cells = table.column(column)
    found = [pattern.fullmatch(text) for text in cells]
    wrong = [f"{cells[row]!r} (line {table.lines[row]})" for row, number in enumerate(found) if number is None]
    if wrong:
        raise DataError(f"{table.name}, column {column!r}: these are no numbers of {what}: {listed(wrong)}", hint=hint)
    return [number.group(1) for number in found if number is not None]


def _whole_numbers(table: Table, column: str | None) -> list[int | None]:
    """Return the numbers of a column of series or pages, from 0; DataError lists all cells that are none."""
    if column is None:
        return [None] * len(table.rows)
    hint = "write a whole number; the first one is 0"
    return [int(number) for number in _cell_numbers(table, column, WHOLE, "an image or page", hint)]


# ------------------------------------------------------------ tables with a row per plane


def plane_keys(table: Table, columns: ImageColumns) -> list[tuple[str, str]]:
    """Return the z plane and the time point of every row as text; "" where no column holds them."""
    z, t = (table.column(name) if name else [""] * len(table.rows) for name in (columns.z, columns.t))
    return list(zip(z, t, strict=True))


def _merged(rows: Sequence[ImageRow], table: Table, settings: PlaneSettings) -> tuple[list[ImageRow], list[Remark]]:
    """Return one row per field, or per time point of a field."""
    z, t = _plane_numbers(table, settings.columns.z), _plane_numbers(table, settings.columns.t)
    by_field: dict[str, dict[float, dict[float, ImageRow]]] = {}
    for row in rows:
        planes = by_field.setdefault(row.field.field_id, {}).setdefault(t[row.row], {})
        if z[row.row] in planes:
            raise DataError(
                f"{table.where(row.row)} and line {table.lines[planes[z[row.row]].row]} are the same plane of field "
                f"{row.field.field_id}",
                hint="keep one row per plane, or give the column that distinguishes the fields: columns.site",
            )
        planes[z[row.row]] = row
    merged = []
    for of_field in by_field.values():
        for time, planes in _chosen_times(of_field, table, settings).items():
            one = _one_field(planes, table, settings)
            merged.append(_at_time(one, _short(time)) if settings.t == "all" else one)
    return merged, _unequal_planes(by_field, settings)


def _plane_numbers(table: Table, column: str | None) -> list[float]:
    """Return the numbers of planes or time points, 0 where no column holds them; DataError lists all other cells."""
    if column is None:
        return [0.0] * len(table.rows)
    hint = "write a number such as 1, z1 or -1.5, in one unit: 72 for 72h, and 1, 2, 3 ... for dates"
    return [float(number) for number in _cell_numbers(table, column, PLANE, "a plane or time point", hint)]


def _chosen_times(
    times: Mapping[float, dict[float, ImageRow]], table: Table, settings: PlaneSettings
) -> dict[float, dict[float, ImageRow]]:
    """Return the planes of the chosen time points of a field, by time point."""
    ordered = {time: times[time] for time in sorted(times)}
    first = next(iter(times.values()))
    row = next(iter(first.values()))
    match settings.t:
        case "all":
            return ordered
        case "first":
            return dict(list(ordered.items())[:1])
        case None if len(ordered) > 1:
            raise UsageError(
                f"{table.where(row.row)}: field {row.field.field_id} has {len(ordered)} time points: "
                f"{_numbers(ordered)}",
                hint='choose: t = "first", a number of the column, or t = "all", which makes every time point a field',
            )
        case int(number) if settings.columns.t is not None:
            if number not in ordered:
                raise DataError(
                    f"field {row.field.field_id} has no time point {number}: {_numbers(ordered)}",
                    hint="correct fetch.dataset.t, which is a number of the column, or remove the field from the table",
                )
            return {float(number): ordered[number]}
    return ordered


def _one_field(planes: Mapping[float, ImageRow], table: Table, settings: PlaneSettings) -> ImageRow:
    """Return the row of a field whose images are made from its z planes."""
    ordered = [planes[number] for number in sorted(planes)]
    first = ordered[0]
    for other in ordered[1:]:
        if other.field != first.field:
            raise DataError(
                f"{table.where(other.row)} and line {table.lines[first.row]} are planes of one field, "
                f"{first.field.field_id}, but differ in {_difference(first.field, other.field)}",
                hint="correct the table, or give the column that distinguishes the fields: columns.site",
            )
    if settings.columns.z is None:
        return first
    if isinstance(settings.z, int):
        if settings.z not in planes:
            raise DataError(
                f"field {first.field.field_id} has no z plane {settings.z}: {_numbers(sorted(planes))}",
                hint="correct fetch.dataset.z, which is a number of the column, or remove the field from the table",
            )
        return planes[settings.z]
    if len(ordered) == 1:
        return first
    if settings.z is None:
        raise UsageError(
            f"{table.where(first.row)}: field {first.field.field_id} has {len(ordered)} z planes",
            hint='choose: z = "max", "mean" or "focus", or the number of a plane in the column',
        )
    return replace(first, references={name: _stack(name, ordered, table, settings.z) for name in first.references})


def _stack(channel: str, planes: Sequence[ImageRow], table: Table, z: int | str) -> ImageReference:
    """Return one reference for the z planes of a channel, which lie in files of their own, in the order of z.

    Channels may have different planes: a cell that is empty is no plane, unless all cells of the channel are.
    """
    references = [plane.references[channel] for plane in planes]
    references = [one for one in references if not _is_empty(one)] or references[:1]
    if len(references) == 1:
        return references[0]
    if any(reference.choice() != references[0].choice() for reference in references):
        where = table.where(planes[0].row)
        raise DataError(
            f"{where}: the z planes of {channel} are chosen in different ways, such as from different pages",
            hint='planes that are pages of one file need no rows of their own: one row per field, and z = "max"',
        )
    return replace(references[0], files=tuple(reference.files[0] for reference in references), z=z)


def _is_empty(reference: ImageReference) -> bool:
    """Return whether the cell of an image is empty."""
    return Path(reference.files[0]).name.startswith(NO_FILE)


def _difference(one: Field, other: Field) -> str:
    """Return the names of the attributes in which two fields differ."""
    before, after = one.row(), other.row()
    names = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    return " and ".join(sorted(names))


def _unequal_planes(
    by_field: Mapping[str, Mapping[float, Mapping[float, ImageRow]]], settings: PlaneSettings
) -> list[Remark]:
    """Return a warning where a channel of a field has another number of z planes than in most fields."""
    if settings.columns.z is None or isinstance(settings.z, int):
        return []
    numbers: dict[tuple[str, str], int] = {}
    for name, times in by_field.items():
        for planes in times.values():
            for channel in settings.channels:
                held = sum(not _is_empty(plane.references[channel]) for plane in planes.values())
                numbers[name, channel] = min(held, numbers.get((name, channel), held))
    usual = {
        channel: Counter(number for (_, one), number in numbers.items() if one == channel).most_common(1)[0][0]
        for channel in settings.channels
    }
    odd: dict[str, list[int]] = {}
    for (name, channel), number in numbers.items():
        if number != usual[channel]:
            odd.setdefault(name, []).append(number)
    if not odd:
        return []
    items = tuple(f"{name} ({min(found)})" for name, found in odd.items())
    most = " or ".join(map(str, sorted(set(usual.values()))))
    text = f"{counted(len(odd), 'field')} with other than the {most} z planes of most fields: {listed(items, 5)}"
    return [Remark("warning", "fields", text, "add the missing files, or remove these fields", items)]


# ------------------------------------------------------------ time points


def _time_points(row: ImageRow) -> list[ImageRow]:
    """Return a row per time point of the files of a field; files that cannot be read stay one row, to be reported.

    Raises UsageError for images of a server, whose headers are not here.
    """
    counts = set()
    for reference in row.references.values():
        if is_address(reference.files[0]):
            raise UsageError(
                't = "all" needs images on this machine, and the table names addresses',
                hint='download them and give their folder as root, or choose t = "first"',
            )
        try:
            counts.add(read_header(Path(reference.files[0]), reference.series or 0).time_points)
        except (DataError, IndexError):  # `fetch` reads it again, and says what is wrong
            return [row]
    if len(counts) > 1:
        raise DataError(
            f"the channels of field {row.field.field_id} have different numbers of time points: "
            f"{' and '.join(map(str, sorted(counts)))}",
            hint="give files of one recording in a row",
        )
    return [_at_time(_with_t(row, time), time) for time in range(counts.pop())]


def _with_t(row: ImageRow, time: int) -> ImageRow:
    references = {name: replace(one, t=time) for name, one in row.references.items()}
    return replace(row, references=references)


def _at_time(row: ImageRow, time: int | float) -> ImageRow:
    """Return the row as a field of its own, named after its time point."""
    name = f"{row.field.field_id}_t{time}"
    return replace(row, field=replace(row.field, field_id=name, extra={**row.field.extra, "time_point": time}))


def _short(number: float) -> int | float:
    return int(number) if number.is_integer() else number


def _numbers(found: Iterable[float]) -> str:
    return listed(str(_short(number)) for number in found)
