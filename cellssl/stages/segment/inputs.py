"""inputs: a field table and the settings in, its channels, the nucleus channel and the label images out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cellssl.artifacts.store import Artifact
from cellssl.errors import UsageError
from cellssl.images.reference import ImageReference, parse_reference

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.segment.settings import Detection


def channels_of(fields: pd.DataFrame) -> list[str]:
    """Return the channel of every column `path_CHANNEL` of a field table, in the order of the columns."""
    return [name.removeprefix("path_") for name in fields.columns if name.startswith("path_")]


def check_channels(settings: Detection, channels: list[str]) -> None:
    """Raise UsageError, with the setting, where the section names a channel that images with these ones lack."""
    nucleus_of(settings, channels)
    stain_of(settings, channels)
    body_of(settings, channels)


def nucleus_of(settings: Detection, channels: list[str]) -> int:
    """Return the position of the channel that shows the nuclei; UsageError where no channel has that name."""
    if settings.nucleus_channel is None:
        return 0
    return _position_of(settings.nucleus_channel, "nucleus_channel", channels)


def stain_of(settings: Detection, channels: list[str]) -> int | None:
    """Return the position of the channel that shows the cells; None where cells are not found.

    Raises UsageError where no channel has that name.
    """
    return None if settings.cells is None else _position_of(settings.cells.channel, "cells.channel", channels)


def body_of(settings: Detection, channels: list[str]) -> int | None:
    """Return the position of the channel by which lobes are merged; None where they are not.

    Raises UsageError where no channel has that name.
    """
    return None if settings.lobes is None else _position_of(settings.lobes.channel, "lobes.channel", channels)


def _position_of(channel: str, setting: str, channels: list[str]) -> int:
    if channel not in channels:
        raise UsageError(
            f"segment.{setting} is {channel!r}, which is no channel", hint=f"there are: {', '.join(channels)}"
        )
    return channels.index(channel)


def image_of(text: str, fetched: Artifact) -> ImageReference:
    """Return the image that a cell of the field table of a fetch artifact names, with the whole paths of its files."""
    return parse_reference(text).within(fetched.path)


def label_image_of(settings: Detection, image: ImageReference, field_id: str) -> Path | None:
    """Return the label image that belongs to a field with this nucleus image; None where the nuclei are segmented.

    It is named after the field, or after the file of the image, the first where every z plane has a file.
    """
    return settings.method.label_image(Path(image.files[0]), field_id)
