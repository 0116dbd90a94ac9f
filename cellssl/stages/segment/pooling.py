"""pooling: the brightness of the cells of all plates in, one intensity scale per batch out."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING

from cellssl.artifacts.store import Artifact
from cellssl.engine.plate_parts import concat_parts
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Note
from cellssl.stages.segment.brightness import read_cell_brightness
from cellssl.stages.segment.scale import scale_of_cells

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.segment.settings import Settings


def pooled_scale(
    settings: Settings, tables: Mapping[str, pd.DataFrame], parts: Mapping[str, Artifact]
) -> Generator[Event, None, pd.DataFrame]:
    """Return the scale of all plates: those of a batch share one, and a plate without a batch keeps its own.

    `tables` are the gathered ones, with the scale that every plate has alone.
    """
    alone, batch_of = tables["scale.parquet"], batches(tables["fields.parquet"])
    channels_of = {str(plate): list(rows["channel"]) for plate, rows in alone.groupby("plate", sort=False)}
    found: dict[str, pd.DataFrame] = {}
    for batch in dict.fromkeys(batch_of[plate] for plate in channels_of):
        plates = [plate for plate in channels_of if batch_of[plate] == batch]
        if batch is None:
            found |= {plate: alone[alone["plate"] == plate].drop(columns="part") for plate in plates}
            yield Note(_without_batch(plates))
            continue
        channels = _same_channels({plate: channels_of[plate] for plate in plates})
        cells = {plate: read_cell_brightness(parts[plate], channels) for plate in plates}
        shared = scale_of_cells(settings, cells, channels, batch)
        found |= {plate: shared[shared["plate"] == plate] for plate in plates}
    in_order = {plate: found[plate] for plate in parts if plate in found}
    return concat_parts(in_order, dict(parts))


def batches(fields: pd.DataFrame) -> dict[str, str | None]:
    """Return the batch of every plate, None for a plate without one; UsageError for a plate of several."""
    found: dict[str, str | None] = {}
    for plate, of_plate in fields.groupby("plate", sort=False):
        names = list(of_plate["batch"].dropna().unique())
        if len(names) > 1 or (names and of_plate["batch"].isna().any()):
            listed = ", ".join([*names, *(["none"] if of_plate["batch"].isna().any() else [])])
            raise UsageError(
                f'the fields of plate {plate} are of several batches ({listed}), so that segment.scale.pool = "batch" '
                "cannot tell which scale is theirs",
                hint='give all fields of a plate the same batch, or set segment.scale.pool = "none"',
            )
        found[str(plate)] = str(names[0]) if names else None
    return found


def _without_batch(plates: list[str]) -> str:
    """Return that these plates keep a scale of their own."""
    named = ", ".join(plates[:3]) + (f" and {len(plates) - 3:,} more" if len(plates) > 3 else "")
    return (
        f"no batch is known of {named}, so each such plate has an intensity scale of its own; segment.scale.pool = "
        '"batch" needs the batch in the field table'
    )


def _same_channels(channels: Mapping[str, list[str]]) -> list[str]:
    (first, known), *others = channels.items()
    for plate, there in others:
        if there != known:
            raise DataError(
                f"the plates {first} and {plate} of a batch differ in their channels: {known} and {there}",
                hint="use the same names in every plate",
            )
    return known
