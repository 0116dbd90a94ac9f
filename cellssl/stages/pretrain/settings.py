"""settings: the section [pretrain] of a recipe in, its validated settings out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from cellssl.config import plugins
from cellssl.config.paths import NAME, FolderName
from cellssl.config.settings import NOT_IN_FINGERPRINT, PluginField, SettingsModel
from cellssl.engine.stage import StageSettings
from cellssl.engine.weights_cache import Download
from cellssl.errors import UsageError
from cellssl.learning.encoder import EncoderSettings
from cellssl.learning.objective import ObjectiveSettings
from cellssl.learning.training.compilation import Compile
from cellssl.learning.view import ViewSettings
from cellssl.stages.pretrain import initial_weights
from cellssl.stages.pretrain.initial_weights import ArtifactOrPath

ALGORITHM = 2
"""2: metrics hold the chance level, and the spread of projections relative to an even spread."""


OUT_OF_MEMORY_HINT = "lower pretrain.batch, pretrain.input_px, or the widths in the encoder and the objectives"
"""The hint of an error where memory is too small."""


class ViewPair(SettingsModel):
    """Settings of a branch whose query and key views have different transforms."""

    query: ViewSettings
    """Transforms of the first view. It is the query, in methods where not every view is both query and key."""
    key: ViewSettings
    """Transforms of all other views."""


class Positives(SettingsModel):
    """Settings of positives from metadata: the views of a cell besides the first are made of another training cell.

    Wells, sites and fields are those of one plate: wells of one name on two plates are two wells.
    """

    same: tuple[str, ...] = Field(("compound", "dose"), min_length=1)
    """Columns of the cell table in which the other cell has the same values: `compound`, `dose`, `moa`, `batch` …
    All control wells count as of one dose and one moa, so `same = ["moa"]` puts different control compounds together;
    `same = ["compound", "moa"]` keeps them apart. A cell without a value has no other cell."""
    other: tuple[str, ...] = Field(("well",), min_length=1)
    """Columns, in each of which the other cell has another value: `well`, `plate`, `batch` …"""
    share: float = Field(0.5, gt=0, le=1)
    """Share of the cells of a step that get another cell, of those that have one; the rest keep their own views."""
    mask_same: bool = True
    """Leave cells with the same values out of the negatives of each other, also former ones in a queue. For
    objectives with negatives: `moco`, `simclr`, `nnclr`; the others refuse `false`."""

    @model_validator(mode="after")
    def _same_or_other(self) -> Positives:
        both = {column_of(name) for name in self.same} & {column_of(name) for name in self.other}
        if both:
            raise ValueError(f"a cell cannot have both the same and another {', '.join(sorted(both))}")
        return self


def column_of(name: str) -> str:
    """Return the column of the cell table for the name of a column in a recipe."""
    return SHORT_NAMES.get(name, name)


def on_all_plates(columns: Iterable[str]) -> tuple[str, ...]:
    """Return the columns that together name their values on all plates."""
    return tuple(dict.fromkeys(one for column in columns for one in WITHIN.get(column, (column,))))


WITHIN: Mapping[str, tuple[str, ...]] = {"well": ("plate", "well"), "site": ("plate", "well", "site")}
"""Column -> the columns that name its values on all plates: B02 on two plates is two wells."""
SHORT_NAMES = {"dose": "dose_micromolar", "field": "field_id"}
"""Names of columns that a recipe may use besides their own."""


class BranchSettings(SettingsModel):
    """Settings of one branch: one loss on one set of views."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"required": ["views"]},
            "then": {"properties": {"view": False}},
            "else": {"required": ["view"]},
        }
    )
    weight: float = Field(1.0, ge=0)
    """Weight of this branch's loss in the sum of all branches; a branch of weight 0 is not run."""
    view: ViewSettings | None = None
    """Transforms, in order; their parameters are drawn anew for each view of a cell."""
    views: ViewPair | None = None
    """Used in place of `view` where query and key have different transforms."""
    objective: Annotated[ObjectiveSettings, PluginField("cellssl.learning.objectives")] = Field(
        default_factory=lambda: plugins.load("cellssl.learning.objectives", "moco").Settings()
    )
    """The loss: a name, or a table with a name and its settings."""
    positives: Positives | None = None
    """A table with `same`, `other` and `share`, so that also another cell of the same treatment in another well is a
    positive; by default only views of the same cell are. The model then learns from these columns."""

    @model_validator(mode="after")
    def _positives_fit(self) -> BranchSettings:
        if self.positives is not None and (reason := self.objective.NO_POSITIVES):
            name = self.objective.plugin_name()
            raise ValueError(f"{name} cannot take positives from metadata, because {reason}; leave out positives")
        if self.positives is not None and not self.positives.mask_same and not self.objective.HAS_NEGATIVES:
            name = self.objective.plugin_name()
            raise ValueError(f"{name} has no negatives, so positives.mask_same = false changes nothing; leave it out")
        return self

    @model_validator(mode="after")
    def _view_or_views(self) -> BranchSettings:
        if (self.view is None) == (self.views is None):
            raise ValueError("a branch needs either view or views.query and views.key")
        return self

    def learned_columns(self) -> tuple[str, ...]:
        """Return the columns of the cell table that serve as labels, of the objective or of positives.

        A well as positive is one of its plate, so the plate is learned, too.
        """
        same = [column_of(name) for name in self.positives.same] if self.positives is not None else []
        return tuple(dict.fromkeys([*self.objective.metadata_columns(), *on_all_plates(same)]))

    def view_transforms(self, views: int) -> list[ViewSettings]:
        """Return the transforms of each of so many views."""
        if self.views is not None:
            return [self.views.query, *[self.views.key] * (views - 1)]
        return [self.view or ()] * views


VALIDATION = 2
"""The ALGORITHM of early stopping alone. 2: the validation loss is computed as the training loss is, with batch norm by
the statistics of the batch and batches of one size; the last weights are kept, too."""


class EarlyStopping(SettingsModel):
    """Settings of early stopping.

    Training ends when the loss on the validation cells no longer falls. The result has the weights of the lowest
    validation loss; the last ones stand beside them (`embed.step`).
    """

    every_epochs: float = Field(1.0, gt=0)
    """Epochs between two measurements of the validation loss."""
    patience: int = Field(10, ge=1)
    """Measurements in a row without a new lowest loss after which training ends."""

    def fingerprint_values(self) -> dict[str, Any]:
        """Return what a fingerprint counts: the settings, and the algorithm."""
        return {**super().fingerprint_values(), "algorithm": VALIDATION}


class Settings(StageSettings):
    """Train an encoder without labels, on the training cells."""

    encoder: Annotated[EncoderSettings, PluginField("cellssl.learning.encoders")] = Field(
        default_factory=lambda: plugins.load("cellssl.learning.encoders", "vgg13").Settings()
    )
    """The network: a name, or a table with a name and its settings."""
    init_from: ArtifactOrPath | None = None
    """An earlier pretrain artifact (folder, card file or fingerprint), a shared model (its folder, or hf://OWNER/NAME)
    or a weights file; relative paths start from the folder of the recipe. Training starts from its encoder; heads,
    queues, optimiser and step start anew. To continue a stopped training this is not needed."""
    branches: dict[FolderName, BranchSettings] = Field(default_factory=dict)
    """One or several losses, each with its own views; training minimises their weighted sum."""
    input_px: int | None = Field(None, ge=8)
    """Side of the encoder's input in px; by default the side of the crops."""
    epochs: float = Field(400, ge=0)
    """Number of epochs: how often each branch uses every training cell."""
    batch: int = Field(128, ge=2)
    """Cells per step."""
    optimizer: Literal["adam", "adamw", "sgd", "lars"] = "adam"
    """SGD and LARS have a momentum of 0.9; biases and batch norm get no weight decay."""
    learning_rate: float = Field(0.001, gt=0)
    """Learning rate at its peak."""
    weight_decay: float = Field(0.0001, ge=0)
    """Decay of the weights; Adam adds it to the gradient, AdamW applies it separately."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Schedule of the learning rate after the warm-up."""
    warmup_epochs: float = Field(10, ge=0)
    """Epochs in which the learning rate rises to its peak; at most a tenth of all epochs is used."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of the gradient, which is scaled down to it; by default there is no clipping."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of convolutions; auto takes bfloat16 where the device has it. The fingerprint counts the setting as
    written; the precision that was used is in the card."""
    compile: Compile = "auto"
    """Whether torch.compile makes kernels for the encoder: the first step then takes longer, the others less
    time. auto does so on a GPU where it is possible; true is an error where it is not. The fingerprint counts the
    setting as written; the card says whether the encoder was compiled."""
    early_stopping: EarlyStopping | None = None
    """A table with `every_epochs` and `patience`; by default all epochs are run."""
    checkpoint_s: float = Field(60, ge=0, json_schema_extra=NOT_IN_FINGERPRINT)
    """Seconds between two checkpoints."""
    tensorboard: bool = Field(False, json_schema_extra=NOT_IN_FINGERPRINT)
    """Also write event files for TensorBoard into the artifact; needs cellssl[tensorboard]."""

    @field_validator("branches")
    @classmethod
    def _check_names(cls, branches: dict[str, BranchSettings]) -> dict[str, BranchSettings]:
        for name in branches:
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot be the name of a branch; use letters, digits, '.', '_', '+' and '-'")
        return branches

    @model_validator(mode="after")
    def _one_momentum(self) -> Settings:
        momenta = self._momenta()
        if len(momenta) > 1:
            raise ValueError(
                f"branches share one momentum encoder, so their momentum must be equal, got {sorted(momenta)}"
            )
        return self

    @model_validator(mode="after")
    def _one_start(self) -> Settings:
        if self.init_from is not None and self.encoder.given_weights() is not None:
            raise ValueError("init_from and encoder.weights both give the first weights; leave one of them out")
        return self

    def _momenta(self) -> set[float]:
        momenta = {branch.objective.encoder_momentum() for branch in self.active().values()}
        return {momentum for momentum in momenta if momentum is not None}

    def momentum(self) -> float | None:
        """Return the momentum of the momentum encoder; None where no objective has one."""
        return next(iter(self._momenta()), None)

    def active(self) -> dict[str, BranchSettings]:
        """Return the branches that are run, sorted by name, so that the order in the recipe does not change results."""
        return {name: branch for name, branch in sorted(self.branches.items()) if branch.weight > 0}

    def metadata_columns(self) -> tuple[str, ...]:
        """Return the columns of the cell table that the objectives learn from."""
        objectives = [branch.objective for branch in self.active().values()] if self.epochs > 0 else []
        return tuple(sorted({column for objective in objectives for column in objective.metadata_columns()}))

    def silent(self) -> frozenset[str]:
        """Return `init_from`: the artifact or file that it names counts by its content."""
        return frozenset({"init_from"})

    def counted_value(self, name: str) -> Any:
        """Return the value of a field as the fingerprint takes it; a branch of weight 0 is left out, and parts that are
        frozen where nothing is trained.
        """
        if name == "encoder" and self.epochs == 0:
            return initial_weights.without_frozen_parts(self.encoder)
        return self.active() if name == "branches" else super().counted_value(name)

    def untrained(self) -> Settings:
        """Return the same encoder with weights drawn from the seed and no training: the random baseline."""
        return Settings(encoder=initial_weights.without_weights(self.encoder), input_px=self.input_px, epochs=0)

    def published(self) -> Settings:
        """Return the same encoder with published weights, trained on photographs, and no training on the cells."""
        return Settings(encoder=initial_weights.with_published_weights(self.encoder), input_px=self.input_px, epochs=0)

    def with_file(self, file: Path) -> Settings:
        """Return the same encoder with the weights of a file, and no training."""
        return Settings(encoder=initial_weights.with_weights_file(self.encoder, file), input_px=self.input_px, epochs=0)

    def inputs(self) -> tuple[str, ...]:
        """Return the stage of the cells to train on."""
        return ("split",)

    def is_seeded(self) -> bool:
        """Return whether the seed draws weights, order or views; given weights without training need no seed."""
        given = self.encoder.given_weights(), self.init_from
        return self.epochs > 0 or given == (None, None)

    def artifact_references(self) -> dict[str, tuple[str | Path, tuple[str, ...]]]:
        """Return the earlier artifact to start from, where one is named."""
        return initial_weights.earlier_artifact(self.init_from)

    def external_files(self) -> dict[str, Path]:
        """Return the user's weights files, by their setting."""
        return initial_weights.external_files(self.encoder, self.init_from)

    def check(self) -> None:
        """Raise UsageError where no loss is set, or a library is missing, before any work is done."""
        self.encoder.check_installed()
        self.check_weights()
        if self.epochs > 0 and not self.active():
            raise UsageError(
                "pretrain has no branch with a weight above 0",
                hint='add one, such as [pretrain.branches.context] with view = [{ name = "rotate", degrees = 180 }]',
            )
        if self.tensorboard and find_spec("tensorboard") is None:
            raise UsageError(
                "pretrain.tensorboard needs the package tensorboard", hint="pip install 'cellssl[tensorboard]'"
            )

    def check_weights(self) -> None:
        """Raise UsageError where what is said of the first weights does not fit the network, or there are none."""
        initial_weights.check_licence(self.encoder, self.init_from)
        if self.epochs > 0:
            initial_weights.check_frozen_parts(self.encoder, self.init_from)

    def downloads(self) -> list[Download]:
        """Return the published weights to start from."""
        return initial_weights.downloads(self.encoder, self.init_from)


EXPLAINED = {
    "branches.NAME": BranchSettings,
    "branches.NAME.positives": Positives,
    "early_stopping": EarlyStopping,
}
"""Tables within the section that `explain` prints too."""
