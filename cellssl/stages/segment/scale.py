"""scale: the brightness of the reference cells, or counts of grey values, in; black and white of every channel out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.contents import not_as_written, read_json_of, section_of
from cellssl.artifacts.store import Artifact
from cellssl.errors import DataError, UsageError
from cellssl.imaging.scaling import Histogram, Limits, limits_of_cells, sd_of_limits, with_darkest_surrounds
from cellssl.stages.segment.brightness import levels_of, with_pixels
from cellssl.stages.shared.card_shapes import PlateSection

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.segment.settings import Settings

FEW_CELLS = 200
"""With fewer reference cells, white varies by some percent from draw to draw of the cells, more than models ignore."""
MANY_ABOVE_WHITE = 0.5
"""Share of the cells of a treated field that may be brighter than white before it is said: then a typical one is."""
FEWEST_OF_FIELD = 5
"""Number of cells from which on a treated field counts: of fewer, half are above white by chance."""
PLATES_NAMED = 3
"""Number of plates of which the same is said one by one."""


def check_reference(settings: Settings, fields: pd.DataFrame) -> None:
    """Raise UsageError where the control wells must set the intensity scale, but the plate has none."""
    if settings.reference == "controls" and not fields["control"].any():
        raise UsageError(
            f"plate {fields['plate'].iloc[0]} has no control wells to set its intensity scale",
            hint='name them in fetch.controls, or set segment.reference = "all", or "range" for photographs',
        )


def scale_of_cells(
    settings: Settings, cells: Mapping[str, pd.DataFrame], channels: Sequence[str], of: str
) -> pd.DataFrame:
    """Return one row per plate and channel: the scale that these plates share, from the brightness of their cells.

    `of` names the plate, or the batch, and determines the draws of the bootstrap. Raises DataError where no cell can
    set the scale.
    """
    import pandas as pd

    together = pd.concat(cells.values(), ignore_index=True)
    reference = together if settings.reference == "all" else together[together["control"]]
    known, headroom = with_pixels(reference), settings.scale.headroom
    if known.empty:
        raise _empty_crops_error(of, len(reference), settings.reference) if len(reference) else _no_reference_error(of)
    levels = with_darkest_surrounds(levels_of(known, channels), pd.factorize(known["field_id"])[0])
    limits, sd = limits_of_cells(levels, headroom), sd_of_limits(levels, headroom, of)
    above = {plate: _above_white(of_plate, channels, limits) for plate, of_plate in cells.items()}
    return pd.concat(
        [_table(plate, channels, limits, len(known), sd, above[plate]) for plate in cells], ignore_index=True
    )


def _no_reference_error(plate: str) -> DataError:
    return DataError(
        f"plate {plate} has no cell in its control wells that could set its intensity scale: none of their nuclei is "
        "within the limits",
        hint='loosen the limits that dropped them, name more wells in fetch.controls, or set segment.reference = "all"',
    )


def _empty_crops_error(plate: str, cells: int, reference: str) -> DataError:
    whose, cure = "its control cells", 'name more wells in fetch.controls, or set segment.reference = "all"'
    if reference == "all":
        whose, cure = "its cells", "leave the plate out"
    return DataError(
        f"plate {plate} has no cell that could set its intensity scale: all crops of {whose} ({cells:,}) are empty",
        hint=f"check the pixels of the data set; {cure}",
    )


def _above_white(cells: pd.DataFrame, channels: Sequence[str], limits: Limits) -> np.ndarray:
    """Return per channel the largest share of cells of a treated field that are brighter than white.

    One drug of many may light up a marker. Without a treated field of enough cells it is nan.
    """
    treated = with_pixels(cells[~cells["control"]])
    above = (levels_of(treated, channels).high > limits.high).astype(np.float64)
    of_field = treated[["field_id"]].assign(**{str(number): one for number, one in enumerate(above.T)})
    fields = of_field.groupby("field_id")
    shares = fields.mean()[fields.size() >= FEWEST_OF_FIELD]
    return np.asarray(shares.max().to_numpy(np.float64))  # nan without any


def _table(
    plate: str,
    channels: Sequence[str],
    limits: Limits,
    cells: int,
    sd: Limits | None = None,
    treated_above_white: np.ndarray | None = None,
) -> pd.DataFrame:
    """Return the rows of scale.parquet of one plate; what is not known is nan."""
    import pandas as pd

    unknown = np.full(len(channels), np.nan)
    columns = {
        "low": limits.low,
        "high": limits.high,
        "low_sd": unknown if sd is None else sd.low,
        "high_sd": unknown if sd is None else sd.high,
        "treated_above_white": unknown if treated_above_white is None else treated_above_white,
    }
    numbers = {name: np.asarray(values, np.float64) for name, values in columns.items()}
    table = pd.DataFrame({"plate": plate, "channel": list(channels), **numbers})
    table.insert(6, "cells", np.int64(cells))
    return table


def scale_of_pixels(settings: Settings, counts: Any, channels: Sequence[str], plate: str, cells: int) -> pd.DataFrame:
    """Return one row per channel: the percentiles of pixels, from the counts (c, 65,536) of each grey value.

    `cells` is the number of reference cells, which decides nothing here.
    """
    histogram, scale = Histogram(counts), settings.scale
    low, high = (histogram.percentile(percent) for percent in (scale.low_percentile, scale.high_percentile))
    return _table(plate, channels, Limits(low.astype(np.float64), high.astype(np.float64)), cells)


def reference_counts(settings: Settings, grey_values: np.ndarray, plate: str, failure: str) -> np.ndarray:
    """Return how often each grey value occurs in the fields that set the scale, (channel, value).

    `grey_values` holds the counts of the control fields and of all fields. Raises DataError where all control fields
    failed; `failure` is the first reason.
    """
    counts = grey_values[1 if settings.reference == "all" else 0]
    if not counts.any():
        raise broken_controls_error(plate, failure)
    return np.asarray(counts)


def broken_controls_error(plate: str, failure: str) -> DataError:
    """Return the error for a plate whose control fields all failed; `failure` is the first reason."""
    return DataError(
        f"every control field of plate {plate} is broken; first: {failure}",
        hint='repair them, or set segment.reference = "all"',
    )


def no_scale(channels: Sequence[str], plate: str) -> pd.DataFrame:
    """Return the scale of a plate of which no cell was kept: there is nothing to scale, so it has no row."""
    nothing = Limits(np.zeros(len(channels)), np.zeros(len(channels)))
    return _table(plate, channels, nothing, 0).iloc[:0]


def constant_channels(scale: pd.DataFrame) -> list[str]:
    """Return a sentence per channel whose black and white are the same: no model sees anything in it."""
    return [
        f"plate {row.plate}: the channel {row.channel} is constant (grey value {row.low:g}) in the cells that set its "
        "intensity scale, so no model sees anything in it"
        for row in scale[scale["low"] >= scale["high"]].itertuples()
    ]


def scale_cautions(scale: pd.DataFrame, reference: str, pool: str, headroom: float) -> list[str]:
    """Return a sentence per plate whose scale few cells set, or that cuts off what treated cells show, with the cure.

    The scale is that of cells; one of pixels has no doubts that are known.
    """
    kind = "control cells" if reference == "controls" else "cells"
    few = [_few_cells(rows, kind, pool) for _, rows in scale[scale["cells"] < FEW_CELLS].groupby("plate", sort=False)]
    cut = scale[(scale["treated_above_white"] > MANY_ABOVE_WHITE) & (scale["high"] > scale["low"])]
    cut_off = [_cut_off(rows, reference, headroom) for _, rows in cut.groupby("plate", sort=False)]
    more = f"fewer than {FEW_CELLS} {kind} set the intensity scale"
    return [
        *_first(few, f"{more} of MORE"),
        *_first(cut_off, "treated cells are brighter than white in fields of MORE"),
    ]


def _first(sentences: list[str], rest: str) -> Iterator[str]:
    """Yield the sentences of the first plates, and one for all others."""
    yield from sentences[:PLATES_NAMED]
    if (left := len(sentences) - PLATES_NAMED) > 0:
        yield rest.replace("MORE", f"{left:,} more plate{'s' if left > 1 else ''}; scale.parquet has the numbers")


def _few_cells(rows: pd.DataFrame, kind: str, pool: str) -> str:
    """Return how well white is known on a plate with few reference cells, and the cure."""
    plate, cells = rows["plate"].iloc[0], int(rows["cells"].iloc[0])
    span, sd = (rows["high"] - rows["low"]).to_numpy(float), rows["high_sd"].to_numpy(float)
    percent = 100 * np.divide(sd, span, out=np.full(len(sd), np.nan), where=span > 0)
    known = "how well white is known cannot be estimated"
    if np.isfinite(percent).any():
        worst = int(np.nanargmax(percent))
        channel = rows["channel"].iloc[worst]
        known = f"white is known to {percent[worst]:.1f} % (one standard deviation, {channel})"
    wells = "more control wells" if kind == "control cells" else "more fields"
    cure = f"segment {wells}" + (', or set segment.scale.pool = "batch"' if pool == "none" else "")
    who = f"1 {kind.removesuffix('s')} sets" if cells == 1 else f"{cells:,} {kind} set"
    return f"plate {plate}: {who} the intensity scale, fewer than {FEW_CELLS}: {known}; {cure}"


def _cut_off(rows: pd.DataFrame, reference: str, headroom: float) -> str:
    """Return in which channels of a plate many cells of a treated field are brighter than white, and the cure."""
    of_channels = zip(rows["channel"], rows["treated_above_white"].to_numpy(float), strict=True)
    shares = ", ".join(f"{100 * share:.0f} % in {channel}" for channel, share in of_channels)
    other = ', or set segment.reference = "all"' if reference == "controls" else ""
    return (
        f"plate {rows['plate'].iloc[0]}: many cells of a treated field are brighter than white (up to {shares}), so "
        f"that the brightest of their pixels are all 255; raise segment.scale.headroom, which is {headroom:g}{other}"
    )


def whole_range(fetched: Artifact, channels: list[str], plate: str) -> pd.DataFrame:
    """Return one row per channel: the lowest and the highest value that pixels can have.

    Raises UsageError where the data set does not give this range.
    """
    if "range.json" not in fetched.card.files:
        raise no_range_error(fetched)
    low, high = np.array([_range_of(fetched)] * len(channels), np.float64).T
    return _table(plate, channels, Limits(low, high), 0)


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
