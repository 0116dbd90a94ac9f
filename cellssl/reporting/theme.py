"""theme: one look for every figure -> a figure's PNG bytes, the same bytes each time; smaller copies for a page."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from itertools import pairwise
from typing import Any, Literal, ParamSpec

import numpy as np
from cycler import cycler
from jaxtyping import Bool
from matplotlib import style
from matplotlib.figure import Figure
from PIL import Image

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
"""Okabe and Ito's colours, told apart with every common colour blindness; the palest but one last."""
GREY = "#8A8A8A"
Dash = Literal["-", "--", ":", "-."]
DASHES: tuple[Dash, ...] = ("-", "--", ":", "-.")
MARKERS = ("o", "^", "s", "D")
SHADES = "viridis"
"""Told apart with every common colour blindness, and on grey paper."""
LIGHT = 0.45
"""Shades above it, from 0 to 1, take black letters, those below white ones."""
DPI = 144
HIGHEST_INCH = 8.8
"""Higher figures are cut into strips for the page, or print would shrink them until nobody could read them."""
STRIP_INCH = 5.0
"""Strips are as high at most where there is white to cut, so that they fill pages."""
WHITISH = 250
"""Levels above it are white again, which a choice of 256 colours makes a little grey."""
WIDTH_INCH = 8.0
"""Width of a figure that takes the whole page; A4 prints it 180 mm wide, so that letters of 9 points come out at 8."""
FONT = "DejaVu Sans"
"""Comes with matplotlib, so a figure is the same on every machine."""
TITLE_POINTS, TICK_POINTS = 9.0, 8.0

_LOOK: dict[str, Any] = {
    "font.family": FONT,
    "font.size": TITLE_POINTS,
    "text.parse_math": False,  # a compound's name may hold a dollar sign
    "axes.titlesize": TITLE_POINTS,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": TITLE_POINTS,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": cycler(color=COLOURS),
    "xtick.labelsize": TICK_POINTS,
    "ytick.labelsize": TICK_POINTS,
    "legend.fontsize": TICK_POINTS,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class GroupStyle:
    """What one of several groups looks like; groups of the same colour differ in marker and dash."""

    colour: str
    marker: str
    dash: Dash


GROUP_STYLES = len(COLOURS) * len(MARKERS)
"""So many groups are told apart."""


def group_style(place: int) -> GroupStyle:
    """The look of a group by its place among the groups, the same in every figure."""
    again = place // len(COLOURS) % len(MARKERS)
    return GroupStyle(COLOURS[place % len(COLOURS)], MARKERS[again], DASHES[again])


P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the common look, whatever the machine's matplotlibrc says."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with style.context(_LOOK, after_reset=True):
            return draw(*args, **kwargs)

    return drawn


def png(figure: Figure) -> bytes:
    """The figure as a PNG without a date or a program's name in it."""
    buffer = io.BytesIO()
    with style.context(_LOOK, after_reset=True):
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def page_share(image: bytes) -> float:
    """Share of the page's width that a figure takes."""
    with Image.open(io.BytesIO(image)) as picture:
        return min(1.0, picture.width / (WIDTH_INCH * DPI))


def strips(image: bytes) -> list[bytes]:
    """A figure in pieces that a printed page has room for, cut within wide white bands; a low one is whole."""
    with Image.open(io.BytesIO(image)) as picture:
        whole = picture.convert("RGB")
    white = (np.asarray(whole) == 255).all(axis=(1, 2))
    ends = [0]
    while whole.height - ends[-1] > HIGHEST_INCH * DPI:
        cut = _cut(white, ends[-1], STRIP_INCH) or _cut(white, ends[-1], HIGHEST_INCH)
        if cut is None:
            break
        ends.append(cut)
    return [image] if len(ends) == 1 else [_piece(whole, *rows) for rows in pairwise([*ends, whole.height])]


def _cut(white: Bool[np.ndarray, "rows"], top: int, highest_inch: float) -> int | None:
    """The middle of the lowest wide band of white rows in the lower half of what fits below `top`."""
    highest = int(highest_inch * DPI)
    rows = np.flatnonzero(white[top + highest // 2 : top + highest]) + top + highest // 2
    if not len(rows):
        return None
    bands = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    wide = [band for band in bands if len(band) >= 0.8 * max(map(len, bands))]
    return int(wide[-1][len(wide[-1]) // 2])


def _piece(picture: Image.Image, top: int, bottom: int) -> bytes:
    buffer = io.BytesIO()
    picture.crop((0, top, picture.width, bottom)).save(buffer, format="png")
    return buffer.getvalue()


def photo(image: bytes) -> bytes:
    """A picture of cells as a JPEG, a tenth of the PNG's size; colours keep their full resolution."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(image)) as picture:
        picture.convert("RGB").save(buffer, format="jpeg", quality=85, subsampling=0, optimize=True)
    return buffer.getvalue()


def drawing(image: bytes) -> bytes:
    """A figure of lines, points and letters as a PNG of 256 colours, a third of the size."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(image)) as picture:
        few = picture.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.putpalette([255 if level > WHITISH else level for level in few.getpalette() or ()])
        few.save(buffer, format="png", optimize=True)
    return buffer.getvalue()
