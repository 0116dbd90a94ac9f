"""settings: the section [evaluate] of a recipe in, its validated settings out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from cellssl.config.settings import SettingsModel
from cellssl.engine.stage import StageSettings
from cellssl.stages.evaluate.external_table import GivenTable

ALGORITHM = 3
"""3: given tables are read as text, a collapse is said.
2: intervals, cross-validation, profiles, mechanisms and retrieval beside one split; missing labels fail no more."""


OnControls = Literal["none", "robust_z", "percentile", "sphering"]


class Profiles(SettingsModel):
    """Profiles of wells and treatments, and the mechanism of the nearest treatment."""

    normalise: OnControls = "percentile"
    """What every plate is measured by before cells become wells: `robust_z` is median and MAD of its control cells,
    `percentile` their 1st to 99th percentile, `sphering` whitens after that by all controls. nsc.csv has them all."""
    aggregate: Literal["median", "mean"] = "median"
    """From cells to a well, and from wells to a treatment."""


class Retrieval(SettingsModel):
    """Mean average precision of well and treatment profiles."""

    controls: Literal["plate", "all"] = "plate"
    """The control wells that a well's replicates are to be told from: those of its own plate, or of all plates."""
    null_size: int = Field(10_000, ge=100)
    """Random rankings that a p-value is taken from; it cannot be below one in so many."""
    alpha: float = Field(0.05, gt=0, lt=1)
    """A treatment or mechanism is found where its corrected p-value is below this."""


class Settings(StageSettings):
    """Let simple classifiers learn from some cells and tell others, and compare profiles of wells and treatments."""

    RENAMED: ClassVar[Mapping[str, str]] = {"strength": "C", "rounds": "bootstrap_draws", "shuffles": "label_shuffles"}
    label: str = "label"
    """Which column is told: `label`, or `compound`, `moa`, `plate` …"""
    neighbours: int = Field(20, ge=1)
    """Neighbours that vote."""
    C: float = Field(1.0, gt=0)
    """Inverse of the linear probe's regularisation; scikit-learn's C."""
    normalise: Literal["none", "zscore", "l2", "pca_whiten"] = "zscore"
    """What is done to the embeddings before the classifiers, fitted on the cells that they learn from."""
    part: Literal["val", "test"] = "test"
    """Which part is told; what is tuned is tuned on val."""
    leave_out: tuple[Literal["plate", "well"], ...] = ("plate", "well")
    """Cross-validation over all labelled cells: each plate, each well is told by the others."""
    max_folds: int = Field(20, ge=2)
    """Where there are more plates or wells, several are left out at a time, so that it is done so often at most."""
    max_cells: int = Field(20_000, ge=2)
    """Cells that classifiers learn from, and cells that they tell; of more, so many are drawn."""
    label_shuffles: int = Field(5, ge=1)
    """So often all labels are shuffled and the part is told again, which is what chance gives; in cross-validation
    once."""
    bootstrap_draws: int = Field(1000, ge=100)
    """Draws of the bootstrap that intervals are taken from."""
    profiles: Profiles = Profiles()
    """How cells become profiles of wells and treatments."""
    retrieval: Retrieval = Retrieval()
    """How mean average precision is taken of the profiles."""
    table: GivenTable | None = None
    """Vectors from elsewhere in place of this recipe's embeddings: a CSV or parquet file of cells or wells."""

    def inputs(self) -> tuple[str, ...]:
        """Embeddings, unless a table is given."""
        return () if self.table else ("embed",)

    def external_files(self) -> dict[str, Path]:
        """Return the external table."""
        return {"table": self.table.path} if self.table else {}


EXPLAINED = {"profiles": Profiles, "retrieval": Retrieval, "table": GivenTable}
"""Tables within the section that `explain` lists too."""
