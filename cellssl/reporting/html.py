"""html: titles, text, tables, pictures and data -> one HTML page without network, which can be read without scripts.

The typed blocks below are the interface. How they look is decided by the Jinja2 templates, the style sheets (STYLES)
and the scripts (SCRIPTS) in the folder `templates`; all are written into the page, so that it is one file.
"""

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Any, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cellssl.reporting.signs import SIGNS, Light

STYLES = ("page.css", "first_screen.css", "map.css", "plates.css", "tables.css")
"""Style sheets, in the order in which the page has them."""
SCRIPTS = ("page.js", "map_data.js", "map_panels.js", "map.js", "plates.js")
"""Scripts, in the order in which the page runs them, as one."""
Value = str | int | float | None


@dataclass(frozen=True)
class Strong:
    """A value that stands out in its column, such as the best one."""

    text: str


@dataclass(frozen=True)
class Part:
    """One part of a bar."""

    name: str
    share: float
    """From 0 to 1."""
    colour: str
    """As "#8A8A8A"."""


@dataclass(frozen=True)
class Bar:
    """A bar whose parts are shares of a whole, with their names and numbers as its text."""

    parts: Sequence[Part]


@dataclass(frozen=True)
class Images:
    """Small PNGs or JPEGs side by side in a cell of a table."""

    images: Sequence[bytes]
    alt: str


Rich = Strong | Bar | Images
"""Cells of tables that are more than a value."""


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
    rows: Sequence[Sequence[Value | Rich]]
    """None and NaN are shown as a dash, floats with at most three decimals."""
    caption: str = ""
    anchors: Sequence[str] = ()
    """The anchor of every row, where links lead to them."""


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


@dataclass(frozen=True)
class Interactive:
    """Something that a script of the page draws from data; without JavaScript the blocks of `fallback` are shown."""

    kind: str
    """Which script draws it: the one that looks for elements with this `data-kind`."""
    data: Any
    """What can be written as JSON; the pixels of pictures are strings, see `data_uri`."""
    fallback: Sequence["Block"]


@dataclass(frozen=True)
class Lamp:
    """A few words on one check, as a symbol, a word and a colour, and a link to its evidence."""

    light: Light
    text: str
    anchor: str
    """The row of the check, without "#"; empty where there is none."""
    title: str
    """The numbers behind it, which the mouse shows."""


@dataclass(frozen=True)
class Lights:
    """A row of checks that can be seen at a glance."""

    lamps: Sequence[Lamp]


Block = Paragraph | Heading | Bullets | Table | Picture | Details | Folded | Interactive | Lights


@dataclass(frozen=True)
class Section:
    """A heading and the blocks below it."""

    title: str
    blocks: Sequence[Block]
    anchor: str = ""
    """What links call it; by default a number."""
    is_appendix: bool = False
    """Whether it stands behind the main sections, under the heading “Appendix”."""


@dataclass(frozen=True)
class Page:
    """The whole page: the answer (`lead`, a paragraph each), its picture, cells and checks, then the sections."""

    title: str
    lead: Sequence[str]
    sections: Sequence[Section]
    first: Sequence[Block] = ()
    """What stands beside the answer on the first screen: pictures side by side, and lights."""
    below: Sequence[Block] = ()
    """What stands below the first screen, before the contents: how the answer was found."""


def render(page: Page) -> Iterator[str]:
    """Yield the page as HTML, piece by piece, the same text each time; all text that is handed in is escaped."""
    script = "".join(map(_template_file, SCRIPTS))
    return (
        _environment()
        .get_template("page.html.j2")
        .generate(
            page=page,
            style=Markup("".join(map(_template_file, STYLES))),
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
    environment.tests.update({kind.__name__: partial(_is_a, kind) for kind in get_args(Rich)})
    environment.globals["signs"] = SIGNS
    environment.filters.update(data_uri=data_uri, head_and_body=_head_and_body, json_data=_json_data)
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


def _json_data(data: Any) -> Markup:
    """Return data as JSON that no text in it can end: within a script element nothing is escaped as in HTML."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    printable = _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
    return Markup(printable.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def data_uri(image: bytes) -> Markup:
    """Return a PNG or JPEG as a data URI, so that the page needs no second file; nothing in it needs escaping."""
    kind = "jpeg" if image.startswith(_JPEG) else "png"
    return Markup(f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}")


@dataclass(frozen=True)
class _Cell:
    """One cell of a table as the template shows it."""

    text: str
    is_number: bool
    """Whether all values of its column are numbers, which are set to the right."""
    rich: Rich | None = None
    """What it shows in place of text."""
    head: str = ""
    """The head of its column; of a head itself empty."""
    is_sorted: bool = True
    """Whether a click on this head can sort by it: not by pictures."""


def _head_and_body(table: Table) -> tuple[list[_Cell], list[list[_Cell]]]:
    """Return the cells of a table; every column of numbers has as many decimals (three at most) as its values need."""
    columns = [[_value(row[place]) for row in table.rows] for place in range(len(table.header))]
    numeric = [all(_is_number(value) for value in column) for column in columns]
    decimals = [_decimals(column) for column in columns]
    drawn = [any(isinstance(row[place], Images) for row in table.rows) for place in range(len(table.header))]
    head = [
        _Cell(name, is_number, is_sorted=not is_drawn)
        for name, is_number, is_drawn in zip(table.header, numeric, drawn, strict=True)
    ]
    body = [
        [
            _Cell(shown(_value(value), digits), is_number, value if isinstance(value, Rich) else None, name)
            for value, is_number, digits, name in zip(row, numeric, decimals, table.header, strict=True)
        ]
        for row in table.rows
    ]
    return head, body


def _value(value: Value | Rich) -> Value:
    """Return the value of a cell as it is sorted and read aloud."""
    match value:
        case Strong():
            return value.text
        case Bar():
            return ", ".join(f"{part.name} {100 * part.share:.0f} %" for part in value.parts)
        case Images():
            return value.alt
        case _:
            return value


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
