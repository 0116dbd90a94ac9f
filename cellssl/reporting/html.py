"""html: titles, text, tables and pictures -> one HTML page that needs neither network nor JavaScript.

The typed blocks below are the interface. How they look is decided by the Jinja2 templates, the style sheet (page.css)
and the script (page.js) in the folder `templates`; all three are written into the page, so that it is one file.
"""

import base64
import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import get_args

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

Value = str | int | float | None


@dataclass(frozen=True)
class Paragraph:
    """A few sentences."""

    text: str


@dataclass(frozen=True)
class Heading:
    """A heading above the blocks that follow, smaller than that of a section."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of short statements, one below the other."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Numbers and text in columns. A click on the head of a column sorts by it where JavaScript is allowed."""

    header: Sequence[str]
    rows: Sequence[Sequence[Value]]
    """None and NaN are shown as a dash, floats with at most three decimals."""
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """PNGs or JPEGs: the strips of one picture, from top to bottom, with a caption and an alternative text (`alt`) for
    readers who cannot see it. A printed page may break between two strips."""

    strips: Sequence[bytes]
    caption: str
    alt: str
    share: float | None = None
    """Share of the page's width that the picture takes, so that letters have the same size in all figures. Without it
    the picture is as wide as its pixels."""


@dataclass(frozen=True)
class Details:
    """Text behind a heading that unfolds: a recipe, or the provenance of a result. Line breaks are kept; print shows
    the text."""

    summary: str
    text: str


@dataclass(frozen=True)
class Folded:
    """Tables and pictures behind a heading that unfolds; print shows them."""

    summary: str
    blocks: Sequence["Block"]


Block = Paragraph | Heading | Bullets | Table | Picture | Details | Folded


@dataclass(frozen=True)
class Section:
    """A heading and the blocks below it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """The whole page: the main findings first (`lead`, one paragraph each), then the sections."""

    title: str
    lead: Sequence[str]
    sections: Sequence[Section]


def render(page: Page) -> Iterator[str]:
    """Yield the page as HTML, piece by piece, the same text each time; all text that is handed in is escaped."""
    script = _template_file("page.js")
    return (
        _environment()
        .get_template("page.html.j2")
        .generate(
            page=page,
            style=Markup(_template_file("page.css")),
            script=Markup(script),
            script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        )
    )


@cache
def _environment() -> Environment:
    """Return the environment of the templates: everything printed is escaped, and an unknown name is an error."""
    environment = Environment(
        loader=PackageLoader("cellssl.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.tests.update({kind.__name__: partial(_is_a, kind) for kind in get_args(Block)})
    environment.filters.update(data_uri=_data_uri, head_and_body=_head_and_body)
    return environment


def _template_file(name: str) -> str:
    return (files("cellssl.reporting") / "templates" / name).read_text(encoding="utf-8")


def _is_a(kind: type, block: object) -> bool:
    return isinstance(block, kind)


def _printable(value: object) -> object:
    """Replace the control characters that HTML forbids; markup comes from the templates and stays as it is."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", value)
    return value


def _data_uri(image: bytes) -> Markup:
    """Return a PNG or JPEG as a data URI, so that the page needs no second file; nothing in it needs escaping."""
    kind = "jpeg" if image.startswith(_JPEG) else "png"
    return Markup(f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}")


@dataclass(frozen=True)
class _Cell:
    """One cell of a table as the template shows it."""

    text: str
    is_number: bool
    """Whether all values of its column are numbers, which are set to the right."""


def _head_and_body(table: Table) -> tuple[list[_Cell], list[list[_Cell]]]:
    """Return the cells of a table; every column of numbers has as many decimals (three at most) as its values need."""
    columns = [[row[place] for row in table.rows] for place in range(len(table.header))]
    numeric = [all(_is_number(value) for value in column) for column in columns]
    decimals = [_decimals(column) for column in columns]
    head = [_Cell(name, is_number) for name, is_number in zip(table.header, numeric, strict=True)]
    body = [
        [
            _Cell(shown(value, digits), is_number)
            for value, is_number, digits in zip(row, numeric, decimals, strict=True)
        ]
        for row in table.rows
    ]
    return head, body


def shown(value: Value, decimals: int = 3) -> str:
    """Return a table's value as text: a dash if missing, thousands separated, floats with `decimals` decimals."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case str():
            return value
        case int():
            return f"{value:,}"
        case float():
            return _shown_float(value, decimals)


def _shown_float(value: float, decimals: int) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value) or (value != 0 and not 1e-3 <= abs(value) < 1e6):
        return f"{value:.3g}"
    return f"{value:,.{decimals}f}"


def _decimals(column: Sequence[Value]) -> int:
    """Return how many decimals show these floats in full, three at most."""
    floats = [value for value in column if isinstance(value, float) and math.isfinite(value)]
    return next((decimals for decimals in range(3) if all(round(value, decimals) == value for value in floats)), 3)


def _is_number(value: Value) -> bool:
    """Return True for numbers, missing values, and text such as "0.51 ± 0.02" and "0.41 to 0.60"."""
    return bool(_NUMBER.fullmatch(value)) if isinstance(value, str) else not isinstance(value, bool)


_JPEG = b"\xff\xd8"
_NUMBER = re.compile(r"[-+−]?[\d,.]+(e[-+]?\d+)?( ± [\d,.]+| to [-+−]?[\d,.]+)?( ?%)?|–|")
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
