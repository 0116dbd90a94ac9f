"""planned_fields: a segment artifact in; its field table, with the fields that could not be read, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import UNREAD_FIELDS, read_fields, read_table

if TYPE_CHECKING:
    import pandas as pd


def planned_fields(segment: Artifact) -> pd.DataFrame:
    """Return the field table, with the fields that could not be read: a well may have no other."""
    import pandas as pd

    from cellssl.profiling.wells import QUARANTINED

    fields = read_fields(segment)
    if UNREAD_FIELDS not in segment.card.files:
        return fields
    unread = read_table(segment.file(UNREAD_FIELDS)).assign(field_flags=QUARANTINED)
    return pd.concat([fields, unread], ignore_index=True)
