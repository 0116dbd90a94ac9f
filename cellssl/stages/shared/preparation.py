"""preparation: how the cells of a model were prepared and how other cells are in, the differences and their cure out.

A preparation is a dict, ready for JSON, of everything that decides the pixels of a crop: channels, sizes, and the
settings of the intensity scale under their names in a recipe. What is not known is left out, and so is never compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from cellssl.artifacts.contents import input_of, section_of
from cellssl.artifacts.store import Artifact, Store
from cellssl.errors import IntegrityError, UsageError
from cellssl.stages.shared.card_shapes import SegmentSection, pretrain_metrics

if TYPE_CHECKING:
    import pandas as pd

Preparation = dict[str, Any]

PIXEL_TOLERANCE = 0.05
"""Pixel sizes that differ by less are the same: headers say 0.4963 where people write 0.5."""
PERCENTILES = ("low_percentile", "high_percentile")
"""Settings of a scale that is set by pixels; in earlier versions they stood in the section itself."""
EXPECTS = "expects"
"""Key of the metrics of a pretrain card with the preparation of its cells; older cards lack it."""
RESAMPLED = "resampled"
"""Key that is there where segment.crop_um is set, so that another crop_px alone would change the size of a pixel."""
FOR_CURES = ("crop_um", RESAMPLED)
"""What is known of crops and not compared: the size and the number of their pixels say the same."""


def of_section(section: Mapping[str, Any], algorithm: int, *, finished_crops: bool) -> Preparation:
    """Return the preparation that a section [segment] leads to; of finished crops it sets only the intensity scale."""
    found = {"reference": section["reference"]}
    if section["reference"] != "range" and (scale := _scale(section)):
        found["scale"] = scale
    if not finished_crops:
        blur = ("illumination_blur_px",) if section.get("illumination") != "off" else ()
        found |= {
            name: section[name] for name in ("crop_px", "border", "crop_mask", "illumination", *blur) if name in section
        }
        if section.get("crop_mask") == "cell" and section.get("cells"):
            found["cells"] = _how_cells_are_found(section["cells"])
    return {**found, "algorithm": algorithm}


def _scale(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an intensity scale that decide what white is.

    Whether plates share a scale is left out: it is the same kind of scale, measured on more cells.
    """
    if "scale" not in section:
        percentiles = {name: section[name] for name in PERCENTILES if name in section}
        return {"of": "pixels", **percentiles} if percentiles else {}
    names = PERCENTILES if section["scale"]["of"] == "pixels" else ("headroom",)
    return {"of": section["scale"]["of"], **{name: section["scale"][name] for name in names}}


def _how_cells_are_found(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that draw the outlines by which crops are masked, without those that are left out.

    A file counts by its name: the same file may lie in another folder on another machine.
    """
    known = {name: value for name, value in cells["method"].items() if value is not None}
    if "weights" in known:
        known["weights"] = PurePath(known["weights"]).name
    return {"method": known, "channel": cells["channel"]}


def of_dataset(dataset: Any) -> Preparation:
    """Return what the settings of a data set say of its images before any is there: channels in order, pixel size."""
    channels, pixel_um = getattr(dataset, "channels", None), getattr(dataset, "pixel_um", None)
    return {
        **({"channels": list(channels)} if channels else {}),
        **({"pixel_um": [pixel_um]} if isinstance(pixel_um, float | int) else {}),
    }


def of_fields(fields: pd.DataFrame, channels: Collection[str]) -> Preparation:
    """Return what a table with a column `pixel_um` says, of images with these channels, none where they are crops.

    Where crops were resampled, the size of their pixels counts.
    """
    pixels_um = fields["crop_pixel_um" if "crop_pixel_um" in fields else "pixel_um"]
    sizes = sorted({round(float(size), 6) for size in pixels_um if size > 0})
    return {**({"channels": list(channels)} if channels else {}), **({"pixel_um": sizes} if sizes else {})}


def resampled(here: Preparation, section: Mapping[str, Any]) -> Preparation:
    """Return a preparation of images with the size of a pixel that their crops will have, where they are resampled."""
    if section.get("crop_um") is None:
        return here
    return {**here, "pixel_um": [round(section["crop_um"] / section["crop_px"], 6)], RESAMPLED: True}


def of_cells(segment: Artifact, cells: pd.DataFrame, channels: Collection[str], crop_px: int) -> Preparation:
    """Return the preparation of finished cells."""
    section_of(segment, SegmentSection)
    finished_crops = "crop_px" not in _with_crop_px(segment.card.section, crop_px)
    section = of_section(segment.card.section, segment.card.algorithm, finished_crops=finished_crops)
    of_window = {RESAMPLED: True} if segment.card.section.get("crop_um") is not None else {}
    return _with_crop_um({**section, **of_fields(cells, channels), **of_window, "crop_px": crop_px})


def _with_crop_um(known: Preparation) -> Preparation:
    """Add how many micrometres a crop shows, where the size of a pixel is known; nothing is compared by it."""
    sides_um = [round(size * known["crop_px"], 3) for size in known.get("pixel_um", ())]
    return {**known, "crop_um": sides_um} if sides_um else known


def of_model(model: Artifact, store: Store) -> Preparation:
    """Return the preparation of a model's cells, from its card; where that is an older one, also from its inputs."""
    metrics = pretrain_metrics(model)
    own: Preparation = {"channels": metrics.channels, "crop_px": metrics.crop_px}
    if metrics.expects is not None:
        return {**_as_today(metrics.expects.model_dump(exclude_none=True)), **own}
    with suppress(IntegrityError, LookupError, TypeError):
        around = store.with_store_of(model)
        split = around.find("split", input_of(model, "split"))
        segment = around.find("segment", input_of(split, "segment")) if split else None
        fetch = around.find("fetch", input_of(segment, "fetch")) if segment else None
        if segment:
            section = _with_crop_px(segment.card.section, own.get("crop_px"))
            scale = of_section(section, segment.card.algorithm, finished_crops="crop_px" not in section)
            pixel_um = fetch.card.section["dataset"].get("pixel_um") if fetch else None
            return {**scale, **({"pixel_um": [pixel_um]} if isinstance(pixel_um, float) else {}), **own}
    return own


def _as_today(expected: Preparation) -> Preparation:
    """Return the preparation in the card of an earlier version under the names of today's settings."""
    if "scale" in expected or not any(name in expected for name in PERCENTILES):
        return expected
    rest = {name: value for name, value in expected.items() if name not in PERCENTILES}
    return {**rest, "scale": _scale(expected)}


def differences(expected: Preparation, here: Preparation, accepted: Collection[str] = ()) -> dict[str, str]:
    """Return every difference in words with its cure; nothing where one of the two is not known, or is accepted."""
    found = {}
    if "border" in expected:  # crops of fields, cut by a version that could not mask them
        expected = {"crop_mask": "none", **expected}
    for name in [name for name in expected if name in here and name not in FOR_CURES]:
        group = name if name in ("channels", "crop_px", "pixel_um") else "scale"
        if group not in accepted and not _same(name, expected[name], here[name]):
            words, cure = _pixels_in_words(expected, here) if name == "pixel_um" else _in_words(name, expected, here)
            found[words] = cure
    return found


def check_same(model: Artifact, expected: Preparation, here: Preparation, accepted: Collection[str] = ()) -> None:
    """Raise UsageError, with the settings to write, where cells are prepared otherwise than those of the model."""
    found = differences(expected, here, accepted)
    if found:
        raise UsageError(
            f"the model {model.path} was trained on {'; on '.join(found)}",
            hint="; ".join(dict.fromkeys(found.values())),
        )


def unknown(expected: Preparation, here: Preparation) -> list[str]:
    """Return in words what cannot be compared, because one of the two is not known."""
    words = {"channels": "their channels", "reference": "their intensity scale", "pixel_um": "the size of a pixel"}
    return [what for name, what in words.items() if name not in expected or name not in here]


def _with_crop_px(section: Mapping[str, Any], crop_px: int | None) -> dict[str, Any]:
    """Return a section without crop_px where the crops have another size: they were finished crops of a data set."""
    return {name: value for name, value in section.items() if name != "crop_px" or value == crop_px}


def _same(name: str, expected: Any, here: Any) -> bool:
    match name:
        case "pixel_um":
            return all(any(math.isclose(one, other, rel_tol=PIXEL_TOLERANCE) for other in expected) for one in here)
        case "algorithm":
            return _pixels_since(expected) == _pixels_since(here)
        case "border" if here == "drop":
            return True  # no window leaves its field
        case "scale":
            return all(here[one] == value for one, value in expected.items() if one in here)
    return bool(expected == here)


def _pixels_since(algorithm: int) -> int:
    """Return the ALGORITHM of `segment` that gave a crop the pixels that this one gives it."""
    from cellssl.imaging.scaling import SAME_PIXELS

    return next((number for number in range(algorithm, 0, -1) if number not in SAME_PIXELS), algorithm)


def _pixels_in_words(expected: Preparation, here: Preparation) -> tuple[str, str]:
    """Return the difference of pixel sizes, and its cure: crops of images are resampled, finished crops cannot be."""
    sizes = [" and ".join(f"{size:g}" for size in one["pixel_um"]) for one in (expected, here)]
    cure = "correct fetch.dataset.pixel_um, or use images of the same magnification"
    is_finished = "crop_px" in here and "border" not in here
    if len(expected["pixel_um"]) == 1 and "crop_px" in expected and not is_finished:
        cure = f"{_same_window(expected)}; or correct fetch.dataset.pixel_um"
    return f"pixels of {sizes[0]} um, but these are of {sizes[1]} um", cure


def _same_window(expected: Preparation) -> str:
    """Return what to write so that crops that are resampled show as much as those of the model, in as many pixels."""
    crop_px, sizes_um = expected["crop_px"], expected.get("pixel_um", ())
    if len(sizes_um) != 1:
        return f"set segment.crop_px = {crop_px}, and segment.crop_um to as much as crops of the model show"
    return (
        f"set segment.crop_um = {sizes_um[0] * crop_px:.6g} and segment.crop_px = {crop_px}, so that crops show as "
        "much as those of the model"
    )


def _in_words(name: str, model: Preparation, cells: Preparation) -> tuple[str, str]:
    """Return one difference, and its cure."""
    expected, here = model[name], cells[name]
    match name:
        case "channels":
            return (
                f"the channels {', '.join(expected)}, but these cells have {', '.join(here)}",
                "use the same channels, with the same names and in the same order, in [fetch]",
            )
        case "crop_px":
            cure = _same_window(model) if cells.get(RESAMPLED) else f"set segment.crop_px = {expected}"
            return f"crops of {expected} px, but these are {here} px", cure
        case "algorithm":
            return (
                f"pixels as segment's ALGORITHM {expected} makes them, but these are made by {here}",
                "train the model again, or use the version of cellssl that its card names under run",
            )
    value = _as_toml(expected)
    return f"cells with segment.{name} = {value}, but these have {_as_toml(here)}", f"set segment.{name} = {value}"


def _as_toml(value: Any) -> str:
    """Return a value as it is written in a recipe."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_as_toml(one)}" for name, one in value.items()) + " }"
    return json.dumps(value)
