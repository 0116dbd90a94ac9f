"""model_config: the card of a model in; what other programs read of it, config.json and its like, out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from cellssl.artifacts.card import FINGERPRINT, Card, FileEntry
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_scale
from cellssl.errors import CellsslError
from cellssl.stages.pretrain.initial_weights import SUFFIXES
from cellssl.stages.shared import preparation
from cellssl.stages.shared.card_shapes import pretrain_metrics
from cellssl.stages.shared.scaled_crops import upstream_segment

FORMAT = 1
"""Version of the layout of a shared folder."""
MODEL_TYPE = "cellssl"
KEPT_OF_RUN = (
    "cellssl", "python", "libraries", "device", "precision", "processes", "seconds", "batch_norm", "compiled",
    "started_from",
)  # fmt: skip
"""What a shared card says of the run; not its host, its date and its platform, which name a person's machine."""
SCALE_RULE = (
    "per plate and channel: grey = round(clip((raw - low) / (high - low), 0, 1) * 255) / 255, rounding half to even; "
    "a channel with high = low becomes 0, and preprocess.py refuses high < low"
)
RESIZE_RULE = (
    "bilinear between pixel centres, edge repeated; a crop that becomes more than two times smaller is averaged over "
    "whole squares first; preprocess.py does it"
)

DONE_BEFORE = {
    ("illumination", "mean"): (
        "The illumination of every image was corrected: it was divided by a flat field, the blurred mean image of its "
        'plate, site and channel (`segment.illumination = "mean"`).'
    ),
    ("crop_mask", "cell"): 'Every pixel of a crop outside its own cell was set to 0 (`segment.crop_mask = "cell"`).',
    ("crop_mask", "nucleus"): (
        'Every pixel of a crop outside its own nucleus was set to 0 (`segment.crop_mask = "nucleus"`).'
    ),
    ("border", "pad"): 'What of a crop lies beyond the image is 0 (`segment.border = "pad"`).',
    ("border", "drop"): 'Cells whose crop leaves the image were left out (`segment.border = "drop"`).',
}
"""Setting of `segment` and its value -> what that does; the other values leave a crop as the microscope gives it."""


def config(model: Artifact, features: int) -> dict[str, Any]:
    """Return config.json: which network it is, and what goes in and comes out."""
    found = pretrain_metrics(model)
    return {
        "format": FORMAT,
        "model_type": MODEL_TYPE,
        "architectures": ["CellsslEncoder"],
        "cellssl_version": str(model.card.run.get("cellssl", "unknown")),
        "fingerprint": model.fingerprint,
        "network": "query",
        "layer": "pooled",
        "encoder": without_folders(model.card.section["encoder"]),
        "channels": found.channels,
        "num_channels": len(found.channels),
        "input_px": found.input_px,
        "features": features,
        "torch_dtype": "float32",
    }


def preprocessing(model: Artifact, store: Store) -> dict[str, Any]:
    """Return preprocessor_config.json: how crops are prepared, and the scale of the plates of the training."""
    found, expected = pretrain_metrics(model), preparation.of_model(model, store)
    sizes_um = expected.get("pixel_um", [])
    return {
        "format": FORMAT,
        "channels": found.channels,
        "crop_px": found.crop_px,
        "pixel_um": sizes_um[0] if len(sizes_um) == 1 else None,
        "input_px": found.input_px,
        "range": [0, 1],
        "scale": SCALE_RULE,
        "resize": RESIZE_RULE,
        "expects": without_folders(expected),
        "plates": scales_of_plates(model, store),
    }


def done_before(expected: Mapping[str, Any]) -> list[str]:
    """Return in sentences what was done to images and crops of the training that preprocess.py does not do."""
    sentences = [sentence for (name, value), sentence in DONE_BEFORE.items() if expected.get(name) == value]
    blur_px = expected.get("illumination_blur_px")
    blurred = f" (Gaussian, standard deviation {blur_px:g} px)" if isinstance(blur_px, int | float) else ""
    return [sentence.replace("the blurred mean image", f"the blurred{blurred} mean image") for sentence in sentences]


def scales_of_plates(model: Artifact, store: Store) -> list[dict[str, Any]]:
    """Return black and white of every plate and channel of the training; nothing where no store has them."""
    with suppress(CellsslError):
        around = store.with_store_of(model)
        split = around.find("split", model.card.inputs.get("split", ""))
        if split is not None:
            scale = read_scale(upstream_segment(split, around))
            columns = scale[["plate", "channel", "low", "high"]].itertuples(index=False)
            return [
                {"plate": str(plate), "channel": str(channel), "low": float(low), "high": float(high)}
                for plate, channel, low, high in columns
            ]
    return []


def shared_card(card: Card, files: Mapping[str, FileEntry], extras: tuple[str, ...]) -> Card:
    """Return the card of a shared folder: of the same fingerprint, with its files, and without folders of a machine."""
    run = {name: card.run[name] for name in KEPT_OF_RUN if name in card.run}
    return replace(
        card,
        section=without_folders(card.section),
        metrics=without_folders(card.metrics),
        run=without_folders(run),
        files=dict(files),
        extras=extras,
    )


def without_folders(value: Any) -> Any:
    """Return a value of a card with the name of a file in place of every path to a file of weights or an artifact."""
    match value:
        case dict():
            return {name: without_folders(one) for name, one in value.items()}
        case list() | tuple():
            return [without_folders(one) for one in value]
        case str() if _is_path(value):
            return _last_part(value)
    return value


def _is_path(text: str) -> bool:
    """Return whether a text is a path: absolute, or one that ends in the name of a file of weights; no address is."""
    if "://" in text or "\n" in text:
        return False
    absolute = text.startswith(("/", "~", "\\\\")) or PureWindowsPath(text).is_absolute()
    return absolute or (text.endswith((*SUFFIXES, ".json")) and ("/" in text or "\\" in text))


def _last_part(path: str) -> str:
    """Return the name of a file, or KIND/FINGERPRINT of the folder of an artifact."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    if len(parts) > 1 and FINGERPRINT.fullmatch(parts[-1]):
        return "/".join(parts[-2:])
    return parts[-1] if parts else ""


def json_text(content: Mapping[str, Any]) -> str:
    """Return JSON with sorted keys, so that equal contents are equal bytes."""
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
