"""figure_files: a drawn figure and its numbers in; files of the report, and a smaller copy for the page, out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellssl.artifacts.tables import write_csv
from cellssl.engine.build import Job
from cellssl.reporting import theme
from cellssl.reporting.html import Block, Picture

if TYPE_CHECKING:
    import pandas as pd


def write_figure(
    job: Job, name: str, figure: Any, caption: str, small: theme.Smaller, drawn: pd.DataFrame | None = None
) -> Block:
    """Write the figure as a file of the artifact, with a table of what is drawn; return a smaller copy for the page."""
    if drawn is not None:
        write_csv(drawn, job.draft.file(name.replace(".png", ".csv")))
    return write_png(job, name, theme.png(figure), caption, small)


def write_png(job: Job, name: str, png: bytes, caption: str, small: theme.Smaller) -> Block:
    """Write a picture as a file of the artifact, and return a smaller copy for the page."""
    job.draft.file(name).write_bytes(png)
    return picture(png, caption, caption, small)


def picture(png: bytes, caption: str, alt: str, small: theme.Smaller) -> Picture:
    """Return a smaller copy of a picture for the page."""
    return Picture(theme.for_page(png, small), caption, alt, theme.page_share(png))
