"""settings: the section [cluster] of a recipe in, its validated settings out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from cellssl.config import plugins
from cellssl.config.settings import Plugin, PluginField
from cellssl.errors import UsageError
from cellssl.profiling.clusterer import ClustererSettings

if TYPE_CHECKING:
    pass


from cellssl.engine.stage import StageSettings

ALGORITHM = 2
"""2: every column has its shuffled labels and interval, there is a map, and pca_whiten takes less memory."""


CLUSTERERS = "cellssl.profiling.clusterers"


class Settings(StageSettings):
    """Find groups of alike cells, and compare them with what is known. With `assign_to` nothing is fitted, so `method`,
    `k`, `n_init` and `normalise` are those of the earlier clustering."""

    RENAMED: ClassVar[Mapping[str, str]] = {"starts": "n_init"}
    method: Annotated[Plugin, PluginField(CLUSTERERS)] = Field(
        default_factory=lambda: plugins.load(CLUSTERERS, "kmeans").Settings()
    )
    """How: a name, or a table with a name and its knobs; see `cellssl explain clusterers`."""
    k: int | tuple[int, int] = 2
    """Number of clusters; or the lowest and highest of a range such as [2, 8], of which the one with the highest
    silhouette is taken. Methods that find their own number take no notice."""
    n_init: int = Field(20, ge=1)
    """The method is begun so often, and the best is kept."""
    part: Literal["train", "val", "test", "all"] | None = None
    """Which cells; test where there is a split, else all."""
    normalise: Literal["none", "zscore", "l2", "pca_whiten"] = "none"
    """What is done to the embeddings before."""
    assign_to: str | None = None
    """An earlier cluster artifact: its normaliser and clusters are used, and nothing is fitted."""
    against: tuple[str, ...] | None = None
    """Columns that the clusters are compared with; where nothing is given, all of label, treatment, compound,
    dose_micromolar, moa, true_phenotype, plate, well and density that have more than one value."""
    montage_cells: int = Field(32, ge=1)
    """Cells nearest each centroid that are kept as pictures."""
    map: Literal["pca", "tsne", "umap"] = "pca"
    """Where a cell is drawn: on the principal components, by t-SNE, or by UMAP (needs cellssl[umap])."""

    @field_validator("k", mode="before")
    @classmethod
    def _number_or_range(cls, k: Any) -> Any:
        ends = k if isinstance(k, tuple) and len(k) == 2 else (k, k)
        if not all(type(end) is int for end in ends) or not 2 <= ends[0] <= ends[1]:
            raise ValueError("must be a whole number of 2 or more, or a range such as [2, 8]")
        return k

    def silent(self) -> frozenset[str]:
        """Return the fields without effect; an earlier clustering counts by its fingerprint, not by its name."""
        silent = ["assign_to"]
        if self.assign_to:
            silent += ["method", "k", "n_init", "normalise"]
        elif not self.clusterer().takes_k:
            silent += ["k", "n_init"]
        return frozenset(silent)

    def clusterer(self) -> ClustererSettings:
        """The method."""
        assert isinstance(self.method, ClustererSettings)
        return self.method

    def inputs(self) -> tuple[str, ...]:
        """Embeddings."""
        return ("embed",)

    def artifact_references(self) -> dict[str, tuple[str | Path, tuple[str, ...]]]:
        """The earlier clustering, where one is named."""
        return {"assign_to": (self.assign_to, ("cluster",))} if self.assign_to else {}

    def is_seeded(self) -> bool:
        """Most methods begin somewhere; an assignment does not."""
        return self.assign_to is None and self.clusterer().takes_seed

    def check(self) -> None:
        """Raise UsageError where a library is asked for that is not there."""
        if not self.assign_to:
            self.clusterer().check_installed()
        if self.map == "umap" and find_spec("umap") is None:
            raise UsageError('cluster.map = "umap" needs the library umap-learn', hint='pip install "cellssl[umap]"')
