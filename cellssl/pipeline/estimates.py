"""estimates: the stages that a command would make in; time, memory and disk of each before it runs out.

What was measured is better than what is known in general: first the artifacts of this store, then a step of the
training and a field of the plate timed on this machine, then rates of another machine.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellssl.artifacts.store import Artifact, Store
from cellssl.device import allowed_cores
from cellssl.durations import about
from cellssl.engine.resources import available_memory_mb
from cellssl.errors import CellsslError, UsageError
from cellssl.images.reference import ImageReference
from cellssl.pipeline.measured_speed import step_cost
from cellssl.pipeline.planned import Planned
from cellssl.pipeline.rates import (
    BASE_MB,
    CELLPROFILER_S,
    CELLS_MB_PER_MEGAPIXEL,
    CELLS_S,
    CLUSTER_S,
    COMPARTMENTS_S,
    EMBEDDED_BYTES,
    EVALUATE_S,
    FEATURES_S,
    HASH_BYTES_PER_S,
    HITS_S,
    INTENSITIES_S,
    JOIN_S,
    KEPT_NETWORKS,
    LIBRARIES_MB,
    REPORT_S,
    SEGMENT_MB_PER_MEGAPIXEL,
    SEGMENT_S,
    SIMULATE_S,
    START_S,
    WITH_CELLS,
    WORKER_MB,
)
from cellssl.pipeline.workload import Workload, trained_on, upstream_stages, workload

if TYPE_CHECKING:
    import torch

    from cellssl.datasets.base import Field
    from cellssl.pipeline.session import Session
    from cellssl.stages.pretrain.step_cost import StepCost

LONG_S = 12 * 3600


@dataclass(frozen=True)
class Estimate:
    """What making one stage takes."""

    stage: str
    arm: str
    seed: int | None
    seconds: float
    memory_mb: float
    disk_bytes: float
    basis: str
    """Where the time comes from: "artifacts", "measured" or "rough"."""


@dataclass(frozen=True)
class Estimates:
    """The estimates of all stages that would be made, what is too much, and what was guessed."""

    stages: list[Estimate] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    guesses: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The time of all stages together."""
        return sum(one.seconds for one in self.stages)

    @property
    def memory_mb(self) -> float:
        """The largest memory of a stage."""
        return max((one.memory_mb for one in self.stages), default=0.0)

    @property
    def disk_bytes(self) -> float:
        """What all stages write."""
        return sum(one.disk_bytes for one in self.stages)

    def of_stages(self) -> list[Estimate]:
        """Return one estimate per kind of stage: all arms and seeds together."""
        kinds: dict[str, list[Estimate]] = {}
        for one in self.stages:
            kinds.setdefault(one.stage, []).append(one)
        return [
            Estimate(
                stage,
                f"{len(several)} of them" if len(several) > 1 else several[0].arm,
                None,
                sum(one.seconds for one in several),
                max(one.memory_mb for one in several),
                sum(one.disk_bytes for one in several),
                several[0].basis,
            )
            for stage, several in kinds.items()
        ]

    def header_and_rows(self) -> tuple[list[str], list[list[str]]]:
        """Return a table for people."""
        rows = [
            [
                one.stage,
                one.arm,
                "" if one.seed is None else str(one.seed),
                about(one.seconds),
                f"{one.memory_mb / 1000:.1f} GB",
                f"{one.disk_bytes / 1e9:.2f} GB",
                one.basis,
            ]
            for one in self.stages
        ]
        return ["stage", "arm", "seed", "time", "memory", "disk", "basis"], rows

    def in_words(self) -> str:
        """Return all stages together in one line."""
        if not self.stages:
            return "what they take is not known"
        words = (
            f"in all {about(self.seconds)} one stage after another, at most {self.memory_mb / 1000:.1f} GB of memory, "
            f"and {self.disk_bytes / 1e9:.2f} GB of disk"
        )
        return words + (f"; guessed: {', '.join(self.guesses)}" if self.guesses else "")


def estimates(session: Session, stages: Sequence[Planned], device_name: str = "auto") -> Estimates:
    """Return what making these stages takes; each is counted once.

    Raises UsageError for a GPU that is not there.
    """
    from cellssl.device import device_for

    todo: dict[tuple[str, str], Planned] = {}
    for one in stages:
        todo.setdefault((one.stage, one.fingerprint), one)
    if not todo:
        return Estimates()
    estimator = _Estimator(session, device_for(device_name), len({(one.arm, one.seed) for one in stages}))
    found = Estimates()
    unknown: dict[str, list[str]] = {}
    for one in todo.values():
        try:
            found.stages.append(estimator.estimate(one))
        except CellsslError as error:
            unknown.setdefault(error.message, []).append(one.stage)
    for why, of_stages in unknown.items():
        found.warnings.append(f"not estimated: {', '.join(dict.fromkeys(of_stages))}: {why}")
    found.guesses.extend(estimator.guesses)
    found.warnings.extend(_too_much(found, session.store.root))
    return found


def _too_much(found: Estimates, root: Path) -> list[str]:
    """Return a warning for every stage that this machine has not memory, disk or half a day for."""
    warnings = []
    memory_mb = available_memory_mb()
    for one in found.stages:
        if one.stage == "pretrain" and one.seconds > LONG_S:
            from cellssl.stages.pretrain.end_forecast import too_long

            warnings.append(f"{one.stage} {one.arm} takes {about(one.seconds)}; {too_long()}")
        if memory_mb is not None and one.memory_mb > memory_mb:
            warnings.append(
                f"warning: {one.stage} {one.arm} needs about {one.memory_mb / 1000:.1f} GB of memory, and "
                f"{memory_mb / 1000:.1f} GB are free; {_less_memory(one.stage)}"
            )
    if found.seconds > LONG_S and not any("12 hours" in one for one in warnings):
        warnings.append(f"warning: all stages together take {about(found.seconds)}, more than 12 hours")
    free = shutil.disk_usage(next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists()))
    if found.disk_bytes > free.free:
        warnings.append(
            f"warning: {found.disk_bytes / 1e9:.1f} GB will be written, and {free.free / 1e9:.1f} GB are free; "
            "choose another --store, or a smaller segment.crop_px"
        )
    return warnings


def _less_memory(stage: str) -> str:
    match stage:
        case "pretrain":
            from cellssl.stages.pretrain.settings import OUT_OF_MEMORY_HINT

            return OUT_OF_MEMORY_HINT
        case "segment":
            return "set segment.workers to fewer processes"
    return "free some memory"


class _Estimator:
    """Estimates stages of one session; what several of them need is computed once."""

    def __init__(self, session: Session, device: torch.device, runs: int) -> None:
        self.session, self.store, self.device, self.runs = session, session.store, device, runs
        self.guesses: dict[str, None] = {}
        self._fields: dict[str, list[Field]] = {}
        self._segment_s: dict[str, float] = {}

    def estimate(self, planned: Planned) -> Estimate:
        """Return the estimate of one stage."""
        size = self._workload(planned)
        seconds, memory_mb, disk_bytes, basis = getattr(self, f"_{planned.stage}")(planned, size)
        return Estimate(planned.stage, planned.arm, planned.seed, seconds, memory_mb, disk_bytes, basis)

    def _workload(self, planned: Planned) -> Workload:
        stages = upstream_stages(planned)
        fields: list[Field] = []
        if "fetch" in stages:
            fetched = stages["fetch"]
            fields = self._planned_fields(fetched)
        size = workload(planned, self.store, fields)
        self.guesses.update(dict.fromkeys(size.guesses))
        return size

    def _planned_fields(self, fetched: Planned) -> list[Field]:
        """Return the fields of a data set; UsageError where its tables would have to be downloaded for that."""
        from cellssl.stages.fetch.stage import planned_plates

        dataset = fetched.settings.dataset
        if is_remote(dataset) and not (self.store.root / "tables").is_dir():
            raise UsageError(
                "the tables of the data set are not on this machine yet; cellssl fetch --dry-run brings them"
            )
        if fetched.fingerprint not in self._fields:
            plates = planned_plates(fetched.settings, self.session.context())
            self._fields[fetched.fingerprint] = [one for plate in plates.values() for one in plate]
        return self._fields[fetched.fingerprint]

    def _fetch(self, planned: Planned, size: Workload) -> tuple[float, float, float, str]:
        if planned.settings.dataset.plugin_name() == "simulated":
            pixels = size.fields * size.megapixels
            seconds = SIMULATE_S * pixels / allowed_cores()
            return START_S + seconds, BASE_MB, 2e6 * pixels * size.channels, "rough"
        total = 2e6 * size.fields * size.megapixels * size.channels
        copied = 0.0 if size.first_image is not None else total
        return START_S + total / HASH_BYTES_PER_S, BASE_MB, copied, "rough"

    def _segment(self, planned: Planned, size: Workload) -> tuple[float, float, float, str]:
        crop_px = planned.settings.crop_px
        disk_bytes = 2.05 * size.cells * size.channels * crop_px**2
        if size.megapixels == 0:  # finished crops are passed on
            return START_S + size.cells / 2000, BASE_MB, disk_bytes, "rough"
        workers = min(planned.settings.workers or allowed_cores(), size.fields)
        per_field_s, basis = self._segment_field_s(planned, size)
        mb_per_megapixel = SEGMENT_MB_PER_MEGAPIXEL
        if planned.settings.cells is not None:
            cells_s = CELLS_S.get(planned.settings.cells.method.plugin_name(), 1.0)
            per_field_s += (cells_s + COMPARTMENTS_S * size.channels) * size.megapixels
            mb_per_megapixel += CELLS_MB_PER_MEGAPIXEL
        rate_s = size.fields * per_field_s / min(workers, allowed_cores())
        worker_mb = WORKER_MB + mb_per_megapixel * size.megapixels
        return START_S + 4 + rate_s, BASE_MB + workers * worker_mb, disk_bytes, basis

    def _segment_field_s(self, planned: Planned, size: Workload) -> tuple[float, str]:
        """Return the seconds of one field on one core: timed on the first image, where it can be read."""
        method = planned.settings.method
        name = method.plugin_name()
        rough = SEGMENT_S.get(name, 1.0) * size.megapixels * size.channels
        if size.first_image is None or name not in ("watershed", "nuclei_net"):
            return rough, "rough"
        key = f"{method!r} {size.first_image}"
        if key not in self._segment_s:
            timed = _timed_field_s(method, size.first_image)
            self._segment_s[key] = timed * (1 + 0.3 * size.channels) if timed is not None else rough
        return self._segment_s[key], "measured" if self._segment_s[key] != rough else "rough"

    def _split(self, planned: Planned, size: Workload) -> tuple[float, float, float, str]:
        return 1 + size.cells * 2e-5, BASE_MB, 100.0 * size.cells, "rough"

    def _pretrain(self, planned: Planned, size: Workload) -> tuple[float, float, float, str]:
        from cellssl.learning.training.batches import Batches

        settings = planned.settings
        crop_px = self._crop_px(planned)
        cost = self._cost(settings, size.channels, crop_px)
        batch = min(settings.batch, size.trained_cells)
        steps = Batches(size.trained_cells, batch, 0).steps(settings.epochs)
        done = len(_lines_of(self.store.partial("pretrain", planned.fingerprint) / "timings.jsonl"))
        step_s = _step_s_before(planned, self.store, batch)
        crops_mb = min(256.0, size.trained_cells * size.channels * crop_px**2 / 1e6)
        seconds = START_S + max(0, steps - done) * (step_s or cost.step_s)
        return (
            seconds,
            cost.memory_mb + LIBRARIES_MB + crops_mb,
            KEPT_NETWORKS * 1e6 * cost.weights_mb,
            "artifacts" if step_s else "measured",
        )

    def _embed(self, planned: Planned, size: Workload) -> tuple[float, float, float, str]:
        disk_bytes = float(EMBEDDED_BYTES * size.embedded_cells)
        model = planned.settings.model
        if planned.settings.blocks:
            count = len(planned.settings.blocks)
            joined_mb = BASE_MB + 2 * count * EMBEDDED_BYTES * size.embedded_cells / 1e6
            return START_S + count * size.embedded_cells * JOIN_S, joined_mb, count * disk_bytes, "rough"
        if model == "cellprofiler":
            return self._measure(planned, size)
        if planned.settings.measures():
            rate_s = FEATURES_S if model == "features" else INTENSITIES_S
            return START_S + size.embedded_cells * rate_s * size.channels / 3, BASE_MB, disk_bytes / 8, "rough"
        cost = self._cost_of_model(planned, size)
        draws = planned.settings.draws if planned.settings.view else 1
        seconds = START_S + size.embedded_cells * draws * cost.embed_s
        return seconds, max(BASE_MB, min(cost.memory_mb, 4 * BASE_MB)), disk_bytes, "measured"

    def _measure(self, planned: Planned, size: Workload) -> tuple[float, float, float, str]:
        with_cells = upstream_stages(planned)["segment"].settings.cells is not None
        cores = min(planned.settings.workers or allowed_cores(), allowed_cores())
        one_s = CELLPROFILER_S * size.channels / 3 * (WITH_CELLS if with_cells else 1)
        measured_bytes = EMBEDDED_BYTES * size.channels / 3 * (3 if with_cells else 1) * size.embedded_cells
        # on the disk as they come, and again in the table
        return START_S + size.embedded_cells * one_s / cores, BASE_MB * (1 + cores), 2 * measured_bytes, "rough"

    def _cluster(self, planned: Planned, size: Workload) -> tuple[float, float, float, str]:
        memory_mb = BASE_MB + 6 * EMBEDDED_BYTES * size.embedded_cells / 1e6
        return START_S + size.embedded_cells * CLUSTER_S, memory_mb, 2e6, "rough"

    def _evaluate(self, planned: Planned, size: Workload) -> tuple[float, float, float, str]:
        memory_mb = BASE_MB + 6 * EMBEDDED_BYTES * size.embedded_cells / 1e6
        return START_S + size.embedded_cells * EVALUATE_S, memory_mb, 2e6, "rough"

    def _hits(self, planned: Planned, size: Workload) -> tuple[float, float, float, str]:
        memory_mb = BASE_MB + 6 * EMBEDDED_BYTES * size.embedded_cells / 1e6
        return START_S + size.embedded_cells * HITS_S, memory_mb, 2e6, "rough"

    def _report(self, planned: Planned, size: Workload) -> tuple[float, float, float, str]:
        return START_S + REPORT_S * self.runs, 1.5 * BASE_MB, 10e6, "rough"

    def _crop_px(self, planned: Planned) -> int:
        stages = upstream_stages(planned)
        return int(stages["segment"].settings.crop_px) if "segment" in stages else int(planned.settings.input_px or 196)

    def _cost(self, settings: Any, channels: int, crop_px: int) -> StepCost:
        from cellssl.stages.pretrain.step_cost import CellShape

        return step_cost(settings, CellShape(1, channels, crop_px), self.device, self.store)

    def _cost_of_model(self, planned: Planned, size: Workload) -> StepCost:
        """Return what embedding costs with this recipe's network, or with an earlier one."""
        if "pretrain" in planned.upstream:
            return self._cost(planned.upstream["pretrain"].settings, size.channels, self._crop_px(planned))
        from cellssl.stages.pretrain.card_settings import pretrain_settings

        model = planned.earlier_model()
        channels, crop_px, input_px = trained_on(model)
        settings = pretrain_settings(model, "encoder").model_copy(update={"epochs": 0.0, "input_px": input_px})
        return self._cost(settings, channels, crop_px)


def is_remote(dataset: Any) -> bool:
    """Return whether the tables of a data set come from a server: an estimate asks none."""
    source = str(getattr(dataset, "source", "") or "")
    return "source" in type(dataset).model_fields and (not source or "://" in source)


def _timed_field_s(method: Any, image: ImageReference) -> float | None:
    """Return the CPU time in which one image is read and its nuclei are found; None where that does not work."""
    from cellssl.images.reading import read_image

    with suppress(CellsslError, OSError, ValueError):
        began_s = time.process_time()
        pixels = read_image(image)
        method.segment(pixels)
        return time.process_time() - began_s
    return None


def _step_s_before(planned: Planned, store: Store, batch: int) -> float | None:
    """Return the seconds of a step of this training, where it is unfinished, or of another seed of it."""
    here = store.partial("pretrain", planned.fingerprint)
    folders = [here, *(found.path for found in _other_seeds(planned, store))]
    return next((batch / rate for folder in folders if (rate := _cells_per_s(folder))), None)


def _other_seeds(planned: Planned, store: Store) -> Iterator[Artifact]:
    """Yield the finished trainings of this store that differ by the seed and by nothing else."""
    for path in sorted((store.root / "pretrain").glob("*[0-9a-f]"))[:200]:
        with suppress(CellsslError, OSError):
            found = store.find("pretrain", path.name)
            if found is None or found.card.inputs != planned.card.inputs:
                continue
            if {**found.card.section, "seed": None} == {**planned.card.section, "seed": None}:
                yield found


def _lines_of(log: Path) -> list[dict[str, float]]:
    with suppress(OSError, ValueError):
        return [dict(json.loads(line)) for line in log.read_text(encoding="utf-8").splitlines()]
    return []


def _cells_per_s(folder: Path) -> float | None:
    """Return the median over the steps of a training, unfinished or not; None before its third step."""
    rates = [float(line.get("cells_per_s") or 0) for line in _lines_of(folder / "timings.jsonl")]
    return statistics.median(rates) if len(rates) > 2 else None
