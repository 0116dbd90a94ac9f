"""scale: intensity histograms of the reference wells in, the grey values of black and white per channel out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.contents import not_as_written, read_json_of, section_of
from cellssl.artifacts.store import Artifact
from cellssl.errors import DataError, UsageError
from cellssl.stages.shared.card_shapes import PlateSection

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.segment.settings import Settings


def check_reference(settings: Settings, fields: pd.DataFrame) -> None:
    """Raise UsageError where the control wells must set the intensity scale, but the plate has none."""
    if settings.reference == "controls" and not fields["control"].any():
        raise UsageError(
            f"plate {fields['plate'].iloc[0]} has no control wells to set its intensity scale",
            hint='name them in fetch.controls, or set segment.reference = "all", or "range" for photographs',
        )


def reference_counts(settings: Settings, grey_values: np.ndarray, plate: str, failure: str) -> np.ndarray:
    """Return how often each grey value occurs in the fields that set the scale, (channel, value).

    `grey_values` holds the counts of the control fields and of all fields. Raises DataError where all control fields
    failed; `failure` is the first reason.
    """
    counts = grey_values[1 if settings.reference == "all" else 0]
    if not counts.any():
        raise DataError(
            f"every control field of plate {plate} is broken; first: {failure}",
            hint='repair them, or set segment.reference = "all"',
        )
    return np.asarray(counts)


def scale_table(settings: Settings, counts: Any, channels: list[str], plate: str) -> pd.DataFrame:
    """Return one row per channel: the grey values that become 0 and 255, from the counts (c, 65,536) of each value."""
    import pandas as pd

    from cellssl.imaging.scaling import Histogram

    histogram = Histogram(counts)
    limits = [histogram.percentile(percent) for percent in (settings.low_percentile, settings.high_percentile)]
    return pd.DataFrame({"plate": plate, "channel": channels, "low": limits[0], "high": limits[1]})


def constant_channels(scale: pd.DataFrame) -> list[str]:
    """Return a sentence per channel whose black and white are the same: no model sees anything in it."""
    return [
        f"plate {row.plate}: the channel {row.channel} is constant (grey value {row.low:g}) in the cells that set its "
        "intensity scale, so no model sees anything in it"
        for row in scale[scale["low"] >= scale["high"]].itertuples()
    ]


def whole_range(fetched: Artifact, channels: list[str], plate: str) -> pd.DataFrame:
    """Return one row per channel: the lowest and the highest value that pixels can have.

    Raises UsageError where the data set does not give this range.
    """
    import pandas as pd

    if "range.json" not in fetched.card.files:
        raise no_range_error(fetched)
    limits = np.array([_range_of(fetched)] * len(channels), np.uint16)
    return pd.DataFrame({"plate": plate, "channel": channels, "low": limits[:, 0], "high": limits[:, 1]})


def _range_of(fetched: Artifact) -> list[int]:
    """Return the lowest and the highest value that a pixel of a data set can have."""
    found = read_json_of(fetched, "range.json", list[int])
    if len(found) != 2 or not 0 <= found[0] < found[1] < 2**16:
        raise not_as_written(fetched, "range.json", f"it holds {found}")
    return found


def no_range_error(fetched: Artifact) -> UsageError:
    """Return the error for `reference = "range"` with a data set that does not give the range of its pixels."""
    return UsageError(
        f"the data set of plate {section_of(fetched, PlateSection).plate} does not give the range of its pixel values",
        hint='set segment.reference = "controls" or "all"',
    )
