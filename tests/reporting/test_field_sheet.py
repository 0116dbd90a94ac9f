"""field_sheet: colours of outlines stay exact, the file stays small, and the same input gives the same bytes."""

import io

import numpy as np
from PIL import Image

from cellssl.reporting.figures.field_sheet import PANEL_PX, WIDTH_PX, Crops, LegendEntry, Panel, ShownField, field_sheet

ORANGE = (230, 159, 0)
LEGEND = [LegendEntry("354 too small", ORANGE)]


def made_panel(seed: int = 0, rows: int = 200, columns: int = 300) -> Panel:
    """Return a picture of noise with an orange square."""
    grey = np.random.default_rng(seed).integers(0, 64, (rows, columns)).astype(np.uint8) * 4
    pixels = np.repeat(grey[:, :, None], 3, axis=2)
    pixels[50:60, 50:60] = ORANGE
    return Panel(pixels, 0.5)


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def crops(number: int, side: int = 48) -> Crops:
    return Crops("cells", list(np.random.default_rng(3).integers(0, 256, (number, side, side, 3), dtype=np.uint8)))


def test_outlines_and_legend_have_the_very_same_colour() -> None:
    png = field_sheet("389 nuclei", LEGEND, [ShownField("B02", "1", [made_panel()])], crops(3))
    assert png == field_sheet("389 nuclei", LEGEND, [ShownField("B02", "1", [made_panel()])], crops(3))
    orange = (decoded(png) == ORANGE).all(axis=2)
    assert orange[:50].sum() == 16 * 16  # the legend
    assert orange[50:].sum() == 10 * 10  # the square


def test_two_narrow_fields_stand_side_by_side_and_one_with_a_part_fills_the_width() -> None:
    def height(fields: list[ShownField]) -> int:
        return len(decoded(field_sheet("t", LEGEND, fields, crops(1))))

    one, part = ShownField("B02", "1", [made_panel()]), ShownField("B03", "2", [made_panel(), made_panel(1)])
    assert height([one]) == height([one, one]) == height([part])
    assert height([one, one, one]) == height([one, part]) > height([one])


def test_the_largest_sheet_of_pure_noise_has_less_than_3_megabytes() -> None:
    panels = [made_panel(seed, *PANEL_PX) for seed in range(8)]
    fields = [ShownField(f"field {place}", "", panels[2 * place : 2 * place + 2]) for place in range(4)]
    png = field_sheet("noise", LEGEND, fields, crops(60, 200))
    assert len(png) < 3_000_000
    assert decoded(png).shape[1] == WIDTH_PX


def test_fields_of_a_few_rows_and_long_names_fit() -> None:
    thin = Panel(made_panel().pixels[:3], 0.5, (slice(0, 3), slice(0, 10)))
    sheet = decoded(field_sheet("x" * 500, LEGEND * 40, [ShownField("y" * 500, "z" * 500, [thin])], crops(0)))
    assert sheet.shape[1] == WIDTH_PX
