"""pretrain: a split in, an encoder that has learned to ignore the chosen views' changes out."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import numpy as np
from pydantic import Field, field_validator, model_validator

from cellssl import rooms
from cellssl.artifacts.atomic import replacing, write_text
from cellssl.artifacts.tables import read_cells, read_table
from cellssl.errors import UsageError
from cellssl.events import Event, Note, Saved
from cellssl.recipe import NAME
from cellssl.settings import NOT_COUNTED, OfRoom, Part, Strict
from cellssl.stages._cells import ScaledCrops, scaled_crops, segment_below
from cellssl.stages._make import Job, Metrics

if TYPE_CHECKING:
    import torch

    from cellssl.learning.loop import Branch, Plan
    from cellssl.learning.state import TrainState

ALGORITHM = 1
Views = tuple[Annotated[Part, OfRoom("cellssl.learning.views")], ...]


class ViewPair(Strict):
    """Different views for the two sides."""

    query: Views
    """Transforms of the view that the trained encoder looks at."""
    key: Views
    """Transforms of the view that the momentum encoder looks at."""


class BranchSettings(Strict):
    """One loss on one choice of views."""

    weight: float = Field(1.0, ge=0)
    """Of this branch's loss in the sum; a branch with 0 is not run."""
    view: Views | None = None
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

    def drawn(self, views: int) -> list[Views]:
        """The transforms of every view."""
        if self.views is not None:
            return [self.views.query, *[self.views.key] * (views - 1)]
        return [self.view or ()] * views


class Settings(Strict):
    """Learn without labels, from the training cells."""

    encoder: Annotated[Part, OfRoom("cellssl.learning.encoders")] = Field(
        default_factory=lambda: rooms.load("cellssl.learning.encoders", "vgg13").Settings()
    )
    """The network: a name, or a table with a name and its knobs."""
    branches: dict[str, BranchSettings] = Field(default_factory=dict)
    """One or several losses, each with its own views; their weighted sum is learned."""
    input_px: int | None = Field(None, ge=8)
    """Side of what the encoder sees; the crops' own side where nothing is given."""
    epochs: float = Field(400, ge=0)
    """How often every training cell is seen, in each branch."""
    batch: int = Field(128, ge=2)
    """Cells a step."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """SGD has a momentum of 0.9; biases and batch norm do not decay."""
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
    checkpoint_s: float = Field(60, ge=0, json_schema_extra=NOT_COUNTED)
    """Seconds between two checkpoints."""

    @field_validator("branches")
    @classmethod
    def _named_well(cls, branches: dict[str, BranchSettings]) -> dict[str, BranchSettings]:
        for name in branches:
            if not NAME.fullmatch(name):
                raise ValueError(f"a branch cannot be called {name!r}; use letters, digits, '.', '_', '+' and '-'")
        return branches

    @model_validator(mode="after")
    def _one_momentum(self) -> Settings:
        pace = {branch.objective.momentum for branch in self.active().values() if hasattr(branch.objective, "momentum")}
        if len(pace) > 1:
            raise ValueError(f"branches share one momentum encoder, so their momentum must be one, got {sorted(pace)}")
        return self

    def active(self) -> dict[str, BranchSettings]:
        """The branches that are run, by name: the order in the recipe decides neither sums nor the optimiser's rows."""
        return {name: branch for name, branch in sorted(self.branches.items()) if branch.weight > 0}

    def changed(self) -> dict[str, Any]:
        """What counts; a branch of weight 0 equals its absence."""
        counted = super().changed()
        active = {name: branch.changed() for name, branch in self.active().items()}
        counted.pop("branches", None)
        return {**counted, **({"branches": active} if active else {})}

    def untrained(self) -> Settings:
        """The same encoder as it starts: the random baseline."""
        return Settings(encoder=self.encoder, input_px=self.input_px, epochs=0)


EXPLAINED = {"branches.NAME": BranchSettings}
"""Tables within the section that `explain` lists too."""


def inputs(settings: Settings) -> tuple[str, ...]:
    """Cells to train on."""
    return ("split",)


def seeded(settings: Settings) -> bool:
    """Weights, order and views."""
    return True


def outside(settings: Settings) -> list[Path]:
    """No files of the user."""
    return []


def check(settings: Settings) -> None:
    """Raise UsageError where there is nothing to learn, before anything is made for it."""
    if settings.epochs > 0 and not settings.active():
        raise UsageError(
            "pretrain has no branch with a weight above 0",
            hint='such as [pretrain.branches.context] with view = [{ name = "rotate", degrees = 180 }]',
        )


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Train, or go on training, and write the networks."""
    from cellssl.learning.machine import device_for

    crops, cell_ids = training_cells(job)
    device = device_for(job.bench.device)
    state, plan = prepare(job.settings, crops, cell_ids, job.seed or 0, device)
    checkpoint = job.draft.scratch() / "last.ckpt"
    job.ran.update(device=str(device), precision=str(plan.dtype).removeprefix("torch."))
    if checkpoint.is_file():
        state.load(checkpoint)
        yield Note(f"going on after step {state.step:,} of {plan.steps:,}")
    yield from _train(job, state, plan, checkpoint)
    _write_networks(job, state)
    return {
        "cells": len(crops),
        "channels": crops.channels,
        "crop_px": crops.shape[-1],
        "input_px": plan.side_px,
        "steps": plan.steps,
        "last": _last_metrics(job.draft.file("metrics.jsonl")),
    }


def training_cells(job: Job) -> tuple[ScaledCrops, list[str]]:
    """The crops and ids of the training part, in the order of the split."""
    split = job.inputs["split"]
    segment = segment_below(split, job.bench.store)
    table = read_table(split.file("split.parquet"))
    train = table.loc[table["split"] == "train", ["cell_id"]]
    cells = train.merge(read_cells(segment), on="cell_id", how="left", validate="one_to_one")
    return scaled_crops(segment, job.bench.store, cells), list(cells["cell_id"])


def prepare(
    settings: Settings, crops: ScaledCrops, cell_ids: list[str], seed: int, device: torch.device
) -> tuple[TrainState, Plan]:
    """Networks, branches, optimiser and batches, all at step 0."""
    import torch

    from cellssl.learning.batches import Batches
    from cellssl.learning.loop import Plan
    from cellssl.learning.machine import dtype_for
    from cellssl.learning.schedule import learning_rate
    from cellssl.randomness import cell_keys

    batches = Batches(len(crops), min(settings.batch, len(crops)) if settings.epochs == 0 else settings.batch, seed)
    _check(settings, crops)
    state, branches = _networks(settings, len(crops.channels), seed, device)
    steps = batches.steps(settings.epochs)
    warmup = min(batches.steps(settings.warmup_epochs), steps // 10)

    def rate(step: int) -> float:
        return learning_rate(step, steps, peak=settings.learning_rate, shape=settings.schedule, warmup_steps=warmup)

    plan = Plan(
        branches=branches,
        batches=batches,
        steps=steps,
        learning_rate=rate,
        read=_reader(crops, device, settings.epochs),
        cell_keys=torch.from_numpy(cell_keys(cell_ids)).to(device),
        side_px=settings.input_px or crops.shape[-1],
        seed=seed,
        device=device,
        dtype=dtype_for(settings.precision, device),
        momentum=max((branch.objective.momentum for branch in branches), default=0.0),
        clip_norm=settings.clip_norm,
    )
    return state, plan


def _check(settings: Settings, crops: ScaledCrops) -> None:
    side = settings.input_px or crops.shape[-1]
    encoder: Any = settings.encoder
    if side < encoder.shortest_side_px():
        raise UsageError(
            f"{encoder.part_name()} cannot see crops of {side} px", hint=f"use {encoder.shortest_side_px()} px or more"
        )
    for branch in settings.active().values() if settings.epochs > 0 else ():
        objective: Any = branch.objective
        objective.check(len(crops))


def _networks(
    settings: Settings, channels: int, seed: int, device: torch.device
) -> tuple[TrainState, tuple[Branch, ...]]:
    import copy

    import torch

    from cellssl.learning.initial import initialise
    from cellssl.learning.loop import Branch
    from cellssl.learning.state import TrainState, optimizer_for
    from cellssl.learning.view import View

    encoder = build_encoder(settings.encoder, channels)
    initialise(encoder, seed, "encoder")
    encoder = encoder.to(device).to(memory_format=torch.channels_last)
    momentum_encoder = copy.deepcopy(encoder).requires_grad_(False)
    objectives = torch.nn.ModuleDict()
    branches = []
    for name, branch in settings.active().items():
        if settings.epochs == 0:
            break
        chosen: Any = branch.objective
        objective = chosen.build(encoder.out_dim, seed, name).to(device)
        objectives[_head_name(name)] = objective
        views = tuple(View(transforms) for transforms in branch.drawn(objective.views))
        branches.append(Branch(name, branch.weight, views, objective))
    optimizer = optimizer_for(settings.optimizer, [encoder, objectives], settings.weight_decay)
    return TrainState(encoder, momentum_encoder, objectives, optimizer), tuple(branches)


def _head_name(branch: str) -> str:
    """Modules may neither have a dot in their name, nor bear that of a method, such as `half`."""
    return f"branch_{branch.replace('.', '/')}"


def build_encoder(settings: Any, channels: int) -> torch.nn.Module:
    """A network by its settings, weights not yet set."""
    network: torch.nn.Module = settings.build(channels)
    return network


RESIDENT_SHARE = 0.5
"""Of the free memory of the device; a training set below it is held there, scaled to 8 bits."""


def _reader(crops: ScaledCrops, device: torch.device, epochs: float) -> Callable[[np.ndarray], torch.Tensor]:
    """How a step gets its crops: from the device's memory where they fit, else from the memory map."""
    import torch

    if epochs > 0 and math.prod(crops.shape) < RESIDENT_SHARE * _free_bytes(device):
        held = torch.from_numpy(np.concatenate(list(crops.blocks()))).to(device)
        return lambda rows: held[torch.from_numpy(rows).to(device)]
    return lambda rows: torch.from_numpy(crops.read(rows)).to(device)


def _free_bytes(device: torch.device) -> float:
    import torch

    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _train(job: Job, state: TrainState, plan: Plan, checkpoint: Path) -> Iterator[Event]:
    """Steps, lines of metrics and checkpoints; whoever stops listening finds a checkpoint of the last step."""
    from cellssl.learning.loop import train

    metrics = job.draft.file("metrics.jsonl")
    timings = job.draft.extra("timings.jsonl")
    for lines in (metrics, timings):
        _forget_after(lines, state.step)
    saved_s = time.monotonic()
    with metrics.open("a", encoding="utf-8") as seen, timings.open("a", encoding="utf-8") as timed:
        try:
            for event in train(state, plan):
                seen.write(json.dumps({"step": event.step, **event.metrics}) + "\n")
                timed.write(json.dumps({"step": event.step, **event.timings}) + "\n")
                if time.monotonic() - saved_s >= job.settings.checkpoint_s:
                    _save(state, checkpoint, seen, timed)
                    saved_s = time.monotonic()
                    yield Saved(state.step)
                yield event
        except GeneratorExit:
            _save(state, checkpoint, seen, timed)
            raise
    yield from _collapse(metrics, plan)


def _save(state: TrainState, checkpoint: Path, *logs: TextIO) -> None:
    """Logs first, so that a checkpoint never knows more steps than they do; weights that overflowed are not saved."""
    if not state.is_finite():
        return
    for log in logs:
        log.flush()
        os.fsync(log.fileno())
    with replacing(checkpoint) as beside:
        state.save(beside)


def _forget_after(log: Path, step: int) -> None:
    """Lines written after the checkpoint that is taken up will be written again."""
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.is_file() else []
    write_text(log, "".join(lines[:step]))


def _collapse(metrics: Path, plan: Plan) -> Iterator[Event]:
    """Say it when a branch ended with all projections nearly alike."""
    last = _last_metrics(metrics)
    for branch in plan.branches:
        if last.get(f"{branch.name}/projection_sd", 1.0) < COLLAPSED_SD:
            yield Note(f"branch {branch.name} has collapsed: its projections hardly differ between cells")


COLLAPSED_SD = 0.005
"""Spread of unit vectors of 128 numbers is 0.088 when they are even, and 0 when they are one."""


def _last_metrics(metrics: Path) -> dict[str, float]:
    lines = metrics.read_text(encoding="utf-8").splitlines()
    last: dict[str, float] = json.loads(lines[-1]) if lines else {}
    return last


def _write_networks(job: Job, state: TrainState) -> None:
    from safetensors.torch import save

    networks = {"encoder": state.encoder, "momentum_encoder": state.momentum_encoder, "heads": state.objectives}
    for name, network in networks.items():
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in network.state_dict().items()}
        with replacing(job.draft.file(f"{name}.safetensors")) as beside:
            beside.write_bytes(save(tensors))  # save_file would make a file that only its owner can read
