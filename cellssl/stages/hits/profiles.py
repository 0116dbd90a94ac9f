"""profiles: a screen and a chain in; one normalised profile per well, centred on its plate, and who fitted it, out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.errors import DataError, UsageError
from cellssl.stages.hits.screen import OF_WELL, SECTION, Screen
from cellssl.stages.shared.external_table import controls_key
from cellssl.stages.shared.fitted_link import FittedLink
from cellssl.stages.shared.plate_layout import PlateLayout

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.hits.settings import Settings


@dataclass(frozen=True)
class Profiles:
    """One profile per well that has a vector."""

    wells: pd.DataFrame
    """Plate, well, what is known of it, and `rows`, the number of vectors that its profile is made of."""
    x: np.ndarray
    """Profiles (wells, features) float64, centred on the control wells of their plate, or on all its wells."""
    names: list[str]
    fitted_by: tuple[FittedLink, ...]
    empty_blocks: tuple[str, ...]

    @property
    def is_control(self) -> np.ndarray:
        """Which wells are controls."""
        return self.wells["control"].to_numpy(bool)


def make_profiles(screen: Screen, settings: Settings) -> Profiles:
    """Fit the chain on the cells of controls, or on all cells where there is no control to compare with.

    Raises UsageError where the controls of a plate are too few for the chain.
    """
    from cellssl.profiling.activity import centred
    from cellssl.profiling.chain import fit_chain, fitted_by, is_per_plate
    from cellssl.profiling.frames import whole_plates
    from cellssl.profiling.profiles import well_profiles

    layout, links, key = PlateLayout.of(screen.cells), settings.normalise, controls_key(settings.table, SECTION)
    everything = np.ones(len(screen.cells), bool)
    fitting = layout.is_control if settings.reference == "controls" else everything
    frames = whole_plates(layout.plates, fitting, key) if is_per_plate(links) else None
    by = (fitting, layout.plates, fitting, frames)
    try:
        chain, normal = fit_chain(links, screen.vectors, *by, key=key, blocks=screen.blocks)
    except DataError as error:
        raise UsageError(error.message, hint=error.hint) from error
    wells, x = well_profiles(screen.cells, normal, settings.aggregate, OF_WELL)
    control = wells["control"].to_numpy(bool)
    x = centred(x, wells["plate"], control, settings.reference)
    names = _names(screen.names, normal.shape[1], settings.aggregate)
    who = FittedLink.each(fitted_by(links, *by, blocks=screen.blocks))
    return Profiles(wells.rename(columns={"cells": "rows"}), x, names, who, chain.empty_blocks)


def _names(names: list[str], width: int, aggregate: str) -> list[str]:
    """Return the names of the columns of a profile; emb_0000 and so on where a link changes their number."""
    from cellssl.profiling.profiles import QUANTILES

    names = names if len(names) == width else [f"emb_{number:04d}" for number in range(width)]
    if aggregate != "quantiles":
        return names
    return [f"{name}_q{round(100 * quantile):02d}" for quantile in QUANTILES for name in names]
