"""settings: the section [fetch] of a recipe in, its validated settings out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field as Knob

from cellssl.config.settings import Plugin, PluginField, SettingsModel
from cellssl.engine.stage import StageSettings

if TYPE_CHECKING:
    from cellssl.datasets.base import Dataset

ALGORITHM = 1


class PlateSettings(SettingsModel):
    """What counts for one plate."""

    controls: tuple[str, ...] = ("DMSO",)
    """Compounds of the control wells, which scale intensities and are the untreated class."""
    max_failures: float = Knob(0.01, ge=0, le=1)
    """Share of fields that may be missing or broken; they are listed in quarantine.csv with the reason."""


class Settings(PlateSettings, StageSettings):
    """Where the images come from."""

    dataset: Annotated[Plugin, PluginField("cellssl.datasets")]
    """The data set: a name, or a table with a name and its knobs."""

    def external_files(self) -> dict[str, Path]:
        """Return the user's tables, stacks and images."""
        return {f"dataset.{role}": path for role, path in dataset_of(self).external_files().items()}


def dataset_of(settings: Settings) -> Dataset:
    """Return the data set that the settings name."""
    dataset: Any = settings.dataset
    return dataset  # type: ignore[no-any-return]
