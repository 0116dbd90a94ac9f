"""counts: the numbers of nuclei that were detected, kept and dropped in; files and sentences that say so out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.contents import metrics_of
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import KEY, Column, check_columns, explained, read_csv, write_csv
from cellssl.imaging.selection import REASONS

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.engine.build import Job
    from cellssl.stages.segment.settings import AreaLimit, Settings

ALL_REASONS = (*REASONS, "flagged_field", "over_cap")
"""Why a detected nucleus does not become a cell; in every table of counts, detected = kept + the sum over these."""
COUNTS_OF_PLATES = "counts.csv"
MERGED_LOBES = "merged_lobes"
"""Nuclei that became part of another one, as lobes of one cell; they are not among the detected ones."""
PLATE_COLUMNS = ("fields", "quarantined", "detected", "kept", *ALL_REASONS, MERGED_LOBES)
IN_WORDS = {
    "edge": "at the edge",
    "too_small": "too small",
    "too_large": "too large",
    "window_outside": "with a window outside the field",
    "ragged": "ragged",
    "saturated": "saturated",
    "blurred": "blurred",
    "flagged_field": "in flagged fields",
    "over_cap": "over the number per well",
}
"""Reason -> how a sentence says it of nuclei."""
OF_QUALITY = {
    "ragged": ("min_solidity", "lower"),
    "saturated": ("max_saturated", "raise"),
    "blurred": ("min_focus", "lower"),
}
"""Reason -> the limit of [segment.quality] that drops nuclei for it, and how to loosen it."""
EXPECTED = frozenset({"over_cap"})
"""Reasons that may hold for most nuclei without a warning, because the recipe asks for a number."""


def write_counts(job: Job, counts: Mapping[str, int]) -> None:
    """Write the counts of detected, kept and dropped nuclei as JSON."""
    job.draft.file("counts.json").write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def write_counts_of_plates(job: Job, parts: Mapping[str, Artifact]) -> None:
    """Write one row per plate with its numbers of fields and nuclei: detected = kept + the number for every reason.

    The number of merged lobes is 0 where they are not merged.
    """
    import pandas as pd

    counts = {plate: metrics_of(part, dict[str, int]) for plate, part in parts.items()}
    rows = [
        {"plate": plate, **{name: of_plate.get(name, 0) for name in PLATE_COLUMNS}}
        for plate, of_plate in counts.items()
    ]
    write_csv(pd.DataFrame(rows), job.draft.file(COUNTS_OF_PLATES))


def read_counts_of_plates(segment: Artifact) -> pd.DataFrame | None:
    """Return the numbers of fields and nuclei per plate; None for an artifact of an earlier version."""
    if COUNTS_OF_PLATES not in segment.card.files:
        return None
    path = segment.file(COUNTS_OF_PLATES)
    with explained(path):
        table = read_csv(path, PLATE_COLUMNS)
        check_columns(table, {"plate": KEY, **dict.fromkeys(PLATE_COLUMNS, Column("whole", needed=True, gaps=False))})
    return table


def in_words(counts: Mapping[str, int]) -> str:
    """Return the numbers as a sentence: "389 found, 1 kept: 354 too small, 34 at the edge"."""
    dropped = sorted((name for name in ALL_REASONS if counts.get(name)), key=lambda name: -counts[name])
    reasons = ", ".join(f"{counts[name]:,} {IN_WORDS[name]}" for name in dropped)
    return f"{counts['detected']:,} found, {counts['kept']:,} kept" + (f": {reasons}" if reasons else "")


def reason_of_most(counts: Mapping[str, int]) -> str | None:
    """Return the reason for which more than half of the detected nuclei were dropped; None where there is none.

    Reasons that are EXPECTED do not count.
    """
    unexpected = (name for name in ALL_REASONS if name not in EXPECTED)
    return next((name for name in unexpected if 2 * counts.get(name, 0) > counts["detected"]), None)


def warnings_of(settings: Settings, plate: str, nuclei: pd.DataFrame, fields: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence, with the limit and the cure, where more than half of the nuclei is dropped for one reason."""
    counts = {**nuclei["reason"].value_counts(), "detected": len(nuclei)}
    if reason := reason_of_most(counts):
        of = f"{counts[reason]:,} of {len(nuclei):,} nuclei were dropped as {reason}"
        cure = limit_and_cure(reason, settings, float(fields["pixel_um"].median()), float(np.median(nuclei["area_px"])))
        yield f"warning: plate {plate}: {of}; {cure}"


def limit_and_cure(reason: str, settings: Settings, pixel_um: float, median_px: float | None = None) -> str:
    """Return the limit that drops nuclei for a reason, and how to loosen it.

    `pixel_um` is the size of a pixel on a plate, NaN where it is not known; `median_px` the area of its median nucleus.
    """
    match reason:
        case "too_small":
            return _area_and_cure("min_area", "lower", settings.area_limit("min_area"), pixel_um, median_px)
        case "too_large":
            return _area_and_cure("max_area", "raise", settings.area_limit("max_area"), pixel_um, median_px)
        case "ragged" | "saturated" | "blurred":
            name, how = OF_QUALITY[reason]
            return f"the limit is segment.quality.{name} = {getattr(settings.quality, name):g}; {how} it"
        case "window_outside":
            side = f"crop_px = {settings.crop_px}" if settings.crop_um is None else f"crop_um = {settings.crop_um:g}"
            return f'segment.border = "drop" drops them; use "reflect", or windows smaller than segment.{side}'
        case "flagged_field":
            flags = ", ".join(settings.quality.drop_fields)
            return f"segment.quality.drop_fields drops fields that are {flags}; see field_flags in fields.parquet"
    return "nuclei that the edge of a field cuts are never kept; look at the contact sheet whether they are nuclei"


def _area_and_cure(name: str, how: str, limit: AreaLimit, pixel_um: float, median_px: float | None) -> str:
    """Return the limit in the unit in which it was applied, the area of the median nucleus in it, and the cure."""
    if limit.um2 is None or np.isnan(pixel_um):
        or_um2 = ", or set fetch.dataset.pixel_um, and the limit is in um2" if np.isnan(pixel_um) else ""
        median = "" if median_px is None else f", and the median is {median_px:,.0f} pixels"
        return f"the limit is segment.{name}_px = {limit.px:g}{median}; {how} it{or_um2}"
    median = "" if median_px is None else _median_um2(median_px * pixel_um**2, pixel_um)
    unless = " where that is not so" if median else ""
    return (
        f"the limit is segment.{name}_um2 = {limit.um2:g}{median}; {how} it, or correct fetch.dataset.pixel_um{unless}"
    )


def _median_um2(area_um2: float, pixel_um: float) -> str:
    diameter_um = 2 * np.sqrt(area_um2 / np.pi)
    return (
        f", and with pixels of {pixel_um:g} um the median nucleus has {area_um2:,.4g} um2, as a disc of "
        f"{diameter_um:.3g} um"
    )
