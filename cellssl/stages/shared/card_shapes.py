"""card_shapes: the card of an artifact in; the metrics and settings that other stages read of it, typed, out."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cellssl.artifacts.contents import metrics_of, section_of
from cellssl.artifacts.store import Artifact
from cellssl.datasets.base import ControlType
from cellssl.profiling.blocks import Block, Blocks

LARGEST_INPUT_PX = 4096
"""Side of the largest input of a network: a forged card that claims more would take all memory."""


class CardShape(BaseModel):
    """Base of what is read of a card: other keys are ignored, and nothing is converted."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class Named(CardShape):
    """A plugin in a card."""

    name: str


class FetchSection(CardShape):
    """What is read of the settings of fetch."""

    dataset: Named
    controls: list[str] = Field(default_factory=list)


class FetchMetrics(CardShape):
    """What is read of the metrics of fetch."""

    fields: int
    quarantined: int = 0
    planned: int = 0
    sampled_of: int | None = None
    """All fields of the data set, where only a sample of them was fetched."""
    warning_kinds: dict[str, int] = Field(default_factory=dict)


class PlateSection(CardShape):
    """What is read of the settings of the part of one plate."""

    plate: str


class PlannedField(CardShape):
    """A field of a plate as its table describes it, whether it could be fetched or not."""

    field_id: str
    plate: str
    well: str
    site: int | str | None = None
    batch: str | None = None
    compound: str | None = None
    dose_micromolar: float | None = None
    moa: str | None = None
    pixel_um: float | None = None
    control_type: ControlType | None = None


class ImagesOfField(CardShape):
    """The images of a field of a plate that lie in its artifact: channel and file."""

    images: list[list[str]] = Field(default_factory=list)


class PlannedImages(CardShape):
    """What is read of the settings of a plate to see whether it has images of fields: those in it, and the user's."""

    fields: list[ImagesOfField]
    images: Any = None


class FetchedPlateSection(PlateSection):
    """What is read of the settings of the images of one plate."""

    controls: list[str]
    fields: list[PlannedField]


class ScaleSection(CardShape):
    """What is read of the settings of the intensity scale."""

    of: str
    pool: str
    headroom: float


class SegmentSection(CardShape):
    """What is read of the settings of segment."""

    reference: str
    scale: ScaleSection | None = None
    """None in earlier versions, whose scale was that of pixels."""


class LimitsSection(CardShape):
    """What is read of the settings of segment to say which limit dropped nuclei; the names are those of the recipe."""

    crop_px: int
    crop_um: float | None = None
    min_area_um2: float | None = None
    max_area_um2: float | None = None
    min_area_px: float | None = None
    max_area_px: float | None = None
    quality: dict[str, Any] = Field(default_factory=dict)


class DetectionMetrics(CardShape):
    """What is read of the metrics of the nuclei of one plate."""

    fields: int
    quarantined: int
    detected: int
    merged_lobes: int | None = None
    """Number of nuclei that became part of another one; None where lobes are not merged."""


class SegmentMetrics(DetectionMetrics):
    """What is read of the metrics of segment."""

    kept: int


class Leaks(CardShape):
    """How many fields, wells and plates have cells in train and in test."""

    fields_in_train_and_test: int
    wells_in_train_and_test: int
    plates_in_train_and_test: int


class SplitMetrics(CardShape):
    """What is read of the metrics of split."""

    counts: dict[str, int]
    leaks: Leaks
    unused_cells: int
    without_class: int = 0


class Treated(CardShape):
    """What counts as treated."""

    compounds: list[str]
    doses: Any = "all"


class SplitSection(CardShape):
    """What is read of the settings of split."""

    plates: list[str] = Field(default_factory=list)
    treated: Treated | None = None
    classes: str | None = None


class Branch(CardShape):
    """What is read of a branch of a training."""

    weight: float = Field(ge=0)
    objective: dict[str, Any] = Field(default_factory=dict)
    view: Any = None
    views: Any = None


class PretrainSection(CardShape):
    """What is read of the settings of pretrain."""

    encoder: Named
    branches: dict[str, Branch]
    epochs: float = Field(ge=0)
    batch: int = Field(ge=1)


class Expected(BaseModel):
    """How the cells of a model were prepared, setting by setting; what an earlier version did not know is missing."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False)

    channels: list[str] | None = None
    pixel_um: list[float] | None = None
    algorithm: int | None = None


class LowestValidation(CardShape):
    """Where the validation loss was lowest."""

    step: int


class FirstWeights(CardShape):
    """Where the first weights of a training came from, and under which licence."""

    source: str
    sha256: str | None = None
    licence: str
    licence_source: str = ""


class PretrainMetrics(CardShape):
    """What is read of the metrics of pretrain."""

    cells: int = Field(ge=1)
    channels: list[str] = Field(min_length=1)
    crop_px: int = Field(ge=1)
    input_px: int = Field(ge=1, le=LARGEST_INPUT_PX)
    steps: int = 0
    lowest_validation: LowestValidation | None = None
    expects: Expected | None = None
    weights: FirstWeights | None = None
    """None where they were drawn from the seed, and in earlier versions."""


class EmbedSection(CardShape):
    """What is read of the settings of embed."""

    cells: Literal["segment", "split"]
    model: str
    network: str = "query"
    cells_per_well: int = 0


class EmbeddedBlock(CardShape):
    """A block of columns of embeddings that join several models."""

    name: str
    dim: int = Field(ge=1)
    weight: float = Field(gt=0)
    learned: bool = True
    """Whether its model was trained on cells."""


class EmbedMetrics(CardShape):
    """What is read of the metrics of embed."""

    cells: int
    blocks: list[EmbeddedBlock] = Field(default_factory=list)


class Seeded(CardShape):
    """The settings of a stage that draws random numbers."""

    seed: int


class ClusterSection(CardShape):
    """What is read of the settings of cluster."""

    part: Literal["train", "val", "test", "all"] | None = None
    assign_to: Any = None
    map: Literal["pca", "tsne", "umap"] = "pca"


class HitsSection(CardShape):
    """What is read of the settings of hits."""

    reference: Literal["controls", "all"] = "controls"


class ShownTable(CardShape):
    """The table of a report that the command prints."""

    header: list[str]
    rows: list[list[str]]

    @model_validator(mode="after")
    def _check_widths(self) -> ShownTable:
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError("a row has another length than the header")
        return self


def pretrain_section(model: Artifact) -> PretrainSection:
    """Return the settings of a training, without validating what only a training reads."""
    return section_of(model, PretrainSection)


def pretrain_metrics(model: Artifact) -> PretrainMetrics:
    """Return what a training has been made on, and how long."""
    return metrics_of(model, PretrainMetrics)


def split_metrics(split: Artifact) -> SplitMetrics:
    """Return the counts of a split."""
    return metrics_of(split, SplitMetrics)


def segment_metrics(segment: Artifact) -> SegmentMetrics:
    """Return the counts of nuclei and fields."""
    return metrics_of(segment, SegmentMetrics)


def embed_blocks(embed: Artifact) -> Blocks:
    """Return the blocks of embeddings, in the order of their columns; none where one model has made them."""
    return tuple(Block(one.name, one.dim, one.weight) for one in metrics_of(embed, EmbedMetrics).blocks)


def embed_section(embed: Artifact) -> EmbedSection:
    """Return how vectors were made, and of which cells."""
    return section_of(embed, EmbedSection)
