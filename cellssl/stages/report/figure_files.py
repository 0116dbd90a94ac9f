"""figure_files: a figure and its numbers in; PNG, SVG, PDF and CSV files, and a smaller copy for the page, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellssl.artifacts.tables import write_csv, written_flags
from cellssl.engine.build import Job
from cellssl.reporting import theme
from cellssl.reporting.html import Picture

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FOLDER = "figures"
"""The folder of a report in which every figure is: NAME.png, NAME.csv and, but for some arms, NAME.svg, NAME.pdf."""


def write_figure(
    job: Job,
    name: str,
    figure: Figure,
    caption: str,
    small: theme.Smaller,
    drawn: pd.DataFrame,
    alt: str = "",
    *,
    vectors: bool = True,
) -> Picture:
    """Write a figure as PNG, SVG and PDF, and what is drawn as CSV; return a smaller copy for the page.

    `drawn` has the numbers of the figure, one row per point, bar or square; or which cells are shown, and how. Without
    `vectors` there is no SVG and no PDF, which take longer than all else.
    """
    png = theme.png(figure)
    figure.set_layout_engine("none")
    name = name.removesuffix(".png")
    _write(job, name, png, drawn)
    if vectors:
        _write_vectors(job, name, figure)
    return picture(png, caption, alt or caption, small)


def write_picture(job: Job, name: str, png: bytes, caption: str, alt: str, drawn: pd.DataFrame) -> Picture:
    """Write a finished picture of cells like a figure: SVG and PDF hold its pixels."""
    _write(job, name, png, drawn)
    _write_vectors(job, name, theme.framed(png))
    return picture(png, caption, alt, theme.photo)


def _write(job: Job, name: str, png: bytes, drawn: pd.DataFrame) -> None:
    job.draft.file(f"{FOLDER}/{name}.png").write_bytes(png)
    write_csv(written_flags(drawn), job.draft.file(f"{FOLDER}/{name}.csv"))


def _write_vectors(job: Job, name: str, figure: Figure) -> None:
    for ending, content in zip(("svg", "pdf"), theme.vectors(figure), strict=True):
        job.draft.file(f"{FOLDER}/{name}.{ending}").write_bytes(content)


def picture(png: bytes, caption: str, alt: str, small: theme.Smaller) -> Picture:
    """Return a smaller copy of a picture for the page."""
    return Picture(theme.for_page(png, small), caption, alt, theme.page_share(png))
