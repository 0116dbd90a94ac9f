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
    return 0 if settings.nucleus_channel is None else position_of(settings.nucleus_channel, channels)


def position_of(channel: str, channels: list[str]) -> int:
    """Return the position of a channel by its name; UsageError where no channel has it."""
    if channel not in channels:
        hint = plugins.did_you_mean(channel, tuple(channels))
        raise UsageError(f"there is no channel {channel!r}", hint=hint)
    return channels.index(channel)


def stain_of(settings: Detection, channels: list[str]) -> int | None:
    """Return the position of the channel that shows the cells; None where cells are not found.

    Raises UsageError where no channel has that name.
    """
    if settings.cells is None:
        return None
    if settings.cells.channel not in channels:
        raise UsageError(
            f"segment.cells.channel is {settings.cells.channel!r}, which is no channel",
            hint=f"there are: {', '.join(channels)}",
        )
    return channels.index(settings.cells.channel)


def image_of(text: str, fetched: Artifact) -> ImageReference:
    """Return the image that a cell of the field table of a fetch artifact names, with the whole paths of its files."""
    return parse_reference(text).within(fetched.path)


def label_image_of(settings: Detection, image: ImageReference, field_id: str) -> Path | None:
    """Return the label image that belongs to a field with this nucleus image; None where the nuclei are segmented.

    It is named after the field, or after the file of the image, the first where every z plane has a file.
    """
    return settings.method.label_image(Path(image.files[0]), field_id)
