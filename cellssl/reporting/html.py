"""html: titles, words, tables and pictures -> one HTML page that needs neither network nor JavaScript."""

import base64
import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Value = str | int | float | None


@dataclass(frozen=True)
class Paragraph:
    """A few sentences."""

    text: str


@dataclass(frozen=True)
class Heading:
    """A few words over what follows, smaller than a section's."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """Short statements, one below the other."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Numbers and words in columns; a click on a column's head sorts by it where JavaScript is allowed."""

    header: Sequence[str]
    rows: Sequence[Sequence[Value]]
    """None and NaN are shown as a dash, floats with three digits behind the point at most."""
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """PNGs or JPEGs, strips of one picture from its top, with what they show (`caption`) and what those read who do not
    see it (`alt`). Print may go on in a new page between strips."""

    strips: Sequence[bytes]
    caption: str
    alt: str
    share: float | None = None
    """Share of the page's width that it takes, so that letters are of one size in all figures; as wide as its pixels
    where nothing is given."""


@dataclass(frozen=True)
class Details:
    """Text behind a heading that unfolds: a recipe, a chain of provenance. Line breaks are kept; print shows it."""

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
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """The whole: what was found first (`lead`, a paragraph each), then the sections."""

    title: str
    lead: Sequence[str]
    sections: Sequence[Section]


def render(page: Page) -> str:
    """The page as HTML; everything that is handed in is escaped."""
    contents = "".join(
        f'<li><a href="#section-{place}">{_text(section.title)}</a></li>' for place, section in enumerate(page.sections)
    )
    lead = "".join(f"<p>{_text(paragraph)}</p>" for paragraph in page.lead)
    sections = "\n".join(_section(place, section) for place, section in enumerate(page.sections))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy()}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{_text(page.title)}</title>
<style>{_LOOK}</style>
</head>
<body>
<header><h1>{_text(page.title)}</h1>
<div class="lead">{lead}</div></header>
<nav aria-label="Contents"><ol>{contents}</ol></nav>
<main>
{sections}
</main>
<script>{_SORT}</script>
</body>
</html>
"""


def _section(place: int, section: Section) -> str:
    blocks = "\n".join(_block(block) for block in section.blocks)
    return f'<section id="section-{place}"><h2>{_text(section.title)}</h2>\n{blocks}\n</section>'


def _block(block: Block) -> str:
    match block:
        case Paragraph(text) | Heading(text):
            tag = "h3" if isinstance(block, Heading) else "p"
            return f"<{tag}>{_text(text)}</{tag}>"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{_text(item)}</li>" for item in items) + "</ul>"
        case Table():
            return _table(block)
        case Picture():
            return _picture(block)
        case Folded(summary, blocks):
            inside = "\n".join(_block(block) for block in blocks)
            return f"<details><summary>{_text(summary)}</summary>\n{inside}\n</details>"
        case Details(summary, text):
            return f"<details><summary>{_text(summary)}</summary><pre>{_text(text)}</pre></details>"


def _picture(picture: Picture) -> str:
    wide = "" if picture.share is None else f' style="width:{picture.share:.1%}"'
    words = [picture.alt, *("" for _ in picture.strips[1:])]
    images = "\n".join(
        f'<img src="{_data(strip)}" alt="{_text(alt)}"{wide}>' for strip, alt in zip(picture.strips, words, strict=True)
    )
    return f"<figure>{images}<figcaption>{_text(picture.caption)}</figcaption></figure>"


def _data(image: bytes) -> str:
    kind = "jpeg" if image.startswith(_JPEG) else "png"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def _table(table: Table) -> str:
    """Every column of numbers with as many digits (three at most) as its values need."""
    caption = f"<caption>{_text(table.caption)}</caption>" if table.caption else ""
    columns = [[row[place] for row in table.rows] for place in range(len(table.header))]
    classes = [' class="number"' if all(_is_number(value) for value in column) else "" for column in columns]
    digits = [_digits(column) for column in columns]
    head = "".join(
        f'<th scope="col"{kind}>{_breakable(name)}</th>' for name, kind in zip(table.header, classes, strict=True)
    )
    body = "\n".join(
        "<tr>"
        + "".join(
            f"<td{kind}>{_text(shown(value, behind))}</td>"
            for value, kind, behind in zip(row, classes, digits, strict=True)
        )
        + "</tr>"
        for row in table.rows
    )
    return f'<div class="table"><table>{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def shown(value: Value, digits: int = 3) -> str:
    """A table's value as text: a dash for what is missing, thousands set apart, `digits` behind the point."""
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
            return _shown_float(value, digits)


def _shown_float(value: float, digits: int) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value) or (value != 0 and not 1e-3 <= abs(value) < 1e6):
        return f"{value:.3g}"
    return f"{value:,.{digits}f}"


def _digits(column: Sequence[Value]) -> int:
    """Digits behind the point that show these floats in full, three at most."""
    floats = [value for value in column if isinstance(value, float) and math.isfinite(value)]
    return next((digits for digits in range(3) if all(round(value, digits) == value for value in floats)), 3)


def _is_number(value: Value) -> bool:
    """Numbers, missing ones, and words such as "0.51 ± 0.02" and "0.41 to 0.60"."""
    return bool(_NUMBER.fullmatch(value)) if isinstance(value, str) else not isinstance(value, bool)


def _text(text: str) -> str:
    """Escaped, and without the control characters that HTML forbids."""
    return escape(_FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text), quote=True)


def _breakable(name: str) -> str:
    """The name of a column, which may go on in a new line after an underscore."""
    return _text(name).replace("_", "_<wbr>")


def _policy() -> str:
    """What the browser may load: nothing from anywhere; the one script below by its hash."""
    script = base64.b64encode(hashlib.sha256(_SORT.encode()).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{script}'"


_JPEG = b"\xff\xd8"
_NUMBER = re.compile(r"[-+−]?[\d,.]+(e[-+]?\d+)?( ± [\d,.]+| to [-+−]?[\d,.]+)?( ?%)?|–|")
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

_LOOK = """
:root { color-scheme: light; }
html { font-size: 16px; }
body { font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; color: #1a1a1a;
  background: #fff; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 64rem; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid #d5d5d5; }
h3 { font-size: 1rem; margin: 1.75rem 0 0; }
.lead { background: #f1f6fa; border-left: 4px solid #0072B2; padding: .5rem 1rem; font-size: 1.05rem; }
.lead p { margin: .4rem 0; }
nav ol { display: flex; flex-wrap: wrap; gap: .25rem 1.75rem; list-style-position: inside; padding: 0;
  margin: 1rem 0 0; }
a { color: #005a8e; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #4a4a4a; padding-bottom: .4rem; max-width: min(60rem, 100vw - 2.5rem); }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid #e3e3e3; vertical-align: top;
  overflow-wrap: normal; }
thead th { border-bottom: 2px solid #1a1a1a; }
.number { text-align: right; white-space: nowrap; padding-left: .6rem; }
th.number { white-space: normal; vertical-align: bottom; }
td:first-child { min-width: 8rem; }
th [role=button] { cursor: pointer; }
th [role=button]:focus-visible { outline: 2px solid #0072B2; }
th [role=button]::after { content: "\\a0↕"; color: #767676; }
th[aria-sort=ascending] [role=button]::after { content: "\\a0↑"; color: inherit; }
th[aria-sort=descending] [role=button]::after { content: "\\a0↓"; color: inherit; }
figure { margin: 1.25rem 0; }
img { display: block; max-width: 100%; height: auto; }
@media (max-width: 40rem) { img { width: auto !important; } }
figcaption { font-size: .9rem; color: #4a4a4a; margin-top: .4rem; max-width: 50rem; }
details { margin: .75rem 0; }
summary { cursor: pointer; font-weight: 600; }
pre { background: #f6f6f6; padding: .75rem 1rem; overflow-x: auto; font-size: .82rem; line-height: 1.4;
  white-space: pre-wrap; }
@page { margin: 15mm; }
@media print {
  html { font-size: 10pt; }
  body { max-width: none; padding: 0; }
  nav, th [role=button]::after { display: none; }
  summary { list-style: none; }
  .lead { background: none; }
  .table, pre { overflow: visible; }
  table { font-size: 7.5pt; }
  td:first-child { min-width: 6rem; }
  pre { font-size: 6.5pt; columns: 2; padding: 0; background: none; }
  th, td, .number { padding: .15rem .6rem .15rem 0; }
  tr, img, figcaption, .lead, h2 + p { break-inside: avoid; }
  img { max-height: 235mm; object-fit: contain; object-position: left top; }
  h2 { margin-top: 1.5rem; }
  h3 { margin-top: 1rem; }
  figcaption { max-width: none; }
  h2, h3, summary, caption, thead, tbody tr:first-child { break-after: avoid; }
  h3 + figure, h2 + p, h2 + p + :is(figure, h3, details) { break-before: avoid; }
  p:has(+ ul) { break-after: avoid; }
  figcaption { break-before: avoid; }
  thead { display: table-header-group; }
  details::details-content { content-visibility: visible; display: block; }
}
"""

_SORT = """
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("span");  // Chromium prints no <button> in a head that is repeated
    button.setAttribute("role", "button");
    button.tabIndex = 0;
    button.addEventListener("keydown", event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      button.click();
    });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const number = head.classList.contains("number");
      const key = row => {
        const text = row.cells[column].textContent;
        return number ? parseFloat(text.replaceAll(",", "").replace("\\u2212", "-")) : text;
      };
      const compare = (a, b) => {
        if (!number) return a.localeCompare(b, "en", {numeric: true});
        if (isNaN(a) || isNaN(b)) return (isNaN(a) - isNaN(b)) * (down ? -1 : 1);
        return a - b;
      };
      const rows = [...body.rows].sort((a, b) => compare(key(a), key(b)) * (down ? -1 : 1));
      body.append(...rows);
    });
  });
}
"""
