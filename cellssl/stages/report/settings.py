"""settings: the section [report] of a recipe in, its validated settings out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

if TYPE_CHECKING:
    pass


from cellssl.engine.stage import StageSettings

ALGORITHM = 4
"""4: a collapse is said on top, wells are judged within their plate; of a sweep, what only rounding tells apart is
equal, and what counts as many is counted once; figures in strips that print has room for, classes by a row each.
3: words that hold for few cells and for runs without labels or training.
2: whether to believe it and what is next, evaluations, counts that balance, smaller pictures."""


class Settings(StageSettings):
    """One page of what came out."""

    title: str | None = None
    """Over the page; the recipe's name where nothing is given."""
    paper_ami: dict[str, str] = Field(default_factory=dict)
    """What a paper gives for an arm, shown beside ours: arm -> text such as "0.51 ± 0.02"."""
    view_cells: int = Field(3, ge=1)
    """Cells whose views are shown."""
    view_draws: int = Field(4, ge=1)
    """Draws of every branch's view."""
