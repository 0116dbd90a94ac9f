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
"""The folder of a report in which every figure is, as NAME.png, NAME.svg, NAME.pdf and NAME.csv."""


def write_figure(
    job: Job, name: str, figure: Figure, caption: str, small: theme.Smaller, drawn: pd.DataFrame
) -> Picture:
    """Write a figure as PNG, SVG and PDF, and what is drawn as CSV; return a smaller copy for the page.

    `drawn` has the numbers of the figure, one row per point, bar or square; or which cells are shown, and how.
    """
    files = theme.files(figure)
    _write(job, name.removesuffix(".png"), files, drawn)
    return picture(files.png, caption, caption, small)


def write_picture(job: Job, name: str, png: bytes, caption: str, alt: str, drawn: pd.DataFrame) -> Picture:
    """Write a finished picture of cells like a figure: SVG and PDF hold its pixels."""
    write_stored(job, name, png, theme.framed(png), drawn)
    return picture(png, caption, alt, theme.photo)


def write_stored(job: Job, name: str, png: bytes, figure: Figure, drawn: pd.DataFrame) -> None:
    """Write a figure whose PNG is already there."""
    _write(job, name, theme.Files(png, *theme.vectors(figure)), drawn)


def _write(job: Job, name: str, files: theme.Files, drawn: pd.DataFrame) -> None:
    for ending, content in (("png", files.png), ("svg", files.svg), ("pdf", files.pdf)):
        job.draft.file(f"{FOLDER}/{name}.{ending}").write_bytes(content)
    write_csv(written_flags(drawn), job.draft.file(f"{FOLDER}/{name}.csv"))


def picture(png: bytes, caption: str, alt: str, small: theme.Smaller) -> Picture:
    """Return a smaller copy of a picture for the page."""
    return Picture(theme.for_page(png, small), caption, alt, theme.page_share(png))
