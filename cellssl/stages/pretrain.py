"""pretrain: a split in, an encoder that has learned to ignore the chosen views' changes out."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from cellssl import rooms
from cellssl.artifacts.atomic import replacing
from cellssl.artifacts.tables import read_cells, read_table
from cellssl.errors import UsageError
from cellssl.events import Event
from cellssl.learning.view import ViewSettings
from cellssl.recipe import NAME
from cellssl.settings import NOT_COUNTED, OfRoom, Part, Strict
from cellssl.stages import _weights
from cellssl.stages._cells import ScaledCrops, scaled_crops, segment_below
from cellssl.stages._downloads import Download
from cellssl.stages._make import Job, Metrics
from cellssl.stages._weights import ArtifactOrPath, is_file_of_weights

if TYPE_CHECKING:
    import torch

    from cellssl.learning.known import Known
    from cellssl.learning.loop import Plan
    from cellssl.learning.processes import Seat
    from cellssl.learning.state import TrainState
    from cellssl.stages._training import Validation

ALGORITHM = 2
"""2: the lines of metrics hold the chance level and the spread of projections relative to an even one."""


SMALLER = "lower pretrain.batch or input_px, or what is wide in the encoder and the objectives"
"""What to do where memory does not suffice."""


class ViewPair(Strict):
    """Different views for the two sides."""

    query: ViewSettings
    """Transforms of the first view: the query, where each view is not both."""
    key: ViewSettings
    """Transforms of all others."""


class BranchSettings(Strict):
    """One loss on one choice of views."""

    weight: float = Field(1.0, ge=0)
    """Of this branch's loss in the sum; a branch with 0 is not run."""
    view: ViewSettings | None = None
    """Transforms, in order; drawn anew for each view of a cell."""
    views: ViewPair | None = None
    """In place of `view`, where query and key differ."""
    objective: Annotated[Part, OfRoom("cellssl.learning.objectives")] = Field(
        default_factory=lambda: rooms.load("cellssl.learning.objectives", "moco").Settings()
    )
    """The loss: a name, or a table with a name and its knobs."""

    @model_validator(mode="after")
    def _one_of_both(self) -> BranchSettings:
        if (self.view is None) == (self.views is None):
            raise ValueError("a branch needs either view or views.query and views.key")
        return self

    def drawn(self, views: int) -> list[ViewSettings]:
        """The transforms of every view."""
        if self.views is not None:
            return [self.views.query, *[self.views.key] * (views - 1)]
        return [self.view or ()] * views


class EarlyStopping(Strict):
    """End when the loss on the validation cells no longer falls; the weights of its lowest point are the result."""

    every_epochs: float = Field(1.0, gt=0)
    """Between two looks at the validation cells."""
    patience: int = Field(10, ge=1)
    """Looks in a row without a new lowest loss, after which training ends."""


class Settings(Strict):
    """Learn without labels, from the training cells."""

    encoder: Annotated[Part, OfRoom("cellssl.learning.encoders")] = Field(
        default_factory=lambda: rooms.load("cellssl.learning.encoders", "vgg13").Settings()
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
    checkpoint_s: float = Field(60, ge=0, json_schema_extra=NOT_COUNTED)
    """Seconds between two checkpoints."""
    tensorboard: bool = Field(False, json_schema_extra=NOT_COUNTED)
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
        pace = self._paces()
        if len(pace) > 1:
            raise ValueError(f"branches share one momentum encoder, so their momentum must be one, got {sorted(pace)}")
        return self

    @model_validator(mode="after")
    def _one_start(self) -> Settings:
        if self.init_from is not None and getattr(self.encoder, "weights", None) is not None:
            raise ValueError("init_from and encoder.weights both say where training starts; leave one of them out")
        return self

    def _paces(self) -> set[float]:
        return {branch.objective.momentum for branch in self.active().values() if hasattr(branch.objective, "momentum")}

    def momentum(self) -> float | None:
        """How slowly the momentum encoder follows; None where no objective has one."""
        return next(iter(self._paces()), None)

    def active(self) -> dict[str, BranchSettings]:
        """The branches that are run, by name: the order in the recipe decides neither sums nor the optimiser's rows."""
        return {name: branch for name, branch in sorted(self.branches.items()) if branch.weight > 0}

    def asked(self) -> tuple[str, ...]:
        """Columns of the cell table that the objectives learn from."""
        objectives: list[Any] = [branch.objective for branch in self.active().values()] if self.epochs > 0 else []
        return tuple(sorted({column for objective in objectives for column in objective.columns()}))

    def changed(self) -> dict[str, Any]:
        """What counts; a branch of weight 0 equals its absence, and an artifact or a file counts by its content."""
        counted = super().changed()
        if counted.pop("init_from", None) and is_file_of_weights(self.init_from):
            counted["init_from"] = "file"
        active = {name: branch.changed() for name, branch in self.active().items()}
        counted.pop("branches", None)
        return {**counted, **({"branches": active} if active else {})}

    def untrained(self) -> Settings:
        """The same encoder as the seed draws it: the random baseline."""
        return Settings(encoder=_weights.unpublished(self.encoder), input_px=self.input_px, epochs=0)

    def published(self) -> Settings:
        """The same encoder with weights from elsewhere, and no training: what photographs alone have taught it."""
        return Settings(encoder=_weights.published(self.encoder), input_px=self.input_px, epochs=0)

    def with_file(self, file: Path) -> Settings:
        """The same encoder with the weights in a file, and no training."""
        return Settings(encoder=_weights.with_file(self.encoder, file), input_px=self.input_px, epochs=0)


EXPLAINED = {"branches.NAME": BranchSettings, "early_stopping": EarlyStopping}
"""Tables within the section that `explain` lists too."""


def inputs(settings: Settings) -> tuple[str, ...]:
    """Cells to train on."""
    return ("split",)


def seeded(settings: Settings) -> bool:
    """Weights, order and views; nothing where given weights stay as they are."""
    given = getattr(settings.encoder, "weights", None), settings.init_from
    return settings.epochs > 0 or given == (None, None)


def references(settings: Settings) -> dict[str, tuple[str | Path, tuple[str, ...]]]:
    """An earlier model to start from, where one is named."""
    return _weights.earlier(settings)


def outside(settings: Settings) -> list[Path]:
    """The user's files of weights."""
    return _weights.outside_files(settings)


def check(settings: Settings) -> None:
    """Raise UsageError where there is nothing to learn or to learn with, before anything is made for it."""
    encoder: Any = settings.encoder
    encoder.check_installed()
    if settings.epochs > 0 and not settings.active():
        raise UsageError(
            "pretrain has no branch with a weight above 0",
            hint='such as [pretrain.branches.context] with view = [{ name = "rotate", degrees = 180 }]',
        )
    if settings.tensorboard and find_spec("tensorboard") is None:
        raise UsageError(
            "pretrain.tensorboard needs the package tensorboard", hint="pip install 'cellssl[tensorboard]'"
        )


def downloads(settings: Settings) -> list[Download]:
    """The published weights to start from."""
    return _weights.downloads(settings)


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Train, or go on training, and write the networks."""
    from cellssl.learning.processes import Seat
    from cellssl.stages._training import stopping_all, trained

    with _ready(job, Seat.from_environment()) as (state, plan, validation, crops):
        job.ran.update(
            device=str(plan.device),
            precision=str(plan.dtype).removeprefix("torch."),
            processes=plan.group.seat.count,
            started_from=_weights.source_of(job) or "weights drawn from the seed",
            batch_norm=_batch_norm(state.encoder, plan.group.seat.count),
        )
        with stopping_all(state, plan, validation):
            yield from _begin(job, state)
            yield from trained(
                state,
                plan,
                job.draft,
                checkpoint_s=job.settings.checkpoint_s,
                validation=validation,
                tensorboard=job.settings.tensorboard,
            )
    last = _last_metrics(job.draft.file("metrics.jsonl"))
    _write_networks(job, state)
    if last:
        _draw_curves(job)
    lowest = {"loss": state.lowest.loss, "step": state.lowest.step} if state.lowest.step else None
    return {
        "cells": len(crops),
        "channels": crops.channels,
        "crop_px": crops.shape[-1],
        "input_px": plan.side_px,
        "steps": last.get("step", 0),
        "lowest_validation": lowest,
        "last": last,
    }


def assist(job: Job) -> None:
    """Take part in a training that the first of several processes leads; nothing is written here."""
    from cellssl.learning.processes import Seat
    from cellssl.stages._training import followed

    with _ready(job, Seat.from_environment()) as (state, plan, validation, _):
        list(_begin(job, state))
        followed(state, plan, job.draft, validation)


def _begin(job: Job, state: TrainState) -> Iterator[Event]:
    """First weights from elsewhere, where they are asked for; a checkpoint has gone on from them already."""
    from cellssl.stages._training import Checkpoints

    if not Checkpoints.of(job.draft).last.is_file():
        yield from _weights.begin(job, state)


@contextmanager
def _ready(job: Job, seat: Seat) -> Iterator[tuple[TrainState, Plan, Validation | None, ScaledCrops]]:
    """Everything at step 0, in company of the other processes where there are any."""
    from cellssl.learning.memory import enough_memory, keep_freed_memory

    keep_freed_memory()
    from cellssl.learning.machine import device_for
    from cellssl.learning.processes import tell_the_others, together
    from cellssl.stages._networks import prepare

    crops, cell_ids = cells_of(job, "train")
    device = device_for(job.bench.device, seat)
    tell_the_others(seat, job.card.fingerprint, begins=True)
    with together(seat, device) as group, enough_memory(SMALLER):
        state, plan = prepare(job.settings, crops, cell_ids, job.seed or 0, device, group, known_of(job))
        yield state, plan, _validation(job, plan), crops


def cells_of(job: Job, part: Literal["train", "val"]) -> tuple[ScaledCrops, list[str]]:
    """The crops and ids of a part of the split, in its order."""
    split = job.inputs["split"]
    segment = segment_below(split, job.bench.store)
    table = read_table(split.file("split.parquet"))
    chosen = table.loc[table["split"] == part, ["cell_id"]]
    cells = chosen.merge(read_cells(segment), on="cell_id", how="left", validate="one_to_one")
    if cells.empty:
        raise UsageError(f"the split has no {part} cells", hint="give each part a share above 0 in split.shares")
    return scaled_crops(segment, job.bench.store, cells), list(cells["cell_id"])


def known_of(job: Job) -> Known:
    """What the objectives ask about the cells of the split, whichever part these are in.

    UsageError where nobody knows it of any cell.
    """
    from cellssl.learning.known import NOTHING_KNOWN, Known
    from cellssl.stages._networks import keys_of
    from cellssl.stages.embed import chosen_cells

    wanted = job.settings.asked()
    if not wanted:
        return NOTHING_KNOWN
    split = job.inputs["split"]
    cells = chosen_cells(split, segment_below(split, job.bench.store))
    for column in wanted:
        if column not in cells or cells[column].isna().all():
            raise UsageError(
                f"an objective learns from the column {column!r}, which no cell has",
                hint="set split.treated for labels; for compounds and doses, the field table of [fetch] must have them",
            )
    told = cells[list(wanted)].astype(object).where(cells[list(wanted)].notna(), None)
    return Known.about(keys_of(list(cells["cell_id"])), {name: list(told[name]) for name in wanted})


def _validation(job: Job, plan: Plan) -> Validation | None:
    """How the loss on the validation cells is measured, where training may end early."""
    from functools import partial

    from cellssl.learning.validation import validation_loss
    from cellssl.stages._networks import keys_of, reader
    from cellssl.stages._training import Validation

    stopping = job.settings.early_stopping
    if stopping is None or plan.steps == 0:
        return None
    crops, cell_ids = cells_of(job, "val")
    read = reader(crops, plan.device, held=False)  # looked at now and then: no memory is spent on them
    loss = partial(validation_loss, read=read, cell_keys=keys_of(cell_ids))
    return Validation(loss, max(1, plan.batches.steps(stopping.every_epochs)), stopping.patience)


def _batch_norm(encoder: torch.nn.Module, processes: int) -> str:
    """What the statistics of batch norm are of, and so what they tell of a cell's neighbours in the batch."""
    from torch import nn

    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in encoder.modules()):
        return "none"
    whose = "this process" if processes == 1 else f"all {processes} processes"
    return f"over all cells and views of a batch, of {whose}; a cell's features tell a little of the others'"


def _last_metrics(metrics: Path) -> dict[str, Any]:
    lines = metrics.read_text(encoding="utf-8").splitlines()
    last: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return last


def _draw_curves(job: Job) -> None:
    from cellssl.reporting import style
    from cellssl.stages._curves import training_curves

    figure = training_curves(job.draft.file("metrics.jsonl"), job.draft.extra("timings.jsonl"))
    job.draft.extra("curves.png").write_bytes(style.png(figure))


def _write_networks(job: Job, state: TrainState) -> None:
    from safetensors.torch import save

    networks = {"encoder": state.encoder, "momentum_encoder": state.momentum_encoder, "heads": state.objectives}
    for name, network in networks.items():
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in network.state_dict().items()}
        with replacing(job.draft.file(f"{name}.safetensors")) as beside:
            beside.write_bytes(save(tensors))  # save_file would make a file that only its owner can read
