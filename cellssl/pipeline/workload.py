"""workload: planned stages in; how many fields, pixels and cells they will have, counted or guessed, out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellssl.artifacts.store import Artifact, Store
from cellssl.datasets.base import Field
from cellssl.errors import CellsslError
from cellssl.images.reference import ImageReference, parse_reference
from cellssl.pipeline.planned import Planned
from cellssl.stages.shared.card_shapes import pretrain_metrics, segment_metrics, split_metrics

GUESSED_CELLS = 150
"""Cells of a field of 4 megapixels, where no finished plate tells how many there are."""
GUESSED_MEGAPIXELS = 4.0
LEAST_CELLS = 20


@dataclass(frozen=True)
class Workload:
    """What the stages of one arm will work on; numbers that are guesses are named in `guesses`."""

    fields: int
    megapixels: float
    """Size of one image of a field."""
    channels: int
    wells: int
    cells: int
    trained_cells: int
    embedded_cells: int
    first_image: ImageReference | None = None
    guesses: tuple[str, ...] = ()


def workload(planned: Planned, store: Store, fields: Sequence[Field]) -> Workload:
    """Return the workload of a stage and of those that it depends on; `fields` are those that its `fetch` will have."""
    stages = upstream_stages(planned)
    made = {stage: store.find(stage, one.fingerprint) for stage, one in stages.items()}
    guesses: list[str] = []
    image = _first_image(fields, made.get("fetch"))
    megapixels = _megapixels(stages, image, fields)
    if megapixels is None:
        megapixels = GUESSED_MEGAPIXELS
        guesses.append(f"images of {GUESSED_MEGAPIXELS:g} megapixels")
    cells = _cells_of(made.get("segment"))
    if cells is None and "fetch" in stages and stages["fetch"].settings.dataset.gives_crops:
        cells = _rows_of(stages["fetch"].settings.dataset) or len(fields)
    if cells is None:
        per_field = _cells_per_field(store)
        if per_field is None:
            per_field = max(LEAST_CELLS, GUESSED_CELLS * megapixels / GUESSED_MEGAPIXELS)
            guesses.append(f"{per_field:.0f} cells per field")
        cells = math.ceil(per_field * len(fields))
    split = made.get("split")
    counts = split_metrics(split).counts if split is not None else {}
    in_split = sum(counts.values()) or _in_split(stages, cells)
    trained = _count(counts, "train") or math.ceil(in_split * _train_share(stages))
    wells = len({(field.plate, field.well) for field in fields})
    per_well = stages["embed"].settings.cells_per_well if "embed" in stages else 300
    channels = len(fields[0].images) if fields and fields[0].images else channels_of(stages)
    embedded = min(cells, in_split + per_well * wells)
    return Workload(len(fields), megapixels, channels, wells, cells, max(trained, 1), embedded, image, tuple(guesses))


def upstream_stages(planned: Planned) -> dict[str, Planned]:
    """Return the stage itself and all stages that it depends on, by name."""
    found = {planned.stage: planned}
    for one in planned.upstream.values():
        found = {**upstream_stages(one), **found}
    return found


def _first_image(fields: Sequence[Field], fetched: Artifact | None) -> ImageReference | None:
    """Return the first image of the plan, where it lies on this machine."""
    for field in fields[:1]:
        for text in field.images.values():
            with suppress(CellsslError, ValueError, OSError):
                reference = parse_reference(text)
                path = Path(reference.files[0])
                if path.is_absolute() and path.exists():
                    return reference
    return None


def _megapixels(stages: Mapping[str, Planned], image: ImageReference | None, fields: Sequence[Field]) -> float | None:
    dataset: Any = stages["fetch"].settings.dataset if "fetch" in stages else None
    if image is not None:
        from cellssl.images.header import read_header

        with suppress(CellsslError, OSError):
            header = read_header(Path(image.files[0]), image.series)
            return header.rows * header.columns / 1e6
    if hasattr(dataset, "height_px") and hasattr(dataset, "width_px"):
        return float(dataset.height_px * dataset.width_px / 1e6)
    return 0.0 if dataset is None or dataset.gives_crops else None


def _cells_of(segment: Artifact | None) -> int | None:
    return segment_metrics(segment).kept if segment is not None else None


def _cells_per_field(store: Store) -> float | None:
    """Return the mean of the finished plates of this store; None where there are none."""
    kept = fields = 0
    for path in sorted((store.root / "segment").glob("[0-9a-f]*[0-9a-f]"))[:200]:
        with suppress(CellsslError, OSError):
            artifact = store.find("segment", path.name)
            if artifact is not None and "fields" in artifact.card.metrics:
                metrics = segment_metrics(artifact)
                kept, fields = kept + metrics.kept, fields + metrics.fields
    return kept / fields if fields else None


def _rows_of(dataset: Any) -> int | None:
    """Return the number of crops of a stack, from its table."""
    table = getattr(dataset, "table", None)
    if table is None:
        return None
    with suppress(OSError), Path(table).open("rb") as file:
        return max(0, sum(1 for _ in file) - 1)
    return None


def _in_split(stages: Mapping[str, Planned], cells: int) -> int:
    """Return how many cells a split will take at most."""
    settings = stages["split"].settings if "split" in stages else None
    if settings is None or settings.cells_per_class is None:
        return cells
    return int(min(cells, 2 * settings.cells_per_class)) if settings.treated else cells


def _train_share(stages: Mapping[str, Planned]) -> float:
    return float(stages["split"].settings.shares[0]) if "split" in stages else 1.0


def _count(counts: Mapping[str, int], part: str) -> int:
    return sum(number for name, number in counts.items() if name.split("/")[0].split(" ")[0] == part)


def channels_of(stages: Mapping[str, Planned]) -> int:
    """Return the number of channels that the data set names, else that of most data sets."""
    channels = getattr(stages["fetch"].settings.dataset, "channels", None) if "fetch" in stages else None
    return len(channels) if channels else 3


def trained_on(model: Artifact) -> tuple[int, int, int]:
    """Return the channels, the side of the crops and that of the input of a model, from its card."""
    metrics = pretrain_metrics(model)
    return len(metrics.channels), metrics.crop_px, metrics.input_px
