"""well_draw: a cell table in; which of its cells belong to the even draw that describes each well, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.contents import section_of
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_cells
from cellssl.stages.shared.card_shapes import SplitSection
from cellssl.stages.shared.cell_tables import chosen_cells

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Bool


def even_draw(cells: pd.DataFrame, cells_per_well: int) -> Bool[np.ndarray, "n"]:
    """Return which cells are drawn: `cells_per_well` of every well, or all of a well that has fewer.

    `cells` has the columns cell_id, field_id, plate and well. The fields of a well take turns, and each gives its cells
    in the order of a hash of their cell_id. So the draw of a well follows from its own cells alone: not from other
    plates, the order of the rows, or a seed. A smaller draw is part of a larger one.
    """
    from cellssl.randomness import cell_keys

    table = cells[["plate", "well", "field_id", "cell_id"]].reset_index(drop=True)
    table = table.assign(key=cell_keys(table["cell_id"])).sort_values(["key", "cell_id"], kind="stable")
    table["turn"] = table.groupby("field_id", sort=False, dropna=False).cumcount()
    table = table.sort_values("turn", kind="stable")
    place = table.groupby(["plate", "well"], sort=False, dropna=False).cumcount()
    drawn = np.zeros(len(cells), bool)
    drawn[place.index[place < cells_per_well]] = True
    return drawn


def cells_to_embed(source: Artifact, segment: Artifact, cells_per_well: int) -> pd.DataFrame:
    """Return the cells of a split or segment artifact, then the cells that only the draw has; `drawn` marks the draw.

    The draw is from all cells of the plates that the split uses, whatever their class. Cells outside the split
    have neither `split` nor `label`.
    """
    import pandas as pd

    chosen = chosen_cells(source, segment)
    candidates = rows_of_plates(source, read_cells(segment))
    drawn = candidates[even_draw(candidates, cells_per_well)]
    more = drawn[~drawn["cell_id"].isin(chosen["cell_id"])]
    cells = pd.concat([chosen, more], ignore_index=True) if len(more) else chosen
    return cells.assign(drawn=cells["cell_id"].isin(drawn["cell_id"]))


def rows_of_plates(source: Artifact, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table of the plates that a split uses; all rows where it names none, or is no split."""
    plates = section_of(source, SplitSection).plates if source.card.kind == "split" else []
    return table[table["plate"].isin(plates)].reset_index(drop=True) if plates else table
