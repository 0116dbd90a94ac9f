"""field_sheet: pictures of fields with outlines, a legend of their colours and crops of cells -> one contact sheet."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps

from cellssl.reporting.figures.common import round_below
from cellssl.reporting.text_fitting import shorten
from cellssl.reporting.theme import DPI, FONT, TICK_POINTS, TITLE_POINTS, WIDTH_PX

GAP_PX, TILE_GAP_PX, LINE_PX = 8, 4, 24
PANEL_PX = (460, (WIDTH_PX - GAP_PX) // 2)
"""Rows and columns within which a picture of a field is drawn; two stand side by side."""
TILE_COLUMNS = 12
TILE_PX = (WIDTH_PX + TILE_GAP_PX) // TILE_COLUMNS - TILE_GAP_PX
GREYS, TILE_COLOURS = 64, 160
"""Number of greys, and of colours of the crops; with those of the legend a PNG with a palette has room for them."""
SWATCH_PX = 16
SMALLEST_WITH_BAR_PX = 80


@dataclass(frozen=True)
class LegendEntry:
    """The colour of an outline, and what it means."""

    text: str
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class Panel:
    """One picture of a field."""

    pixels: UInt8[np.ndarray, "rows columns 3"]
    pixel_um: float | None
    """Side of a pixel of the picture, for the scale bar."""
    part: tuple[slice, slice] | None = None
    """Rows and columns that the next picture shows."""


@dataclass(frozen=True)
class ShownField:
    """One field: the whole of it, and where that is needed a part."""

    title: str
    text: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Crops:
    """Cells as the models get them, with a line that says what they are."""

    text: str
    tiles: Sequence[UInt8[np.ndarray, "y x 3"]] = field(default_factory=tuple)


def field_sheet(title: str, legend: Sequence[LegendEntry], fields: Sequence[ShownField], crops: Crops) -> bytes:
    """Return the sheet as a PNG, the same bytes each time.

    A field with two panels fills the width; fields with one panel stand side by side.
    """
    bands = [_head(title, legend), *(_row(row) for row in _rows(fields)), _tiles(crops)]
    return _png(np.concatenate(bands))


def _rows(fields: Sequence[ShownField]) -> list[list[ShownField]]:
    """Return which fields stand side by side, in their order as far as that leaves no gaps."""
    alone = [[one] for one in fields if len(one.panels) > 1]
    narrow = [one for one in fields if len(one.panels) == 1]
    return alone + [narrow[start : start + 2] for start in range(0, len(narrow), 2)]


def _head(title: str, legend: Sequence[LegendEntry]) -> UInt8[np.ndarray, "rows columns 3"]:
    """Draw the title, and below it the legend on as many lines as it needs."""
    places = list(_flow([SWATCH_PX + 6 + _text_px(entry.text) for entry in legend], 24))
    lines = 1 + max((line for line, _ in places), default=-1)
    canvas = _white(LINE_PX * (1 + lines) + GAP_PX)
    draw = ImageDraw.Draw(canvas)
    _write(draw, (0, 0), title, WIDTH_PX, bold=True)
    for entry, (line, left) in zip(legend, places, strict=True):
        top = LINE_PX * (1 + line)
        draw.rectangle((left, top + 3, left + SWATCH_PX - 1, top + 2 + SWATCH_PX), fill=entry.colour)
        _write(draw, (left + SWATCH_PX + 6, top), entry.text, WIDTH_PX - left)
    return np.asarray(canvas)


def _flow(widths: Iterable[int], gap: int) -> Iterable[tuple[int, int]]:
    """Yield line and left end of entries that follow each other as words do."""
    line, left = 0, 0
    for width in widths:
        if left and left + width > WIDTH_PX:
            line, left = line + 1, 0
        yield line, left
        left += width + gap


def _row(fields: Sequence[ShownField]) -> UInt8[np.ndarray, "rows columns 3"]:
    """Draw fields that stand side by side, each below its title and its counts."""
    top = 2 * LINE_PX
    canvas = _white(top + max(panel.pixels.shape[0] for one in fields for panel in one.panels) + 2 * GAP_PX)
    draw = ImageDraw.Draw(canvas)
    left = 0
    for one in fields:
        width = len(one.panels) * (PANEL_PX[1] + GAP_PX) - GAP_PX
        _write(draw, (left, 0), one.title, width, bold=True)
        _write(draw, (left, LINE_PX), one.text, width)
        for panel in one.panels:
            canvas.paste(_panel(panel), (left, top))
            left += PANEL_PX[1] + GAP_PX
    return np.asarray(canvas)


def _panel(panel: Panel) -> Image.Image:
    """Draw the frame of a part and a scale bar onto a picture."""
    picture = Image.fromarray(panel.pixels)
    draw = ImageDraw.Draw(picture)
    if panel.part is not None:
        rows, columns = panel.part
        left, top, right, bottom = columns.start, rows.start, columns.stop - 1, rows.stop - 1
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=(0, 0, 0))
        draw.rectangle((left, top, right, bottom), outline=(255, 255, 255))
    if panel.pixel_um is not None and min(picture.size) >= SMALLEST_WITH_BAR_PX:
        _scale_bar(draw, picture.size, panel.pixel_um)
    return picture


def _scale_bar(draw: ImageDraw.ImageDraw, size: tuple[int, int], pixel_um: float) -> None:
    """Draw a white bar of a round length on black in the lower right, with its length above it."""
    length_um = round_below(0.25 * size[0] * pixel_um)
    text, length_px = f"{length_um:g} µm", round(length_um / pixel_um)
    right, low = size[0] - 8, size[1] - 8
    draw.rectangle((right - max(length_px, _text_px(text)) - 5, low - 26, right + 5, low + 5), fill=(0, 0, 0))
    draw.rectangle((right - length_px, low - 2, right, low), fill=(255, 255, 255))
    draw.text((right, low - 6), text, (255, 255, 255), _font(TICK_POINTS), "rs")


def _tiles(crops: Crops) -> UInt8[np.ndarray, "rows columns 3"]:
    """Draw the crops row by row below their text."""
    step = TILE_PX + TILE_GAP_PX
    canvas = _white(LINE_PX + 4 + -(-len(crops.tiles) // TILE_COLUMNS) * step)
    _write(ImageDraw.Draw(canvas), (0, 0), crops.text, WIDTH_PX, bold=True)
    for place, tile in enumerate(_in_few_colours(crops.tiles)):
        row, column = divmod(place, TILE_COLUMNS)
        canvas.paste(Image.fromarray(tile), (column * step, LINE_PX + 4 + row * step))
    return np.asarray(canvas)


def _in_few_colours(tiles: Sequence[UInt8[np.ndarray, "y x 3"]]) -> UInt8[np.ndarray, "n side side 3"]:
    """Return the crops at one size, in TILE_COLOURS colours that suit all of them."""
    if not len(tiles):
        return np.empty((0, TILE_PX, TILE_PX, 3), np.uint8)
    how = Image.Resampling.BOX if len(tiles[0]) > TILE_PX else Image.Resampling.BICUBIC
    small = [np.asarray(Image.fromarray(tile).resize((TILE_PX, TILE_PX), how)) for tile in tiles]
    joined = Image.fromarray(np.concatenate(small))
    palette = ImageOps.posterize(joined, 5).quantize(TILE_COLOURS)  # the search takes seconds among all colours
    few = joined.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB")
    return np.asarray(few).reshape(-1, TILE_PX, TILE_PX, 3)


def _white(height: int) -> Image.Image:
    return Image.new("RGB", (WIDTH_PX, height), "white")


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width_px: int, *, bold: bool = False) -> None:
    """Write a line of black text that is shortened to the width."""
    points = TITLE_POINTS if bold else TICK_POINTS
    shown = shorten(text, width_px / DPI, points, bold=bold)
    draw.text(place, shown, (0, 0, 0), _font(points, bold=bold))


def _text_px(text: str) -> int:
    return int(np.ceil(_font(TICK_POINTS).getlength(text)))


@cache
def _font(points: float, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the font of all figures, which comes with matplotlib."""
    name = f"{FONT.replace(' ', '')}{'-Bold' if bold else ''}.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, round(points * DPI / 72))


def _png(picture: UInt8[np.ndarray, "rows columns 3"]) -> bytes:
    """Return a PNG with a palette, a third of the size of one without; antialiased letters get one of GREYS greys."""
    packed = _with_few_greys(picture).astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    is_used = np.zeros(1 << 24, bool)
    is_used[packed] = True
    colours = np.flatnonzero(is_used)
    assert len(colours) <= 256
    index = np.zeros(1 << 24, np.uint8)
    index[colours] = np.arange(len(colours))
    image = Image.fromarray(index[packed])
    image.putpalette(np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.uint8).tobytes())
    buffer = BytesIO()
    image.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def _with_few_greys(picture: UInt8[np.ndarray, "rows columns 3"]) -> Int[np.ndarray, "rows columns 3"]:
    """Round every grey to one of GREYS levels; colours stay."""
    few = np.rint(np.rint(np.arange(256) * ((GREYS - 1) / 255)) * (255 / (GREYS - 1))).astype(np.uint8)
    is_grey = (picture[..., :1] == picture[..., 1:]).all(axis=2, keepdims=True)
    return np.asarray(np.where(is_grey, few[picture], picture))
