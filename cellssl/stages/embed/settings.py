"""settings: the section [embed] of a recipe in, its validated settings out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from cellssl.artifacts.anndata_file import check_h5py
from cellssl.artifacts.hub_names import is_hub_name
from cellssl.config.settings import NOT_IN_FINGERPRINT
from cellssl.engine.hub import hub_download
from cellssl.engine.stage import StageSettings
from cellssl.engine.weights_cache import Download
from cellssl.errors import UsageError
from cellssl.learning.view import ViewSettings
from cellssl.stages.embed.block_settings import MEASUREMENTS, UNTRAINED, BlockField, BlockSettings, Model
from cellssl.stages.pretrain.initial_weights import names_weights_file

ALGORITHM = 3
"""2: `features` holds texture, and the area and shape of the nucleus; 3: the even draw per well is embedded, too."""


class Settings(StageSettings):
    """Compute one vector per cell.

    `network`, `step`, `layer`, `branch` and `view` have no effect on models without a network. With `blocks`, they are
    the defaults of the blocks.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {"also": "formats"}
    model: Model = "pretrain"
    """The model. `pretrain`: this recipe's trained network. `random`: the same network, untrained. `imagenet`: the same
    network with its published weights, or those of encoder.weights, untrained. A .pth, .pt or .safetensors file: the
    same network with these weights, untrained. `intensities`: the mean of each channel. `features`: mean, standard
    deviation, percentiles and texture of each channel, and the area and shape of the nucleus. `cellprofiler`:
    CellProfiler's measurements of the nucleus, and of cell and cytoplasm where cells were segmented; needs
    cellssl[cellprofiler]. `neighbours`: how near and how close-packed the other nuclei of the field are. Anything else
    is an earlier pretrain artifact (folder, card file or fingerprint) or a shared model: its folder, or hf://OWNER/NAME,
    which is downloaded; @REVISION chooses a branch, tag or commit. A relative folder or card file starts from the
    current folder, a file of weights from that of the recipe."""
    blocks: tuple[BlockField, ...] = ()
    """Several models side by side, in place of one: words as of `model`, names of other arms, earlier artifacts, or
    tables with a name, a weight and options. Every block is an embed artifact of its own; the columns of the joined
    vectors are called BLOCK:FEATURE. Clusters and scores standardise every block and give it its share of a vector."""
    cells: Literal["split", "segment"] = "split"
    """The cells of the split, or every cell that was found."""
    cells_per_well: int = Field(300, ge=1)
    """Number of cells per well that are embedded besides, whether the split has them or not; all cells of a well that
    has fewer. wells.csv, doses and montages are made from this draw; it is even over the fields of a well."""
    network: Literal["query", "momentum"] = "query"
    """Which of the two encoders; `momentum` only where an objective has trained it."""
    step: Literal["lowest", "last"] = "lowest"
    """Which weights of a model trained with early stopping: those of the lowest validation loss, or the last."""
    layer: Literal["pooled", "flattened", "projector"] = "pooled"
    """`pooled`: the average over the crop of the encoder's last map. `flattened`: that last map in full. `projector`:
    the output of the trained projectors for the average, as the losses compare it: of unit length where they compare
    directions; for looc all spaces, concatenated (LooC++)."""
    branch: str | None = None
    """The branch whose projector is used; by default the outputs of all branches are concatenated, sorted by
    name."""
    view: ViewSettings = ()
    """Transforms that are drawn several times for every cell; its vector is the mean over the draws. By default
    the cell is embedded once, as it is."""
    draws: int = Field(8, ge=1)
    """How often the transforms of `view` are drawn for a cell."""
    formats: tuple[Literal["csv.gz", "h5ad"], ...] = ()
    """Other formats in which the same table is written too; h5ad is AnnData's and needs cellssl[anndata]."""
    accept: tuple[Literal["crop_px", "pixel_um", "scale"], ...] = Field((), json_schema_extra=NOT_IN_FINGERPRINT)
    """Differences between these cells and those of an earlier model that are known and accepted: the size of the crops
    or of a pixel, or how intensities are scaled and crops are masked. By default each of them is an error."""
    batch: int = Field(64, ge=1, json_schema_extra=NOT_IN_FINGERPRINT)
    """Number of cells per batch."""
    workers: int | None = Field(None, ge=1, json_schema_extra=NOT_IN_FINGERPRINT)
    """Number of processes in which `cellprofiler` measures; the number of cores by default."""

    def silent(self) -> frozenset[str]:
        """Return the settings without effect; a trained model counts by its fingerprint, not by how it was named."""
        if self.blocks:
            return frozenset({"model", "network", "step", "layer", "branch", "view", "draws"})  # of the blocks
        silent = ["model"] if self.model not in MEASUREMENTS else ["network", "step", "layer", "branch", "view"]
        if self.model in UNTRAINED or names_weights_file(self.model):
            silent += ["network", "step"]  # without training all encoders are equal
        if not self.view or self.model in MEASUREMENTS:
            silent.append("draws")
        return frozenset(silent)

    def counted_value(self, name: str) -> Any:
        """Return the value of a field as the fingerprint takes it: blocks by name and weight.

        What makes a block counts by the fingerprint of its own artifact.
        """
        if name != "blocks":
            return super().counted_value(name)
        return tuple({"name": block.called(), "weight": block.weight} for block in self.blocks)

    def measures(self) -> bool:
        """Return whether vectors are made without a network: measured, or joined from finished ones."""
        return bool(self.blocks) or self.model in MEASUREMENTS

    def pretrain_variant(self) -> str | Path | None:
        """Return "pretrain", "random", "imagenet" or a weights file for this recipe's network; None for other
        models.
        """
        if names_weights_file(self.model):
            return Path(self.model)
        return self.model if self.model in ("pretrain", *UNTRAINED) else None

    @model_validator(mode="after")
    def _check_projector(self) -> Settings:
        if self.layer == "projector" and self.pretrain_variant() not in ("pretrain", None):
            raise ValueError(
                f"model = {self.model!r} is untrained and has no projector; "
                'set embed.layer = "pooled" in the arm of this baseline'
            )
        if self.layer == "projector" and self.network == "momentum":
            raise ValueError('layer = "projector" goes with network = "query": only its projectors are trained')
        if self.branch is not None and self.layer != "projector":
            raise ValueError('branch chooses a projector, so it needs layer = "projector"')
        return self

    @model_validator(mode="after")
    def _check_blocks(self) -> Settings:
        if self.blocks and self.model != "pretrain":
            raise ValueError(
                f"model = {self.model!r} and blocks both say what makes a vector; write the model into blocks, or set "
                "embed.blocks = [] in this arm"
            )
        names = [block.called() for block in self.blocks]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(
                f"two blocks are called {twice[0]!r}; give one of them another name, such as "
                f'{{ name = "{twice[0]}-2", {self._as_table(names.index(twice[0]))} }}'
            )
        return self

    def _as_table(self, number: int) -> str:
        block = self.blocks[number]
        return f'arm = "{block.arm}"' if block.arm else f'model = "{block.source()}"'

    def inputs(self) -> tuple[str, ...]:
        """Return the stage of the cells, and pretrain where this recipe's own network is used."""
        uses = any(map(BlockSettings.is_own_network, self.blocks)) if self.blocks else self.pretrain_variant()
        return (self.cells, *(("pretrain",) if uses else ()))

    def artifact_references(self) -> dict[str, tuple[str | Path, tuple[str, ...]]]:
        """Return the earlier model, where one is named."""
        if self.blocks or self.pretrain_variant() or self.model in MEASUREMENTS:
            return {}
        return {"model": (self.model, ("pretrain",))}

    def downloads(self) -> list[Download]:
        """Return the model of a hub that is named."""
        return [hub_download(self.model)] if is_hub_name(self.model) and not self.blocks else []

    def check(self) -> None:
        """Raise UsageError where the library of the model or of a chosen format is missing."""
        if "h5ad" in self.formats:
            check_h5py('embed.formats = ["h5ad"]')
        if self.model == "cellprofiler" and find_spec("cp_measure") is None:
            raise UsageError(
                'embed.model = "cellprofiler" needs the library cp_measure', hint='pip install "cellssl[cellprofiler]"'
            )


EXPLAINED = {"blocks": BlockSettings}
"""Tables within the section that `explain` prints too."""
