"""settings: the section [cluster] of a recipe in, its validated settings out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from cellssl.config import plugins
from cellssl.config.settings import Plugin, PluginField
from cellssl.engine.stage import StageSettings
from cellssl.errors import UsageError
from cellssl.profiling.clusterer import ClustererSettings
from cellssl.profiling.normaliser import ChainSettings, chain

ALGORITHM = 4
"""4: embeddings are normalised by a chain, whose links may be fitted on the controls of every plate.
2: every column has shuffled labels and an interval; there is a map; pca_whiten takes less memory; 3: wells.csv has
every well, with the counts of segment and shares of an even draw; nucleus_size and field_position are scored."""
CLUSTERERS = "cellssl.profiling.clusterers"


def _number_or_range(k: Any) -> Any:
    ends = k if isinstance(k, tuple) and len(k) == 2 else (k, k)
    if not all(type(end) is int for end in ends) or not 2 <= ends[0] <= ends[1]:
        raise ValueError("must be a whole number of 2 or more, or a range such as [2, 8]")
    return k


AtLeastTwo = Annotated[int, Field(ge=2)]
Clusters = Annotated[
    int | tuple[int, int],
    BeforeValidator(_number_or_range, json_schema_input_type=AtLeastTwo | tuple[AtLeastTwo, AtLeastTwo]),
]
"""A number of clusters, or the lowest and the highest number."""


class Settings(StageSettings):
    """Find groups of similar cells, and compare them with what is known about the cells. With `assign_to` nothing is
    fitted: `method`, `k`, `n_init` and `normalise` are then those of the earlier clustering; links that take the
    location of a plate from its controls take it from the controls of these plates."""

    RENAMED: ClassVar[Mapping[str, str]] = {"starts": "n_init"}
    method: Annotated[Plugin, PluginField(CLUSTERERS)] = Field(
        default_factory=lambda: plugins.load(CLUSTERERS, "kmeans").Settings()
    )
    """The clustering method: a name, or a table with a name and settings; see `cellssl explain clusterers`."""
    k: Clusters = 2
    """Number of clusters; or a range such as [2, 8], of which the number with the highest silhouette is used. Methods
    that find the number themselves ignore it."""
    n_init: int = Field(20, ge=1)
    """Number of random starts of the method; the best result is kept."""
    part: Literal["train", "val", "test", "all"] | None = None
    """The part of the split that the clusters are fitted and scored on; by default test where there is a split, else
    all. Whatever the part, wells.csv, doses and montages are made from the even draw per well
    (embed.cells_per_well)."""
    normalise: ChainSettings = Field(default_factory=lambda: chain("zscore", "l2", "center_plate"))
    """How the embeddings are normalised before clustering: a chain of links, each a name or a table with a name and
    settings, in the order in which they are applied; see `cellssl explain normalisers`. One link alone needs no list,
    and "none" leaves the embeddings as they are."""
    assign_to: str | None = None
    """An earlier cluster artifact whose normaliser and clusters are applied to these cells; nothing is fitted."""
    against: tuple[str, ...] | None = None
    """Columns of the cell table that the clusters are compared with; by default label, treatment, compound,
    dose_micromolar, moa, true_phenotype, plate, well, control_well (the well, of control cells only), density,
    nucleus_size and field_position, as far as they have more than one value."""
    drop_blocks: bool = True
    """Whether joined vectors (embed.blocks) of cells with labels are also clustered without each block, and each block
    alone, which shows what it adds to the AMI with the label."""
    montage_cells: int = Field(32, ge=1)
    """Number of cells nearest to each centroid that the montage shows."""
    map: Literal["pca", "tsne", "umap"] = "pca"
    """How the map places cells in two dimensions: first two principal components, t-SNE, or UMAP (needs
    cellssl[umap])."""

    def silent(self) -> frozenset[str]:
        """Return the settings without effect; an earlier clustering counts by its fingerprint, not by its name."""
        ignored = ["assign_to"]
        if self.assign_to:
            ignored += ["method", "k", "n_init", "normalise", "drop_blocks"]
        elif not self.clusterer().takes_k:
            ignored += ["k", "n_init"]
        return frozenset(ignored)

    def clusterer(self) -> ClustererSettings:
        """Return the settings of the clustering method."""
        assert isinstance(self.method, ClustererSettings)
        return self.method

    def inputs(self) -> tuple[str, ...]:
        """Return embed."""
        return ("embed",)

    def artifact_references(self) -> dict[str, tuple[str | Path, tuple[str, ...]]]:
        """Return the earlier clustering, where one is named."""
        return {"assign_to": (self.assign_to, ("cluster",))} if self.assign_to else {}

    def is_seeded(self) -> bool:
        """Return whether the method starts at random; assigning cells to earlier clusters does not."""
        return self.assign_to is None and self.clusterer().takes_seed

    def check(self) -> None:
        """Raise UsageError where the method or the map needs a library that is not installed."""
        if not self.assign_to:
            self.clusterer().check_installed()
        if self.map == "umap" and find_spec("umap") is None:
            raise UsageError('cluster.map = "umap" needs the library umap-learn', hint='pip install "cellssl[umap]"')
