"""inputs: a field table in, its channels, the nucleus channel and label images out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cellssl.config import plugins
from cellssl.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.segment.settings import Settings


def channels_of(fields: pd.DataFrame) -> list[str]:
    """Every column `path_CHANNEL` of a field table, in its order."""
    return [name.removeprefix("path_") for name in fields.columns if name.startswith("path_")]


def nucleus_of(settings: Settings, channels: list[str]) -> int:
    """Which channel shows the nuclei; UsageError where there is none of that name."""
    if settings.nucleus_channel is None:
        return 0
    if settings.nucleus_channel not in channels:
        hint = plugins.did_you_mean(settings.nucleus_channel, tuple(channels))
        raise UsageError(f"there is no channel {settings.nucleus_channel!r}", hint=hint)
    return channels.index(settings.nucleus_channel)


def label_image_of(settings: Settings, image: Path) -> Path | None:
    """The label image that goes with an image of nuclei, where nuclei come from such images."""
    label_image = getattr(settings.method, "label_image", None)
    return label_image(image) if label_image else None
