"""stage: the cells of a split in; an encoder trained to ignore the changes that the chosen views make out."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cellssl.artifacts.tables import read_cells, read_split
from cellssl.engine.build import Job, Metrics
from cellssl.errors import UsageError
from cellssl.events import Event, Note
from cellssl.files import atomic_path
from cellssl.stages.pretrain import initial_weights
from cellssl.stages.pretrain.positives import (
    learned_labels_of,
    load_positives,
    positives_in_numbers,
    positives_in_words,
)
from cellssl.stages.pretrain.settings import OUT_OF_MEMORY_HINT
from cellssl.stages.shared import learned_labels, preparation
from cellssl.stages.shared.arithmetic import Arithmetic
from cellssl.stages.shared.cell_tables import check_cells_known
from cellssl.stages.shared.scaled_crops import ScaledCrops, scaled_crops, upstream_segment

if TYPE_CHECKING:
    import torch

    from cellssl.learning.training.cell_metadata import CellMetadata
    from cellssl.learning.training.compilation import Decision
    from cellssl.learning.training.loop import Plan
    from cellssl.learning.training.state import TrainState
    from cellssl.rank import Rank
    from cellssl.stages.pretrain.initial_weights import WeightsRecord
    from cellssl.stages.pretrain.settings import Settings
    from cellssl.stages.pretrain.training import Validation


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Train, or continue a training, and write the networks, metrics and curves."""
    from cellssl.learning.threads import torch_threads
    from cellssl.rank import Rank
    from cellssl.stages.pretrain.checkpoints import Checkpoints
    from cellssl.stages.pretrain.training import broadcast_stop, run_training

    with _prepared_training(job, Rank.from_environment()) as (state, plan, validation, crops):
        resumed = Checkpoints.of(job.draft).last.is_file()
        queues = _fitted_queues(job.settings, len(crops))
        asked, compiling = job.context.threads, _compiling(job.settings, state, plan)
        arithmetic, change = _arithmetic(state, plan, len(crops.channels), asked, compiled=compiling.compiled).kept(
            job.draft.scratch(), resumed=resumed, keep_threads=asked is None
        )
        job.ran.update(
            device=str(plan.device),
            precision=arithmetic.precision,
            **arithmetic.details(),
            threads_asked_for=asked,
            processes=plan.group.rank.count,
            started_from=initial_weights.describe_source(job) or initial_weights.FROM_SEED,
            batch_norm=_describe_batch_norm(state.encoder, plan.group.rank.count),
        )
        with torch_threads(plan.group.broadcast(arithmetic.threads)), broadcast_stop(state, plan, validation):
            if change:
                yield Note(f"{change}: its last bits are not those of an uninterrupted one")
            yield from map(Note, _fitted_in_words(queues, job.settings, len(crops)))
            yield from map(Note, positives_in_words(plan.positives, job.settings))
            if compiling.note:
                yield Note(compiling.note)
            record = yield from _load_first_weights(job, state)
            if record is not None:
                initial_weights.write_record(job.draft.scratch(), record)
            yield from map(Note, _slow_convolutions(state, plan))
            _compile(state, plan, compiled=arithmetic.compiled)
            yield from run_training(
                state,
                plan,
                job.draft,
                checkpoint_s=job.settings.checkpoint_s,
                validation=validation,
                tensorboard=job.settings.tensorboard,
                write_last=partial(_write_networks, job, state, "-last"),
            )
    lines = _lines_of(job.draft.file("metrics.jsonl"))
    last = lines[-1] if lines else {}
    _write_networks(job, state)
    if last:
        _draw_curves(job)
    best = {"loss": state.best.loss, "step": state.best.step} if state.best.step else None
    return {
        **({"positives": positives_in_numbers(plan.positives)} if plan.positives else {}),
        **learned_labels.on_card(learned_labels_of(job)),
        "cells": len(crops),
        "channels": crops.channels,
        "crop_px": crops.shape[-1],
        "input_px": plan.side_px,
        "steps": last.get("step", 0),
        "lowest_validation": best,
        "last": last,
        **({"fitted_queues": queues} if queues else {}),
        **({"weights": weights} if (weights := initial_weights.read_record(job.draft.scratch())) else {}),
        preparation.EXPECTS: _expected_cells(job, crops),
    }


def _slow_convolutions(state: TrainState, plan: Plan) -> list[str]:
    """Say which convolutions a GPU has to reorder the pixels for; none of the networks that come with cellssl."""
    from cellssl.learning.training.memory_format import not_channels_last

    names = not_channels_last(state, plan) if plan.device.type == "cuda" and plan.steps else []
    words = f"{len(names)} convolutions do not get their input with channels last, which makes them slower; first: "
    return [words + name for name in names[:1]]


def _fitted_queues(settings: Settings, cells: int) -> dict[str, int]:
    """Return the length of every queue that is shorter than in the settings, by branch."""
    active = settings.active() if settings.epochs > 0 else {}
    fitted = {name: branch.objective.fitted_queue(cells, settings.batch) for name, branch in active.items()}
    return {
        name: queue
        for name, queue in fitted.items()
        if queue is not None and queue != getattr(active[name].objective, "queue", queue)
    }


def _fitted_in_words(queues: dict[str, int], settings: Settings, cells: int) -> Iterator[str]:
    for name, queue in queues.items():
        default = getattr(settings.branches[name].objective, "queue", None)
        yield (
            f"branch {name}: the queue has {queue:,} keys in place of {default:,}, because there are "
            f"{cells:,} training cells; a queue of more would hold every cell itself"
        )


def _expected_cells(job: Job, crops: ScaledCrops) -> preparation.Preparation:
    """Return how the training cells were prepared, so that the model knows it wherever it is copied."""
    segment = upstream_segment(job.inputs["split"], job.context.store)
    return preparation.of_cells(segment, read_cells(segment), crops.channels, crops.shape[-1])


def assist(job: Job) -> None:
    """Take part in the training of the main process, as one of several processes; write nothing."""
    from cellssl.learning.threads import torch_threads
    from cellssl.rank import Rank
    from cellssl.stages.pretrain.training import run_training_as_assistant

    with (
        _prepared_training(job, Rank.from_environment()) as (state, plan, validation, _),
        torch_threads(plan.group.broadcast(1)),
    ):
        list(_load_first_weights(job, state))
        _slow_convolutions(state, plan)
        _compile(state, plan)
        run_training_as_assistant(state, plan, job.draft, validation)


def _compiling(settings: Settings, state: TrainState, plan: Plan) -> Decision:
    """Return whether the encoders are compiled; they are not where nothing is trained."""
    from cellssl.learning.training.compilation import Decision, decide

    return decide(settings.compile, state.encoder, plan.device, plan.group) if plan.steps else Decision(False)


def _compile(state: TrainState, plan: Plan, *, compiled: bool = False) -> None:
    """Compile the encoders where the main process does so; `compiled` is its answer."""
    from cellssl.learning.training.compilation import compile_encoders

    if plan.group.broadcast(int(compiled)):
        compile_encoders(state)


def _arithmetic(state: TrainState, plan: Plan, channels: int, asked: int | None, *, compiled: bool) -> Arithmetic:
    """Return the arithmetic that a new training on this machine would have; `asked` are the threads of --threads."""
    from cellssl.learning.threads import threads_of

    threads = threads_of(state.encoder, channels, plan.side_px, asked)
    return Arithmetic.here(threads, plan.device, plan.dtype, compiled=compiled)


def _load_first_weights(job: Job, state: TrainState) -> Generator[Event, None, WeightsRecord | None]:
    """Load given weights, unless there is a checkpoint, which contains them already."""
    from cellssl.stages.pretrain.checkpoints import Checkpoints

    if Checkpoints.of(job.draft).last.is_file():
        return None
    return (yield from initial_weights.load_initial_weights(job, state))


@contextmanager
def _prepared_training(job: Job, rank: Rank) -> Iterator[tuple[TrainState, Plan, Validation | None, ScaledCrops]]:
    """Build everything at step 0, together with the other processes where there are any."""
    from cellssl.learning.training.memory import enough_memory, keep_freed_memory

    keep_freed_memory()
    from cellssl.device import device_for
    from cellssl.learning.training.distributed import process_group
    from cellssl.rank import announce
    from cellssl.stages.pretrain.networks import prepare

    crops, cell_ids = load_split_part(job, "train")
    if "init_from" in job.inputs:
        initial_weights.check_same_channels(job.inputs["init_from"], crops.channels)
    device = device_for(job.context.device, rank)
    announce(rank, job.card.fingerprint, begins=True)
    with process_group(rank, device) as group, enough_memory(OUT_OF_MEMORY_HINT):
        positives = load_positives(job, "train")
        state, plan = prepare(
            job.settings, crops, cell_ids, job.seed or 0, device, group, load_metadata(job), positives
        )
        yield state, plan, _validation(job, plan), crops


def load_split_part(job: Job, part: Literal["train", "val"]) -> tuple[ScaledCrops, list[str]]:
    """Return the crops and ids of one part of the split, in its order.

    Raises UsageError where the part has no cells.
    """
    split = job.inputs["split"]
    segment = upstream_segment(split, job.context.store)
    table = read_split(split)
    chosen = table.loc[table["split"] == part, ["cell_id"]]
    known = read_cells(segment)
    check_cells_known(chosen["cell_id"], known["cell_id"], split, segment)
    cells = chosen.merge(known, on="cell_id", how="left", validate="one_to_one")
    if cells.empty:
        raise UsageError(f"the split has no {part} cells", hint="set a share above 0 for each part in split.shares")
    return scaled_crops(segment, job.context.store, cells), list(cells["cell_id"])


def load_metadata(job: Job) -> CellMetadata:
    """Return the columns that the objectives use, for all cells of the split.

    Raises UsageError where no cell has a value in one of the columns.
    """
    from cellssl.learning.training.cell_metadata import NO_METADATA, CellMetadata
    from cellssl.stages.pretrain.networks import keys_of
    from cellssl.stages.shared.cell_tables import chosen_cells

    wanted = job.settings.metadata_columns()
    if not wanted:
        return NO_METADATA
    split = job.inputs["split"]
    cells = chosen_cells(split, upstream_segment(split, job.context.store))
    for column in wanted:
        if column not in cells or cells[column].isna().all():
            raise UsageError(
                f"an objective learns from the column {column!r}, which no cell has",
                hint="set split.treated for labels; compounds and doses must be columns of the field table of [fetch]",
            )
    columns = cells[list(wanted)].astype(object).where(cells[list(wanted)].notna(), None)
    return CellMetadata.from_columns(keys_of(list(cells["cell_id"])), {name: list(columns[name]) for name in wanted})


def _validation(job: Job, plan: Plan) -> Validation | None:
    """Return how the validation loss is measured, where training may end early; else None."""
    from cellssl.learning.training.validation import validation_loss
    from cellssl.stages.pretrain.networks import crop_reader, keys_of
    from cellssl.stages.pretrain.training import Validation

    stopping = job.settings.early_stopping
    if stopping is None or plan.steps == 0:
        return None
    crops, cell_ids = load_split_part(job, "val")
    if len(crops) < 2:
        raise UsageError("the split has one val cell, and batch norm and losses need two", hint="raise split.shares")
    read = crop_reader(crops, plan.device, in_memory=False)  # used rarely: not worth the memory
    positives = load_positives(job, "val")
    loss = partial(validation_loss, read=read, cell_keys=keys_of(cell_ids), positives=positives)
    return Validation(loss, max(1, plan.batches.steps(stopping.every_epochs)), stopping.patience)


def _describe_batch_norm(encoder: torch.nn.Module, processes: int) -> str:
    """Return in words over which cells batch norm computes its statistics: a cell's features depend on them."""
    from torch import nn

    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in encoder.modules()):
        return "none"
    scope = "this process" if processes == 1 else f"all {processes} processes"
    return f"over all cells and views of a batch, of {scope}; a cell's features depend a little on the others'"


def _lines_of(log: Path) -> list[dict[str, Any]]:
    """Return what was measured in every step."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def _draw_curves(job: Job) -> None:
    from cellssl.reporting import theme
    from cellssl.stages.pretrain.curves import training_curves

    figure = training_curves(_lines_of(job.draft.file("metrics.jsonl")), _lines_of(job.draft.extra("timings.jsonl")))
    job.draft.extra("curves.png").write_bytes(theme.png(figure))


def _write_networks(job: Job, state: TrainState, suffix: str = "") -> None:
    from safetensors.torch import save

    networks = {"encoder": state.encoder, "momentum_encoder": state.momentum_encoder, "heads": state.objectives}
    for name, network in networks.items():
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in network.state_dict().items()}
        with atomic_path(job.draft.file(f"{name}{suffix}.safetensors")) as draft:
            draft.write_bytes(save(tensors))  # save_file would make a file that only its owner can read
