"""colour: which channel has which colour, and where the tiles lie on a sheet."""

import numpy as np
import pytest

from cellssl.imaging.colour import BLUE, GREEN, RED, contact_sheet, default_colours, named_colours, to_rgb


def single_channel(channel: int, channels: int = 3) -> np.ndarray:
    crops = np.zeros((1, channels, 2, 2), np.uint8)
    crops[:, channel] = 200
    return crops


def test_dna_is_blue_tubulin_green_and_actin_red() -> None:
    strongest = [to_rgb(single_channel(channel))[0, 0, 0].argmax() for channel in range(3)]
    assert strongest == [2, 1, 0]


def test_names_decide_whatever_the_order_of_channels() -> None:
    assert (named_colours(["w1_DAPI", "w4 Actin", "beta-Tubulin"]) == np.array([BLUE, RED, GREEN])).all()
    unknown = named_colours(["mito", "dna", "er"])
    assert unknown[1].tolist() == list(BLUE) and len({tuple(colour) for colour in unknown}) == 3


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 9])
def test_any_number_of_channels_is_shown(channels: int) -> None:
    for channel in range(channels):
        tile = to_rgb(single_channel(channel, channels))
        assert tile.shape == (1, 2, 2, 3) and tile.max() > 100


def test_a_single_channel_is_grey() -> None:
    assert len(set(to_rgb(single_channel(0, 1))[0, 0, 0].tolist())) == 1
    assert len(set(named_colours(["dapi"])[0])) == 1


def test_channels_add_up_and_clip() -> None:
    crops = np.full((1, 3, 1, 1), 200, np.uint8)
    known = np.rint(np.minimum(200 * default_colours(3).sum(axis=0), 255))
    assert to_rgb(crops)[0, 0, 0].tolist() == known.tolist()


def test_tiles_lie_row_by_row_on_the_sheet() -> None:
    tiles = np.arange(1, 6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    sheet = contact_sheet(tiles, columns=3, gap_px=1)
    assert sheet.shape == (5, 11, 3)
    assert sheet[0, ::4, 0].tolist() == [1, 2, 3] and sheet[3, ::4, 0].tolist() == [4, 5, 0]
    assert (sheet[2] == 0).all()
