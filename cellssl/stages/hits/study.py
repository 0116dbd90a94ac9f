"""study: a screen, its treatments and its profiles, kept together, with what follows from the places of its wells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cellssl.stages.hits.design import Treatments, comparable, treatments_of, with_enough_cells
from cellssl.stages.hits.positions import blocks_of
from cellssl.stages.hits.profiles import Profiles, make_profiles
from cellssl.stages.hits.screen import Screen

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.well_positions import WellPositions
    from cellssl.stages.hits.settings import Settings


@dataclass(frozen=True)
class Study:
    """The wells of a screen, their treatments, and the profiles of those that can be compared."""

    settings: Settings
    screen: Screen
    """Without the cells of plates and wells that are left out; all wells are in its table of wells."""
    left_out: Mapping[str, str]
    """Plate -> why its wells cannot be compared with controls; they have no profile."""
    treatments: Treatments
    profiles: Profiles

    @classmethod
    def of(cls, whole: Screen, settings: Settings) -> Study:
        """Return the study of a screen; raise UsageError where no well can be compared with anything."""
        screen, left_out = comparable(with_enough_cells(whole, settings.min_cells), settings)
        return cls(settings, screen, left_out, treatments_of(screen.wells), make_profiles(screen, settings))

    @property
    def wells(self) -> pd.DataFrame:
        """One row per well of the screen, with or without a profile."""
        return self.screen.wells

    @cached_property
    def rows(self) -> np.ndarray:
        """The row among the wells of the screen of every well that has a profile."""
        return self.rows_of(self.profiles.wells)

    @cached_property
    def labels(self) -> list[str | None]:
        """The name of the treatment of every well that has a profile."""
        return self.treatments.labels(self.rows)

    @cached_property
    def positions(self) -> WellPositions:
        """Where every well of the screen lies."""
        from cellssl.profiling.well_positions import well_positions

        return well_positions(self.wells["well"])

    @cached_property
    def blocks(self) -> list[str]:
        """The block of every well of the screen, within which labels change."""
        return blocks_of(self.wells, self.positions, self.settings)

    @cached_property
    def counted(self) -> np.ndarray:
        """The rows of wells whose number of cells is known, on plates that are compared."""
        is_left_out = self.wells["plate"].isin(list(self.left_out))
        return np.flatnonzero(self.wells["cell_count"].notna() & ~is_left_out)

    def rows_of(self, table: pd.DataFrame) -> np.ndarray:
        """Return the row among the wells of the screen for every row of a table with the columns plate and well."""
        import pandas as pd

        keys = ["plate", "well"]
        return np.asarray(pd.MultiIndex.from_frame(self.wells[keys]).get_indexer(pd.MultiIndex.from_frame(table[keys])))
