"""settings: the section [evaluate] of a recipe in, its validated settings out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from cellssl.config.settings import SettingsModel
from cellssl.engine.stage import StageSettings
from cellssl.profiling.normaliser import ChainSettings, chain
from cellssl.stages.shared.external_table import ExternalTable

ALGORITHM = 5
"""5: vectors are normalised by a chain, whose links may be fitted on the controls of every plate; controls that are
ranked among replicates fit nothing.
4: a feature that does not vary among controls is scaled by other plates or all cells, and is no longer 0; copies of
training cells among the test cells, and classes smaller than the neighbours of kNN, are counted.
3: external tables are read as text, and a collapse is reported.
2: intervals, cross-validation, profiles, mechanisms and retrieval beside one split; missing labels are no error."""


class Profiles(SettingsModel):
    """Profiles of wells and treatments, and the mechanism of the nearest treatment."""

    normalise: ChainSettings = Field(default_factory=lambda: chain("center_plate", "scale_pooled"))
    """How cells are normalised before they are combined to wells: a chain of links, as in [cluster], whose pooled parts
    are fitted on controls. nsc.csv has the results after some other chains, too."""
    aggregate: Literal["median", "mean"] = "median"
    """How cells are combined to a well, and wells to a treatment."""


class Retrieval(SettingsModel):
    """Mean average precision of well and treatment profiles."""

    controls: Literal["plate", "all"] = "plate"
    """The control wells among which the replicates of a well have to be found: those of its plate, or of all plates."""
    null_size: int = Field(10_000, ge=100)
    """Number of random rankings for a p-value, which cannot be below 1 / null_size."""
    alpha: float = Field(0.05, gt=0, lt=1)
    """A treatment or a mechanism counts as found where its corrected p-value is below this."""


class Settings(StageSettings):
    """Train simple classifiers on some cells and predict the labels of others; compare profiles of wells and
    treatments."""

    RENAMED: ClassVar[Mapping[str, str]] = {"strength": "C", "rounds": "bootstrap_draws", "shuffles": "label_shuffles"}
    label: str = "label"
    """The column that the classifiers predict: `label`, or `compound`, `moa`, `plate` …"""
    neighbours: int = Field(20, ge=1)
    """Number of neighbours of kNN."""
    C: float = Field(1.0, gt=0)
    """Inverse of the linear probe's regularisation; scikit-learn's C."""
    normalise: ChainSettings = Field(default_factory=lambda: chain("zscore", "l2", "center_plate"))
    """How the embeddings are normalised before classification: a chain, as in [cluster]. Its pooled parts are fitted on
    training cells; the location of a plate is that of its controls, of which no cell is used to normalise itself."""
    part: Literal["val", "test"] = "test"
    """The part of the split that is predicted; tune settings on val."""
    leave_out: tuple[Literal["plate", "well"], ...] = ("plate", "well")
    """Cross-validation over all labelled cells: each plate or each well is predicted by classifiers that are trained on
    the others."""
    max_folds: int = Field(20, ge=2)
    """Largest number of folds; where there are more plates or wells, a fold leaves out several."""
    max_cells: int = Field(20_000, ge=2)
    """Largest number of training cells, and of test cells; where there are more, a random sample of this size."""
    label_shuffles: int = Field(5, ge=1)
    """Number of times that all labels are shuffled and the part is predicted again, which shows the level of chance;
    cross-validation does it once."""
    bootstrap_draws: int = Field(1000, ge=100)
    """Number of bootstrap samples for intervals."""
    drop_blocks: bool = True
    """Whether joined vectors (embed.blocks) are also evaluated without each block, and each block alone, which shows
    what it adds: with each plate left out, or with the other schemes where there are fewer than two plates. It trains
    two more classifiers of each kind per block and fold."""
    profiles: Profiles = Profiles()
    """How cells become profiles of wells and treatments."""
    retrieval: Retrieval = Retrieval()
    """How mean average precision is computed from the profiles."""
    table: ExternalTable | None = None
    """An external table of vectors in place of this recipe's embeddings: a CSV or parquet file of cells or wells."""

    def inputs(self) -> tuple[str, ...]:
        """Return embed, or nothing where an external table is given."""
        return () if self.table else ("embed",)

    def external_files(self) -> dict[str, Path]:
        """Return the external table, where one is given."""
        return {"table": self.table.path} if self.table else {}


EXPLAINED = {"profiles": Profiles, "retrieval": Retrieval, "table": ExternalTable}
"""Tables within the section that `explain` lists too."""
