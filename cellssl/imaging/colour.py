"""colour: 8-bit crops of any number of channels in -> RGB tiles, and one sheet of them for display, out.

DNA is blue, tubulin green, actin red, as is usual in microscopy. The hues are those of Okabe and Ito, brightened:
people with red-green blindness distinguish them better than pure red and green (https://jfly.uni-koeln.de/color/).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float64, UInt8

BLUE, GREEN, RED = (0.15, 0.45, 1.0), (0.0, 0.85, 0.45), (1.0, 0.3, 0.0)
MAGENTA, YELLOW, CYAN, GREY = (0.85, 0.3, 0.8), (0.9, 0.8, 0.1), (0.3, 0.75, 0.95), (0.8, 0.8, 0.8)

BY_STAIN = {
    BLUE: ("dna", "dapi", "hoechst", "nucle", "draq"),
    GREEN: ("tubulin", "microtubul", "gfp", "fitc"),
    RED: ("actin", "phalloidin", "rfp", "tritc", "agp"),
}
BY_NUMBER = {1: (GREY,), 2: (BLUE, GREEN), 3: (BLUE, GREEN, RED)}
NAMES = {
    BLUE: "blue",
    GREEN: "green",
    RED: "orange-red",
    MAGENTA: "magenta",
    YELLOW: "yellow",
    CYAN: "cyan",
    GREY: "grey",
    (1.0, 0.0, 0.0): "red",
    (0.0, 1.0, 0.0): "green",
    (0.0, 0.0, 1.0): "blue",
}
PHOTOGRAPH = ("red", "green", "blue")
PALETTE = (BLUE, GREEN, RED, MAGENTA, YELLOW, CYAN, GREY)


def named_colours(channels: Sequence[str]) -> Float64[np.ndarray, "c 3"]:
    """Return a colour per channel by the stain in its name ("w1_DAPI" is blue); the others get the remaining colours.

    A single channel is grey, whatever its name; channels named red, green and blue are a photograph.
    """
    if tuple(channels) == PHOTOGRAPH:
        return np.eye(3)
    if len(channels) == 1:
        return default_colours(1)
    chosen = [_stain(channel) for channel in channels]
    unused = [colour for colour in PALETTE if colour not in chosen] or list(PALETTE)
    for_unnamed = (unused[i % len(unused)] for i in range(len(channels)))
    return np.array([next(for_unnamed) if colour is None else colour for colour in chosen])


def colour_words(channels: Sequence[str]) -> str:
    """Return the colour of every channel for a caption: "dna blue, tubulin green, actin orange-red"."""
    return ", ".join(
        f"{channel} {NAMES[tuple(map(float, colour))]}"  # type: ignore[index]
        for channel, colour in zip(channels, named_colours(channels), strict=True)
    )


def default_colours(channels: int) -> Float64[np.ndarray, "c 3"]:
    """Return colours by the number of channels: grey; blue and green; blue, green and red; then the palette."""
    colours = BY_NUMBER.get(channels) or [PALETTE[i % len(PALETTE)] for i in range(channels)]
    return np.array(colours)


def to_rgb(
    crops: UInt8[np.ndarray, "n c y x"], colours: Float64[np.ndarray, "c 3"] | None = None
) -> UInt8[np.ndarray, "n y x 3"]:
    """Add up all channels in their colours (shares of red, green and blue in 0..1) and clip at 255."""
    colours = default_colours(crops.shape[1]) if colours is None else colours
    rgb = np.empty((len(crops), *crops.shape[2:], 3), np.uint8)
    for crop, tile in zip(crops, rgb, strict=True):
        tile[...] = np.rint(np.minimum(np.einsum("cyx,ck->yxk", crop.astype(np.float32), colours), 255))
    return rgb


def contact_sheet(
    tiles: UInt8[np.ndarray, "n y x 3"], columns: int, gap_px: int = 2
) -> UInt8[np.ndarray, "sheet_y sheet_x 3"]:
    """Place the tiles row by row from the top left with `gap_px` of black between them; empty places are black."""
    n, height, width, _ = tiles.shape
    rows = max(-(-n // columns), 1)
    sheet = np.zeros((rows * (height + gap_px) - gap_px, columns * (width + gap_px) - gap_px, 3), np.uint8)
    for i, tile in enumerate(tiles):
        top, left = (i // columns) * (height + gap_px), (i % columns) * (width + gap_px)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _stain(channel: str) -> tuple[float, float, float] | None:
    name = channel.lower()
    return next((colour for colour, stains in BY_STAIN.items() if any(stain in name for stain in stains)), None)
