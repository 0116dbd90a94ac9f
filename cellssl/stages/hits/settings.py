"""settings: the section [hits] of a recipe in, its validated settings out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from cellssl.engine.stage import StageSettings
from cellssl.profiling.normaliser import ChainSettings, chain
from cellssl.stages.shared.external_table import ExternalTable

ALGORITHM = 1


class Settings(StageSettings):
    """Find which treatments changed the cells, how sure that is, and what else could explain it.

    A treatment is a compound at a dose, and its wells are replicates.
    """

    normalise: ChainSettings = Field(default_factory=lambda: chain("center_plate", "scale_pooled", "clip"))
    """How cells are normalised before they are combined to wells: a chain of links, as in [cluster]; its links are
    fitted on controls, never on treated cells (with reference = "all", on all cells). Profiles of wells are then
    centred on the control wells of their plate."""
    aggregate: Literal["median", "mean", "quantiles"] = "median"
    """How cells are combined to the profile of a well; `quantiles` puts the 10, 50 and 90 % quantiles side by side."""
    min_cells: int = Field(10, ge=1)
    """Smallest number of cells of a well; the profile of fewer is biased where features are skewed, so that such wells
    look alike. A table with one row per well is taken as it is."""
    reference: Literal["controls", "all"] = "controls"
    """What treated wells are compared with: control wells, or all other wells of their plate. `all` needs no controls,
    and is right where most treatments do nothing."""
    similarity: Literal["cosine", "euclidean"] = "cosine"
    """How near two profiles are: by the angle between them, or by their distance."""
    controls: Literal["plate", "all"] = "all"
    """The control wells among which the replicates of a well have to be found: those of all plates, or of its plate
    alone, which are fewer, so that scores are coarser."""
    null: Literal["permutation", "random_ranks"] = "permutation"
    """What mean average precision is compared with. `permutation`: treated and control wells change their labels, and
    plates are centred again each time. `random_ranks`: rankings drawn at random, as in copairs 0.5, which takes the
    wells of a treatment as independent, so that plates on which nothing happens have hits."""
    permute_within: tuple[Literal["plate", "edge", "row", "column"], ...] = Field(("plate",), min_length=1)
    """Labels change only between wells that are equal in all of these, and always within a plate. With "edge", wells at
    the border of a plate are compared with control wells at the border: for plates with edge effects and treatments in
    fixed wells."""
    null_size: int = Field(10_000, ge=100)
    """Number of draws for a p-value. Those of permutations are doubled, as a precaution, and so not below
    2 / (null_size + 1)."""
    alpha: float = Field(0.05, gt=0, lt=1)
    """A treatment is active where its q-value (Benjamini and Hochberg) is below this."""
    bootstrap_draws: int = Field(1000, ge=100)
    """Number of bootstrap samples of wells for intervals."""
    table: ExternalTable | None = None
    """An external table of vectors in place of this recipe's embeddings: a CSV or parquet file of cells or wells."""

    def p_value_factor(self) -> int:
        """Return 2 for permutations, whose p-values are doubled.

        An exact test would call a treatment on 5 % of the screens on which nothing happens, as the q-values promise;
        doubled, it does on half of these, which leaves room for wells that are not quite exchangeable. Random ranks are
        as in copairs.
        """
        return 2 if self.null == "permutation" else 1

    def inputs(self) -> tuple[str, ...]:
        """Return embed, or nothing where an external table is given."""
        return () if self.table else ("embed",)

    def external_files(self) -> dict[str, Path]:
        """Return the external table, where one is given."""
        return {"table": self.table.path} if self.table else {}


EXPLAINED = {"table": ExternalTable}
"""Tables within the section that `explain` lists too."""
