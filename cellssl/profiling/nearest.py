"""nearest: profiles of treatments -> the most similar treatments of other compounds."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from cellssl.profiling.nsc import unit_length

AT_ONCE = 512
"""How many treatments are compared with all others at a time."""


def nearest_treatments(treatments: pd.DataFrame, x: Float[np.ndarray, "t d"], count: int = 5) -> pd.DataFrame:
    """Return the nearest treatments of other compounds, by cosine.

    The table has `count` rows per treatment, or as many as there are: row, rank (1 is the most similar), neighbour and
    similarity, where row and neighbour are rows of `treatments`, whose column `compound` is needed. A treatment whose
    profile is 0, or not known (NaN), has no neighbours and is none.
    """
    compounds = treatments["compound"].astype(str).to_numpy(object)
    has_direction = np.isfinite(x).all(axis=1) & np.any(x, axis=1)
    unit = unit_length(np.where(has_direction[:, None], x, 0))
    rows = []
    for start in range(0, len(x), AT_ONCE):
        part = np.arange(start, min(len(x), start + AT_ONCE))
        allowed = has_direction & has_direction[part, None] & (compounds[part, None] != compounds)
        similarity = np.where(allowed, unit[part] @ unit.T, -np.inf)
        for row, near in zip(part.tolist(), similarity, strict=True):
            order = np.argsort(-near, kind="stable")[: int((near > -np.inf).sum())]
            rows += [(row, rank, other, near[other]) for rank, other in enumerate(order[:count].tolist(), 1)]
    table = pd.DataFrame(rows, columns=["row", "rank", "neighbour", "similarity"])
    return table.astype({"row": int, "rank": int, "neighbour": int, "similarity": float})
