"""theme: figures -> PNG, SVG and PDF files in one style, the same bytes each time, and smaller copies for a page."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from itertools import pairwise
from typing import Any, Literal, ParamSpec

import numpy as np
from cycler import cycler
from fontTools.subset import Options
from jaxtyping import Bool
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
from PIL import Image

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
"""Okabe and Ito's colours, which can be distinguished with every common colour blindness; the palest is the last
but one. They are the colours of clusters and of nothing else, so that a colour on the page means one thing."""
CONTROL = "#8A8A8A"
"""The colour of controls and untreated cells, as TREATED is that of treated ones and TRAINED that of trained arms."""
TREATED = "#5B2A86"
TRAINED = "#3F4A5A"
BASELINE = GREY = CONTROL
NO_GROUP = "#D0D0D0"
"""The colour of cells that belong to no group, such as noise."""
OTHER_COLOURS = ("#44AA99", "#882255", "#DDCC77", "#117733", "#88CCEE", "#CC6677", "#999933", "#AA4499")
"""The colours of all other groups (plates, wells, compounds, classes, phenotypes, arms): Paul Tol's muted scheme
(personal.sron.nl/~pault), without its indigo, which is too near to TREATED."""
Dash = Literal["-", "--", ":", "-."]
DASHES: tuple[Dash, ...] = ("-", "--", ":", "-.")
MARKERS = ("o", "^", "s", "D")
OTHER_MARKERS = (*MARKERS, "v", "P", "X")
"""The markers of groups that are no clusters, of which a screen has more."""
COLOUR_MAP = "viridis"
"""A colour map that can be read with every common colour blindness, and in grey print."""
LIGHT_SHADE = 0.45
"""Shades above this (from 0 to 1) have black text, shades below it white text."""
MM_OF_INCH = 25.4
WIDTH_INCH = 180 / MM_OF_INCH
"""Width of a figure that fills the page of a journal, and of the report."""
HALF_INCH = 85 / MM_OF_INCH
"""Width of a figure that fills one column of a journal."""
WIDTH_PX = 1152
"""Width of the PNG of a figure that fills the page."""
DPI = WIDTH_PX / WIDTH_INCH
RASTER_DPI = 300
"""Resolution of what SVG and PDF hold as pixels: pictures, and clouds of many points."""
COMPRESSION = 4
"""How hard PNGs are compressed, of 9: 6 takes three times as long, for a hundredth less."""
SMALL_COMPRESSION = 6
"""As above, for PNGs of the page: 9 takes five times as long, for a fiftieth less."""
EPSILON_INCH = 0.001
POINTS_AS_PATHS, LINE_POINTS_AS_PATHS = 4000, 20_000
"""Where all clouds of a figure, or one line, have more points, they are pixels in SVG and PDF: drawing programs could
hardly open so many paths."""
HIGHEST_INCH = 7.8
"""Higher figures are cut into strips for the page; otherwise print would shrink them until they are unreadable."""
STRIP_INCH = 4.4
"""The greatest height of a strip where a white band allows a cut, so that strips fill printed pages."""
WHITISH = 250
"""Levels above this are set back to white, which a palette of 256 colours makes slightly grey."""
FONT = "DejaVu Sans"
"""This font comes with matplotlib, so a figure is the same on every machine."""
TITLE_POINTS, TICK_POINTS = 8.0, 7.0

_RC_PARAMS: dict[str, Any] = {
    "font.family": FONT,
    "font.size": TITLE_POINTS,
    "text.parse_math": False,  # a compound name may contain a dollar sign
    "axes.titlesize": TITLE_POINTS,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": TITLE_POINTS,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": cycler(color=OTHER_COLOURS),
    "xtick.labelsize": TICK_POINTS,
    "ytick.labelsize": TICK_POINTS,
    "legend.fontsize": TICK_POINTS,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "cellssl",
}


@dataclass(frozen=True)
class GroupStyle:
    """Colour, marker and line style of one group; groups of the same colour differ in marker and line style."""

    colour: str
    marker: str
    dash: Dash


GROUP_STYLES = len(COLOURS) * len(MARKERS)
"""Number of clusters that have different styles."""


def cluster_style(number: int) -> GroupStyle:
    """Return the style of a cluster by its number, the same in every figure."""
    return _style(COLOURS, number)


def other_style(place: int) -> GroupStyle:
    """Return the style of a group that is no cluster (a plate, a compound, a class, an arm) by its index.

    The first `OTHER_STYLES` groups differ in colour or marker.
    """
    marker = OTHER_MARKERS[place // len(OTHER_COLOURS) % len(OTHER_MARKERS)]
    return replace(_style(OTHER_COLOURS, place), marker=marker)


OTHER_STYLES = len(OTHER_COLOURS) * len(OTHER_MARKERS)
"""Number of groups that are no clusters and have different colours or markers."""


def _style(colours: tuple[str, ...], place: int) -> GroupStyle:
    cycle = place // len(colours) % len(MARKERS)
    return GroupStyle(colours[place % len(colours)], MARKERS[cycle], DASHES[cycle])


def label_colour(value: object) -> str | None:
    """Return the colour of a label that says whether a cell was treated; None for other labels.

    >>> label_colour("Untreated") == CONTROL, label_colour("treated") == TREATED, label_colour("DMSO") is None
    (True, True, True)
    """
    return _LABEL_COLOURS.get(str(value).strip().lower())


_LABEL_COLOURS = {
    **dict.fromkeys(("control", "controls", "untreated", "not treated"), CONTROL),
    **dict.fromkeys(("treated", "treatment"), TREATED),
}


def figure_width_inch(columns: int, most: int) -> float:
    """Return the width of a figure of some panels side by side, of which the page has room for `most`: 85 or 180 mm."""
    return HALF_INCH if 2 * columns <= most else WIDTH_INCH


P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate a drawing function to use the common style, independent of the user's matplotlibrc."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with style.context(_RC_PARAMS, after_reset=True):
            return draw(*args, **kwargs)

    return drawn


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG without a date or a program name in it."""
    buffer = io.BytesIO()
    with style.context(_RC_PARAMS, after_reset=True):
        before, canvas = figure.dpi, FigureCanvasAgg(figure)
        figure.set_dpi(DPI)
        canvas.draw()  # savefig draws twice where a layout is computed
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        figure.set_dpi(before)
        Image.fromarray(pixels).save(buffer, format="png", dpi=(DPI, DPI), compress_level=COMPRESSION)
    FigureCanvasAgg(figure)  # takes the place of the one with the pixels: Python keeps figures, as circles, for a while
    return buffer.getvalue()


@dataclass(frozen=True)
class Files:
    """One figure as the bytes of three files."""

    png: bytes
    svg: bytes
    pdf: bytes


def files(figure: Figure) -> Files:
    """Return the figure as PNG, SVG and PDF of the same layout, without a date or the name of a program in them.

    The width of SVG and PDF is exactly 85 or 180 mm. Text is text in a font that is embedded in the PDF, for those who
    edit it; in the SVG it is drawn as paths, since drawing programs ignore fonts within an SVG.
    """
    first = png(figure)
    figure.set_layout_engine("none")
    svg, pdf = vectors(figure)
    return Files(first, svg, pdf)


def vectors(figure: Figure) -> tuple[bytes, bytes]:
    """Return a figure as SVG and PDF; a layout is computed for the first of all files only, since that is slow."""
    with style.context(_RC_PARAMS, after_reset=True):
        _for_vectors(figure)
        svg = _vector(figure, FigureCanvasSVG, {"Date": None, "Creator": None})
        figure.set_layout_engine("none")
        with _without_typesetting():
            pdf = _vector(figure, FigureCanvasPdf, {"CreationDate": None, "Creator": None, "Producer": None})
    FigureCanvasAgg(figure)
    return svg, pdf


@contextmanager
def _without_typesetting() -> Iterator[None]:
    """Leave out of fonts in PDFs what typesetting needs, and no reader of PDFs uses: it takes most of their time."""
    before = Options._drop_tables_default
    Options._drop_tables_default = [*before, "GSUB", "GPOS", "GDEF", "kern"]
    try:
        yield
    finally:
        Options._drop_tables_default = before


@styled
def framed(image: bytes) -> Figure:
    """Return a finished picture as a figure that fills the page."""
    pixels = np.asarray(decoded(image))
    figure = Figure(figsize=(WIDTH_INCH, WIDTH_INCH * pixels.shape[0] / pixels.shape[1]))
    figure.set_layout_engine("none")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(pixels, interpolation="none", aspect="auto")
    axis.set_axis_off()
    return figure


def _for_vectors(figure: Figure) -> None:
    """Let clouds and lines of many points become pixels in SVG and PDF; pictures keep the pixels that they have."""
    drawn = [each for axis in figure.axes for each in axis.collections]  # those of legends would be misplaced
    clouds = [each for each in drawn if isinstance(each, PathCollection)]
    if sum(map(_points_of, clouds)) <= POINTS_AS_PATHS:
        clouds = []
    lines = [each for each in figure.findobj(Line2D) if _points_of(each) > LINE_POINTS_AS_PATHS]
    for artist in (*clouds, *lines):
        artist.set_rasterized(True)
    for picture in figure.findobj(AxesImage):
        pixels = picture.get_array()
        if pixels is not None and pixels.ndim == 3:  # not a heat map, which some viewers would blur
            picture.set_interpolation("none")


def _points_of(artist: PathCollection | Line2D) -> int:
    return np.shape(artist.get_xydata() if isinstance(artist, Line2D) else artist.get_offsets())[0]


def _vector(figure: Figure, kind: type[FigureCanvasSVG | FigureCanvasPdf], metadata: dict[str, None]) -> bytes:
    """Return the figure as an SVG or PDF; white on the right fills up the width of a column or of a page."""
    buffer = io.BytesIO()
    before, canvas = figure.dpi, kind(figure)
    figure.set_dpi(RASTER_DPI)
    width, height = figure.get_size_inches()
    full = HALF_INCH if width < HALF_INCH + EPSILON_INCH else WIDTH_INCH
    if abs(full - width) > EPSILON_INCH:
        bounds = Bbox.from_bounds(0, 0, full, height)
        canvas.print_figure(buffer, format=canvas.get_default_filetype(), metadata=metadata, bbox_inches=bounds)
    else:
        write = canvas.print_svg if isinstance(canvas, FigureCanvasSVG) else canvas.print_pdf
        write(buffer, metadata=metadata)  # print_figure would draw twice
    figure.set_dpi(before)
    return buffer.getvalue()


def page_share(image: bytes) -> float:
    """Return the share of the page's width that a figure takes."""
    with Image.open(io.BytesIO(image)) as picture:
        return float(min(1.0, picture.width / WIDTH_PX))


Smaller = Callable[[Image.Image], bytes]
"""An RGB picture in, a file for the page out: `photo` or `drawing`."""


def for_page(image: bytes, smaller: Smaller) -> list[bytes]:
    """Return a figure as the page shows it: as small files, one per strip that fits on a printed page."""
    return [smaller(strip) for strip in strips(decoded(image))]


def decoded(image: bytes) -> Image.Image:
    """Return the RGB picture of a PNG."""
    with Image.open(io.BytesIO(image)) as picture:
        whole: Image.Image = picture.convert("RGB")
    return whole


def strips(whole: Image.Image) -> list[Image.Image]:
    """Cut a figure into strips that fit on a printed page, within wide white bands; a low figure stays whole."""
    if whole.height <= HIGHEST_INCH * DPI:
        return [whole]
    white = (np.asarray(whole) == 255).all(axis=(1, 2))
    ends = [0]
    while whole.height - ends[-1] > HIGHEST_INCH * DPI:
        cut = _cut(white, ends[-1], STRIP_INCH) or _cut(white, ends[-1], HIGHEST_INCH)
        if cut is None:
            break
        ends.append(cut)
    return [whole.crop((0, top, whole.width, bottom)) for top, bottom in pairwise([*ends, whole.height])]


def _cut(white: Bool[np.ndarray, "rows"], top: int, highest_inch: float) -> int | None:
    """Return the middle of the lowest wide white band in the lower half of the rows that fit below `top`."""
    highest = int(highest_inch * DPI)
    rows = np.flatnonzero(white[top + highest // 2 : top + highest]) + top + highest // 2
    if not len(rows):
        return None
    bands = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    wide = [band for band in bands if len(band) >= 0.8 * max(map(len, bands))]
    return int(wide[-1][len(wide[-1]) // 2])


def photo(picture: Image.Image) -> bytes:
    """Return a picture of cells as a JPEG, a tenth of the size of the PNG; colours keep their full resolution."""
    buffer = io.BytesIO()
    picture.save(buffer, format="jpeg", quality=85, subsampling=0, optimize=True)
    return buffer.getvalue()


def drawing(picture: Image.Image) -> bytes:
    """Return a figure of lines, points and text as a PNG of 256 colours, a third of the size."""
    buffer = io.BytesIO()
    few = picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.putpalette([255 if level > WHITISH else level for level in few.getpalette() or ()])
    few.save(buffer, format="png", compress_level=SMALL_COMPRESSION)
    return buffer.getvalue()
