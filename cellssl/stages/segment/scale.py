"""scale: grey values of reference wells in, black and white of every channel out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.store import Artifact
from cellssl.errors import DataError, UsageError
from cellssl.stages.segment.selection import opened

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.segment.field import FieldTask
    from cellssl.stages.segment.settings import Settings


def check_reference(settings: Settings, fields: pd.DataFrame) -> None:
    """Raise UsageError where control wells are to set the intensity scale and there are none."""
    if settings.reference == "controls" and not fields["control"].any():
        raise UsageError(
            f"plate {fields['plate'].iloc[0]} has no control wells to set its intensity scale",
            hint='name them in fetch.controls, or set segment.reference = "all", or "range" for pictures that no lab '
            "took",
        )


def intensity_histogram(done: list[FieldTask], fetched: Artifact, failures: list[dict[str, str]]) -> Any:
    """How often each grey value occurs in the fields that set the scale."""
    if not any(task.count_greys for task in done):
        raise DataError(
            f"every control field of plate {fetched.card.section['plate']} is broken; first: {failures[0]['reason']}",
            hint='mend them, or set segment.reference = "all"',
        )
    counted = (contents["greys"] for _, contents in opened(done) if "greys" in contents)
    return sum((counts.astype(np.int64) for counts in counted), np.int64(0))


def scale_table(settings: Settings, greys: Any, channels: list[str], plate: str) -> pd.DataFrame:
    """A row a channel: the grey values between which a plate is scaled, from how often each occurs (c, 65,536)."""
    import pandas as pd

    from cellssl.imaging.scaling import Histogram

    histogram = Histogram(greys)
    limits = [histogram.percentile(percent) for percent in (settings.low_percentile, settings.high_percentile)]
    return pd.DataFrame({"plate": plate, "channel": channels, "low": limits[0], "high": limits[1]})


def whole_range(fetched: Artifact, channels: list[str], plate: str) -> pd.DataFrame:
    """A row a channel: the lowest and the highest value that pixels can have.

    Raises UsageError where the data set does not say.
    """
    import pandas as pd

    if "range.json" not in fetched.card.files:
        raise no_range(fetched)
    low, high = json.loads(fetched.file("range.json").read_text(encoding="utf-8"))
    limits = np.array([[low, high]] * len(channels), np.uint16)
    return pd.DataFrame({"plate": plate, "channel": channels, "low": limits[:, 0], "high": limits[:, 1]})


def no_range(fetched: Artifact) -> UsageError:
    return UsageError(
        f"the data set of plate {fetched.card.section['plate']} does not say what range its pixels have",
        hint='set segment.reference = "controls" or "all"',
    )
