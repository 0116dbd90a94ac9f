"""inputs: a field table and the settings in, its channels, the nucleus channel and the label images out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cellssl.config import plugins
from cellssl.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.segment.settings import Settings


def channels_of(fields: pd.DataFrame) -> list[str]:
    """Return the channel of every column `path_CHANNEL` of a field table, in the order of the columns."""
    return [name.removeprefix("path_") for name in fields.columns if name.startswith("path_")]


def nucleus_of(settings: Settings, channels: list[str]) -> int:
    """Return the position of the channel that shows the nuclei; UsageError where no channel has that name."""
    if settings.nucleus_channel is None:
        return 0
    if settings.nucleus_channel not in channels:
        hint = plugins.did_you_mean(settings.nucleus_channel, tuple(channels))
        raise UsageError(f"there is no channel {settings.nucleus_channel!r}", hint=hint)
    return channels.index(settings.nucleus_channel)


def label_image_of(settings: Settings, image: Path) -> Path | None:
    """Return the label image that belongs to a nucleus image; None where the nuclei are segmented."""
    return settings.method.label_image(image)
