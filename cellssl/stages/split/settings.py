"""settings: the section [split] of a recipe in, its validated settings out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from cellssl.config.doses import Doses
from cellssl.config.settings import SettingsModel

if TYPE_CHECKING:
    pass


from cellssl.engine.stage import StageSettings

ALGORITHM = 1


class Treated(SettingsModel):
    """Which cells are the treated class."""

    compounds: tuple[str, ...] = Field(min_length=1)
    """Compounds, as the field table spells them."""
    doses: Doses = "all"
    """All doses, the highest few ("top 4"), or a list in micromolar."""


class Settings(StageSettings):
    """Who is trained on, tuned on and tested on."""

    RENAMED: ClassVar[Mapping[str, str]] = {"given": "split_column", "by": "group_by"}
    treated: Treated | None = None
    """The treated class; the control wells are the other. Without it, and without `classes`, there are no labels and
    nothing is balanced."""
    classes: str | None = None
    """In place of treated: a column of the cell table whose values are the classes, such as `class`, `compound` or
    `true_phenotype`; cells without one are left out."""
    balance: bool = True
    """Whether every part gets as many cells of each class; otherwise as many as there are."""
    split_column: str | None = None
    """A column of the cell table that says `train` or `test` (or `val`) of every cell, as the publisher of a set has
    divided it; the share of val in `shares` is taken out of train where the column names none."""
    group_by: Literal["cell", "well", "plate"] = "cell"
    """What stays together: cells of one well leak its well effect when they stand on both sides."""
    shares: tuple[float, float, float] = (0.7, 0.1, 0.2)
    """Shares of train, val and test."""
    test_plates: tuple[str, ...] = ()
    """Plates that are the test part, whole; the others share train and val."""
    plates: tuple[str, ...] = ()
    """Only cells of these plates; all where nothing is given."""
    cells_per_class: int | None = Field(None, ge=2)
    """At most so many cells a class, taken evenly from all doses and plates."""
    seed: int = 0
    """Of the split alone, so that all training seeds see the same cells."""

    @model_validator(mode="after")
    def _shares_add_up(self) -> Settings:
        if min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-9 or self.shares[0] == 0:
            raise ValueError(f"shares must be three parts of 1, that of train above 0, got {list(self.shares)}")
        if self.treated is not None and self.classes is not None:
            raise ValueError("treated and classes are two ways to label cells; give one of them")
        if self.split_column is not None and self.test_plates:
            raise ValueError("split_column and test_plates are two ways to choose the test part; give one of them")
        return self

    def inputs(self) -> tuple[str, ...]:
        """Cells."""
        return ("segment",)


EXPLAINED = {"treated": Treated}
"""Tables within the section that `explain` lists too."""
