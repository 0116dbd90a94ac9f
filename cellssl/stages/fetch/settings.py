"""settings: the section [fetch] of a recipe in, its validated settings out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field as Setting

from cellssl.config.settings import PluginField, SettingsModel
from cellssl.datasets.base import Dataset
from cellssl.datasets.tables.controls import DEFAULT_CONTROLS
from cellssl.engine.stage import StageSettings

ALGORITHM = 1


class PlateSettings(SettingsModel):
    """Settings that determine the result of one plate."""

    controls: tuple[str, ...] = DEFAULT_CONTROLS
    """Compounds of the control wells, which scale intensities and are the untreated class."""
    max_failures: float = Setting(0.01, ge=0, le=1)
    """Largest share of fields that may be missing or broken; quarantine.csv lists them with the reason. Of 20 or more
    fields of a plate, one may be, unless the share is 0."""


class Settings(PlateSettings, StageSettings):
    """Fetch the images: from which data set, how many of them, and how many fields may be missing."""

    dataset: Annotated[Dataset, PluginField("cellssl.datasets")]
    """The data set: its name, or a table with its name and its settings."""
    sample: int | None = Setting(None, ge=1)
    """Number of fields of a first look, spread over plates, treatments, control wells and wells; by default all fields
    are taken. The draw follows from the names of plates, compounds and wells. It is for a look at the images and the
    settings, and no result: few fields of a well, and not of all wells, are in it."""
    exclude_plates: tuple[str, ...] = ()
    """Plates that are left out, by name, such as one whose images are broken."""

    def external_files(self) -> dict[str, Path]:
        """Return the user's tables, stacks and images, by their role."""
        return {f"dataset.{role}": path for role, path in self.dataset.external_files().items()}
