"""settings: the section [report] of a recipe in, its validated settings out."""

from __future__ import annotations

from pydantic import Field

from cellssl.engine.stage import StageSettings

ALGORITHM = 7
"""7: the answer, its picture and its cells first; a map of cells, plates, and figures as SVG and PDF.
6: which treatments changed the cells, where hits were searched for.
5: checks that need no label are always listed, with what there is too little of; counts of cells per well.
4: a collapse is reported at the top, wells are compared within their plate; in a sweep, accuracies that differ by
rounding only are equal, and points with the same numbers count once; figures in strips that fit a printed page, one row
per class.
3: sentences that hold for few cells and for runs without labels or training.
2: checks and next steps, evaluations, counts with sums that are checked, smaller pictures."""


class Settings(StageSettings):
    """One HTML page with all results of a recipe."""

    title: str | None = None
    """Title of the page; by default the name of the recipe."""
    paper_ami: dict[str, str] = Field(default_factory=dict)
    """AMI that a paper reports for an arm, shown beside the AMI here: arm -> text such as "0.51 ± 0.02"."""
    view_cells: int = Field(3, ge=1)
    """Number of cells whose views are shown."""
    view_draws: int = Field(4, ge=1)
    """Number of random views shown per branch and cell."""
