"""inputs: a field table and the settings in, its channels, the nucleus channel and the label images out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cellssl.artifacts.store import Artifact
from cellssl.config import plugins
from cellssl.errors import UsageError
from cellssl.images.reference import ImageReference, parse_reference

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.segment.settings import Detection


def channels_of(fields: pd.DataFrame) -> list[str]:
    """Return the channel of every column `path_CHANNEL` of a field table, in the order of the columns."""
    return [name.removeprefix("path_") for name in fields.columns if name.startswith("path_")]


def nucleus_of(settings: Detection, channels: list[str]) -> int:
    """Return the position of the channel that shows the nuclei; UsageError where no channel has that name."""
    if settings.nucleus_channel is None:
        return 0
    if settings.nucleus_channel not in channels:
        hint = plugins.did_you_mean(settings.nucleus_channel, tuple(channels))
        raise UsageError(f"there is no channel {settings.nucleus_channel!r}", hint=hint)
    return channels.index(settings.nucleus_channel)


def image_of(text: str, fetched: Artifact) -> ImageReference:
    """Return the image that a cell of the field table of a fetch artifact names, with the whole paths of its files."""
    return parse_reference(text).within(fetched.path)


def label_image_of(settings: Detection, image: ImageReference) -> Path | None:
    """Return the label image that belongs to a nucleus image; None where the nuclei are segmented.

    It is named after the file of the image, the first where every z plane has a file.
    """
    return settings.method.label_image(Path(image.files[0]))
