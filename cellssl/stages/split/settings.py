"""settings: the section [split] of a recipe in, its validated settings out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from cellssl.config.doses import Doses
from cellssl.config.settings import SettingsModel
from cellssl.engine.stage import StageSettings

ALGORITHM = 1


class Treated(SettingsModel):
    """Cells of the treated class."""

    compounds: tuple[str, ...] = Field(min_length=1)
    """Compounds, spelled as in the field table."""
    doses: Doses = "all"
    """All doses ("all"), the highest ones ("top 4"), or a list of doses in micromolar."""


class Settings(StageSettings):
    """Label the cells, and divide them into train, validation and test sets."""

    RENAMED: ClassVar[Mapping[str, str]] = {"given": "split_column", "by": "group_by"}
    treated: Treated | None = None
    """The treated class; the cells of the control wells are the other class. Without it, and without `classes`, cells
    have no labels and nothing is balanced."""
    classes: str | None = None
    """Instead of `treated`: a column of the cell table whose values are the classes, such as `class`, `compound` or
    `true_phenotype`; cells without a value are left out."""
    balance: bool = True
    """Whether every set has the same number of cells of each class; if false, all cells are used."""
    split_column: str | None = None
    """A column of the cell table that holds `train` or `test` (or `val`) for every cell, such as the official split of
    a data set. Where it holds no `val`, the validation share in `shares` is taken out of train."""
    group_by: Literal["cell", "well", "plate", "compound"] = "cell"
    """Unit that is never divided between sets. With `cell`, cells of one well are in train and in test, so the
    well effect leaks into every score. With `compound`, no compound of the test set is in training, at any dose or on
    any plate; controls, and cells without a compound, are divided by wells. With `classes = "moa"`, the compounds of
    each mechanism are divided by `shares`, rounded, so one with few compounds may have none in test. With
    `test_plates` or `split_column` this is an error, because these put a compound into train and into test."""
    shares: tuple[float, float, float] = (0.7, 0.1, 0.2)
    """Shares of train, val and test; they add up to 1, and a share may be 0 except that of train."""
    test_plates: tuple[str, ...] = ()
    """Plates whose cells are all in the test set; the other plates are divided into train and val."""
    plates: tuple[str, ...] = ()
    """Plates whose cells are used; all plates by default."""
    cells_per_class: int | None = Field(None, ge=2)
    """Largest number of cells per class, taken evenly from all doses and plates; no limit by default."""
    seed: int = 0
    """Seed of the split. It is independent of the training seeds, so that all of them use the same cells."""

    @model_validator(mode="after")
    def _shares_add_up(self) -> Settings:
        if min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-9 or self.shares[0] == 0:
            raise ValueError(f"shares must be three parts of 1, that of train above 0, got {list(self.shares)}")
        if self.treated is not None and self.classes is not None:
            raise ValueError("treated and classes are two ways to label cells; give one of them")
        if self.split_column is not None and self.test_plates:
            raise ValueError("split_column and test_plates are two ways to choose the test part; give one of them")
        if self.group_by == "compound" and (self.test_plates or self.split_column is not None):
            given = "test_plates" if self.test_plates else "split_column"
            raise ValueError(
                f'{given} chooses the test part, so group_by = "compound" cannot keep its compounds out of training; '
                f"leave out {given}, or group by something else"
            )
        return self

    def inputs(self) -> tuple[str, ...]:
        """Return the stage whose cells are read."""
        return ("segment",)


EXPLAINED = {"treated": Treated}
"""Tables within the section that `explain` lists too."""
