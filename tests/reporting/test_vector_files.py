"""SVG and PDF files of figures: their size, their fonts, and the same bytes in every process."""

import hashlib
import os
import re
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from matplotlib.figure import Figure

from cellssl.randomness import generator
from cellssl.reporting import theme
from cellssl.reporting.figures import cells, scatter, score_bars

TILES = generator("tiles").integers(0, 256, (5, 20, 20, 3), dtype=np.uint8)
MM_OF_POINT = 25.4 / 72
DRAW = """
from tests.reporting.test_vector_files import files_of
import hashlib
print(*[hashlib.sha256(files_of(name).svg + files_of(name).pdf).hexdigest() for name in ("bars", "one map", "cells")])
"""


def cloud(points: int, colourings: int) -> Figure:
    classes = {f"class {number}": (np.arange(points) % 5).tolist() for number in range(colourings)}
    return scatter.scatter(generator("points").normal(size=(points, 2)), classes)


@cache
def files_of(name: str) -> theme.Files:
    """Return the files of a figure, drawn once."""
    match name:
        case "bars":
            return theme.files(score_bars.bars([score_bars.Bar("$a_{µ", [0.5, 0.6])], "AMI"))
        case "one map":
            return theme.files(cloud(60, 1))
        case "three maps":
            return theme.files(cloud(60, 3))
        case "many points":
            return theme.files(cloud(10_000, 3))
        case "narrow":
            return theme.files(theme.styled(lambda: Figure(figsize=(5.0, 1.0)))())
        case _:
            return theme.files(cells.montage({"cluster 0": TILES}, 0.5))


@pytest.mark.parametrize(
    ("name", "width_mm"), [("bars", 180), ("one map", 85), ("three maps", 180), ("cells", 180), ("narrow", 180)]
)
def test_figures_are_as_wide_as_a_column_or_a_page_of_a_journal(name: str, width_mm: float) -> None:
    files = files_of(name)
    in_svg = re.search(rb'<svg[^>]* width="([\d.]+)pt"', files.svg)
    in_pdf = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ", files.pdf)
    for found in (in_svg, in_pdf):
        assert found is not None
        assert float(found[1]) * MM_OF_POINT == pytest.approx(width_mm, abs=0.001)


@pytest.mark.parametrize("name", ["bars", "one map", "cells"])
def test_fonts_are_embedded_as_truetype_and_the_svg_needs_none(name: str) -> None:
    files = files_of(name)
    assert b"/FontFile2" in files.pdf and b"Type3" not in files.pdf
    assert files.pdf.count(b"/FontFile2") == files.pdf.count(b"/Type /FontDescriptor")
    assert b"<text" not in files.svg and b"font-family" not in files.svg


@pytest.mark.parametrize("name", ["bars", "cells"])
def test_no_date_and_no_program_is_in_any_file(name: str) -> None:
    files = files_of(name)
    for content in (files.png, files.svg, files.pdf):
        assert not re.search(rb"20\d\d-\d\d|CreationDate|D:20\d\d|<dc:date>", content)
        assert b"Matplotlib" not in content.replace(b"matplotlib.org", b"") and b"Producer" not in content


def test_two_processes_write_the_same_bytes() -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "UTC+7", "SOURCE_DATE_EPOCH": "7"}
    done = subprocess.run([sys.executable, "-c", DRAW], env=environment, capture_output=True, text=True, check=True)
    here = [files_of(name) for name in ("bars", "one map", "cells")]
    assert done.stdout.split() == [hashlib.sha256(one.svg + one.pdf).hexdigest() for one in here]


def test_many_points_are_pixels_within_small_files_and_few_are_paths() -> None:
    many, few = files_of("many points"), files_of("three maps")
    assert max(len(many.svg), len(many.pdf)) < 2_000_000
    assert b"<image" in many.svg and b"<image" not in few.svg
    assert few.svg.count(b"<use") > 180, "every point is one that can be moved"


def test_legends_stay_paths_where_points_are_pixels() -> None:
    figure = cloud(10_000, 1)
    theme.files(figure)
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert not any(mark.get_rasterized() for mark in legend.findobj())
    assert any(each.get_rasterized() for each in figure.axes[0].collections)


def test_cells_keep_their_pixels_in_a_pdf() -> None:
    pdf = files_of("cells").pdf
    sizes = set(re.findall(rb"/Height (\d+)", pdf))
    assert b"20" in sizes, "one row of tiles of 20 pixels, not enlarged"


def test_the_png_is_as_large_as_before_and_text_has_seven_to_eight_points() -> None:
    assert theme.decoded(files_of("bars").png).width == theme.WIDTH_PX == 1152
    assert (theme.TITLE_POINTS, theme.TICK_POINTS) == (8.0, 7.0)
