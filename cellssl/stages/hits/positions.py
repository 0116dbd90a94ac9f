"""positions: wells in; the row, column and edge of each, and the blocks within which labels may change, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellssl.errors import UsageError
from cellssl.stages.hits.screen import SECTION
from cellssl.stages.shared.external_table import column_hint

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.well_positions import WellPositions
    from cellssl.stages.hits.settings import Settings


def blocks_of(wells: pd.DataFrame, positions: WellPositions, settings: Settings) -> list[str]:
    """Return the block of every well: wells that are equal in all columns of hits.permute_within share one.

    Raises UsageError where a column is asked for and the name of a well does not say where it lies.
    """
    asked = [name for name in settings.permute_within if name != "plate"]
    if asked and not positions.known.all():
        first = wells["well"].iloc[int((~positions.known).argmax())]
        raise UsageError(
            f"hits.permute_within has {asked[0]!r}, but the name of the well {first!r} does not say where it lies",
            hint=f"use names such as B02; {column_hint(settings.table, 'well', SECTION)}",
        )
    parts = [getattr(positions, name).tolist() for name in asked]
    return [" ".join(map(str, each)) for each in zip(wells["plate"], *parts, strict=True)]
