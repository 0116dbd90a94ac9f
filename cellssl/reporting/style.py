"""style: one look for every figure -> a figure's PNG bytes, the same bytes each time; smaller copies for a page."""

import io
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from cycler import cycler
from matplotlib import style
from matplotlib.figure import Figure
from PIL import Image

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
"""Okabe and Ito's colours, told apart with every common colour blindness; the palest but one last."""
GREY = "#8A8A8A"
DPI = 144
WHITISH = 250
"""Levels above it are white again, which a choice of 256 colours makes a little grey."""
WIDTH_INCH = 8.0
"""Width of a figure on the page; letters of 9 points in it print at 9 points on A4."""

_LOOK: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so a figure is the same on every machine
    "font.size": 9,
    "text.parse_math": False,  # a compound's name may hold a dollar sign
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": cycler(color=COLOURS),
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
}


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
