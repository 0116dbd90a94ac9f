"""contradictions: the field table in; sentences on names, doses and images that do not fit together out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from cellssl.datasets.tables.controls import near_control, near_names
from cellssl.stages.fetch.findings import DOSES, NAMES, SAME_IMAGE
from cellssl.stages.shared.spelling import alike, folded_number, folded_well

if TYPE_CHECKING:
    import pandas as pd

SAME_DOSE = 0.02
"""Doses that differ by less than this share of their size are taken for one dose that was written in two ways."""
SHOWN = 3


def contradictions(fields: pd.DataFrame, controls: Sequence[str]) -> Iterator[str]:
    """Yield one sentence per contradiction; nothing is corrected, because only the user knows what is meant."""
    yield from (sentence for _, sentence in contradictions_by_kind(fields, controls))


def contradictions_by_kind(fields: pd.DataFrame, controls: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the kind of every contradiction, and its sentence."""
    yield from ((NAMES, sentence) for sentence in _places(fields))
    yield from ((NAMES, sentence) for sentence in _spellings(fields, controls))
    yield from ((DOSES, sentence) for sentence in _doses(fields))
    yield from ((SAME_IMAGE, sentence) for sentence in _images(fields))


def _places(fields: pd.DataFrame) -> Iterator[str]:
    for names in alike(fields["plate"].unique(), folded_number):
        yield f"the plates {' and '.join(map(repr, names))} look like one, and are counted as {len(names)}"
    for plate, wells in fields.groupby("plate")["well"]:
        for names in alike(wells.unique(), folded_well)[:SHOWN]:
            named = " and ".join(map(repr, names))
            yield f"the wells {named} of plate {plate} look like one, and are counted as {len(names)}"


def _spellings(fields: pd.DataFrame, controls: Sequence[str]) -> Iterator[str]:
    compounds = list(fields["compound"].dropna().unique())
    for name in compounds:
        of_name = fields[fields["compound"] == name]
        if (like := near_control(name, controls)) is not None and not of_name["control"].all():
            wells = _wells(of_name)
            yield f"the compound {name!r} (wells: {wells}) is not the control {like!r}: it differs in spelling"
    others = [name for name in compounds if near_control(name, controls) is None and name not in controls]
    same = alike(others)
    for names in same:
        yield f"the compounds {' and '.join(map(repr, names))} differ in spelling only, and are counted as {len(names)}"
    for group in near_names(others):
        if list(group) not in same:
            yield f"the compounds {' and '.join(map(repr, group))} look like one, and are counted as {len(group)}"


def _doses(fields: pd.DataFrame) -> Iterator[str]:
    for compound, doses in fields.groupby("compound")["dose_micromolar"]:
        known = sorted(map(float, doses.dropna().unique()))
        close = [(low, high) for low, high in pairwise(known) if high - low < SAME_DOSE * high]
        if close:
            yield (
                f"{compound} has doses that are nearly equal, such as {close[0][0]!r} and {close[0][1]!r} uM; they are "
                "counted as different doses"
            )


def _images(fields: pd.DataFrame) -> Iterator[str]:
    """Yield where one image is given for two channels of a field, or for two fields."""
    channels = [name.removeprefix("sha256_") for name in fields.columns if name.startswith("sha256_")]
    hashes = {channel: fields[f"sha256_{channel}"] for channel in channels}
    for place, channel in enumerate(channels):
        for other in channels[place + 1 :]:
            if (same := (hashes[channel] == hashes[other]).to_numpy(bool)).any():
                first = fields["field_id"].iloc[int(same.argmax())]
                yield f"{channel} and {other} are the same image in {same.sum():,} fields, the first of them {first}"
    for channel, of_channel in hashes.items():
        again = of_channel[of_channel.notna()].duplicated(keep=False)
        if again.any():
            named = ", ".join(fields["field_id"].loc[again.index[again]].iloc[:SHOWN])
            yield f"{again.sum():,} fields share an image of {channel} with another field, such as {named}"


def _wells(fields: pd.DataFrame) -> int:
    return len(fields[["plate", "well"]].drop_duplicates())
