"""settings: the section [pretrain] of a recipe in, its validated settings out."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from cellssl.config import plugins
from cellssl.config.paths import NAME
from cellssl.config.settings import NOT_IN_FINGERPRINT, Plugin, PluginField, SettingsModel
from cellssl.engine.weights_cache import Download
from cellssl.errors import UsageError
from cellssl.learning.view import ViewSettings
from cellssl.stages.pretrain import initial_weights
from cellssl.stages.pretrain.initial_weights import ArtifactOrPath, is_weights_file

if TYPE_CHECKING:
    pass


from cellssl.engine.stage import StageSettings

ALGORITHM = 2
"""2: the lines of metrics hold the chance level and the spread of projections relative to an even one."""


OUT_OF_MEMORY_HINT = "lower pretrain.batch or input_px, or what is wide in the encoder and the objectives"
"""What to do where memory does not suffice."""


class ViewPair(SettingsModel):
    """Different views for the two sides."""

    query: ViewSettings
    """Transforms of the first view: the query, where each view is not both."""
    key: ViewSettings
    """Transforms of all others."""


class BranchSettings(SettingsModel):
    """One loss on one choice of views."""

    weight: float = Field(1.0, ge=0)
    """Of this branch's loss in the sum; a branch with 0 is not run."""
    view: ViewSettings | None = None
    """Transforms, in order; drawn anew for each view of a cell."""
    views: ViewPair | None = None
    """In place of `view`, where query and key differ."""
    objective: Annotated[Plugin, PluginField("cellssl.learning.objectives")] = Field(
        default_factory=lambda: plugins.load("cellssl.learning.objectives", "moco").Settings()
    )
    """The loss: a name, or a table with a name and its knobs."""

    @model_validator(mode="after")
    def _one_of_both(self) -> BranchSettings:
        if (self.view is None) == (self.views is None):
            raise ValueError("a branch needs either view or views.query and views.key")
        return self

    def view_transforms(self, views: int) -> list[ViewSettings]:
        """The transforms of every view."""
        if self.views is not None:
            return [self.views.query, *[self.views.key] * (views - 1)]
        return [self.view or ()] * views


class EarlyStopping(SettingsModel):
    """End when the loss on the validation cells no longer falls; the weights of its lowest point are the result."""

    every_epochs: float = Field(1.0, gt=0)
    """Between two looks at the validation cells."""
    patience: int = Field(10, ge=1)
    """Looks in a row without a new lowest loss, after which training ends."""


class Settings(StageSettings):
    """Learn without labels, from the training cells."""

    encoder: Annotated[Plugin, PluginField("cellssl.learning.encoders")] = Field(
        default_factory=lambda: plugins.load("cellssl.learning.encoders", "vgg13").Settings()
    )
    """The network: a name, or a table with a name and its knobs."""
    init_from: ArtifactOrPath | None = None
    """An earlier pretrain artifact (folder, card file, fingerprint) or a file of weights whose encoder this training
    starts from; heads, queues, optimiser and step begin anew. A training that was stopped needs none of this."""
    branches: dict[str, BranchSettings] = Field(default_factory=dict)
    """One or several losses, each with its own views; their weighted sum is learned."""
    input_px: int | None = Field(None, ge=8)
    """Side of what the encoder sees; the crops' own side where nothing is given."""
    epochs: float = Field(400, ge=0)
    """How often every training cell is seen, in each branch."""
    batch: int = Field(128, ge=2)
    """Cells a step."""
    optimizer: Literal["adam", "adamw", "sgd", "lars"] = "adam"
    """SGD and LARS have a momentum of 0.9; biases and batch norm do not decay."""
    learning_rate: float = Field(0.001, gt=0)
    """Its peak."""
    weight_decay: float = Field(0.0001, ge=0)
    """Of weights; in Adam as a part of the gradient, in AdamW apart from it."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate after warming up."""
    warmup_epochs: float = Field(10, ge=0)
    """Epochs in which the learning rate rises to its peak; at most a tenth of all are used."""
    clip_norm: float | None = Field(None, gt=0)
    """Longest gradient; not clipped where nothing is given."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of convolutions; auto takes bfloat16 where the device has it. Counts as written; what ran is in the card."""
    early_stopping: EarlyStopping | None = None
    """A table with `every_epochs` and `patience`; all epochs are done where nothing is given."""
    checkpoint_s: float = Field(60, ge=0, json_schema_extra=NOT_IN_FINGERPRINT)
    """Seconds between two checkpoints."""
    tensorboard: bool = Field(False, json_schema_extra=NOT_IN_FINGERPRINT)
    """Write event files for TensorBoard into the artifact too; needs cellssl[tensorboard]."""

    @field_validator("branches")
    @classmethod
    def _named_well(cls, branches: dict[str, BranchSettings]) -> dict[str, BranchSettings]:
        for name in branches:
            if not NAME.fullmatch(name):
                raise ValueError(f"a branch cannot be called {name!r}; use letters, digits, '.', '_', '+' and '-'")
        return branches

    @model_validator(mode="after")
    def _one_momentum(self) -> Settings:
        pace = self._momenta()
        if len(pace) > 1:
            raise ValueError(f"branches share one momentum encoder, so their momentum must be one, got {sorted(pace)}")
        return self

    @model_validator(mode="after")
    def _one_start(self) -> Settings:
        if self.init_from is not None and getattr(self.encoder, "weights", None) is not None:
            raise ValueError("init_from and encoder.weights both say where training starts; leave one of them out")
        return self

    def _momenta(self) -> set[float]:
        return {branch.objective.momentum for branch in self.active().values() if hasattr(branch.objective, "momentum")}

    def momentum(self) -> float | None:
        """How slowly the momentum encoder follows; None where no objective has one."""
        return next(iter(self._momenta()), None)

    def active(self) -> dict[str, BranchSettings]:
        """The branches that are run, by name: the order in the recipe decides neither sums nor the optimiser's rows."""
        return {name: branch for name, branch in sorted(self.branches.items()) if branch.weight > 0}

    def metadata_columns(self) -> tuple[str, ...]:
        """Columns of the cell table that the objectives learn from."""
        objectives: list[Any] = [branch.objective for branch in self.active().values()] if self.epochs > 0 else []
        return tuple(sorted({column for objective in objectives for column in objective.columns()}))

    def non_default(self) -> dict[str, Any]:
        """What counts; a branch of weight 0 equals its absence, and an artifact or a file counts by its content."""
        counted = super().non_default()
        if counted.pop("init_from", None) and is_weights_file(self.init_from):
            counted["init_from"] = "file"
        active = {name: branch.non_default() for name, branch in self.active().items()}
        counted.pop("branches", None)
        return {**counted, **({"branches": active} if active else {})}

    def untrained(self) -> Settings:
        """The same encoder as the seed draws it: the random baseline."""
        return Settings(encoder=initial_weights.without_weights(self.encoder), input_px=self.input_px, epochs=0)

    def published(self) -> Settings:
        """The same encoder with weights from elsewhere, and no training: what photographs alone have taught it."""
        return Settings(encoder=initial_weights.with_published_weights(self.encoder), input_px=self.input_px, epochs=0)

    def with_file(self, file: Path) -> Settings:
        """The same encoder with the weights in a file, and no training."""
        return Settings(encoder=initial_weights.with_weights_file(self.encoder, file), input_px=self.input_px, epochs=0)

    def inputs(self) -> tuple[str, ...]:
        """Cells to train on."""
        return ("split",)

    def is_seeded(self) -> bool:
        """Weights, order and views; nothing where given weights stay as they are."""
        given = getattr(self.encoder, "weights", None), self.init_from
        return self.epochs > 0 or given == (None, None)

    def artifact_references(self) -> dict[str, tuple[str | Path, tuple[str, ...]]]:
        """An earlier model to start from, where one is named."""
        return initial_weights.earlier_artifact(self)

    def external_files(self) -> list[Path]:
        """The user's files of weights."""
        return initial_weights.external_files(self)

    def check(self) -> None:
        """Raise UsageError where there is nothing to learn or to learn with, before anything is made for it."""
        encoder: Any = self.encoder
        encoder.check_installed()
        if self.epochs > 0 and not self.active():
            raise UsageError(
                "pretrain has no branch with a weight above 0",
                hint='such as [pretrain.branches.context] with view = [{ name = "rotate", degrees = 180 }]',
            )
        if self.tensorboard and find_spec("tensorboard") is None:
            raise UsageError(
                "pretrain.tensorboard needs the package tensorboard", hint="pip install 'cellssl[tensorboard]'"
            )

    def downloads(self) -> list[Download]:
        """The published weights to start from."""
        return initial_weights.downloads(self)


EXPLAINED = {"branches.NAME": BranchSettings, "early_stopping": EarlyStopping}
"""Tables within the section that `explain` lists too."""
