"""answer_cells: a run in; typical changed cells beside those they are compared with, for one strip, out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts import embeddings
from cellssl.artifacts.tables import read_cells
from cellssl.counting import counted
from cellssl.engine.build import Job
from cellssl.profiling.clusterer import NOISE
from cellssl.reporting import theme
from cellssl.reporting.html import Block
from cellssl.reporting.natural_sort import natural_key
from cellssl.stages.report.embedded_cells import read_cells_of
from cellssl.stages.report.figure_files import write_figure
from cellssl.stages.report.hit_tables import compared_with, names_of, treatments_of
from cellssl.stages.report.runs import Run, scored_assignments

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Bool, Float, Int

COLUMNS = 6
CELLS = 12
"""Cells of each kind in the strip, two rows."""
TREATMENTS_TRIED = 20
"""Treatments whose cells are looked for, the surest first."""
ENOUGH = 20
"""With fewer cells beside it on its plate, a treatment is shown on another plate, if it is on one."""
LOOKED_AT = 2_000
"""Cells of each kind from which the typical ones are chosen, spread over all wells."""
CHANGED_MOST = 0.25
"""Of the cells that changed, the share that is shown as having changed most."""
LIMIT = 10.0
"""Values further from the middle than this count as this far, so that one feature does not decide."""


@dataclass(frozen=True)
class Strip:
    """Two or three kinds of cells, which become rows of one picture."""

    groups: dict[str, list[str]]
    """Title -> ids of cells."""
    caption: str


def clustered_cells(run: Run) -> pd.DataFrame:
    """Return what is known of the cells that the clusters are scored on, with cluster and distance; without noise."""
    assigned = scored_assignments(run.cluster)
    assigned = assigned[assigned["cluster"] != NOISE]
    kept = [name for name in ("cell_id", "cluster", "distance") if name in assigned]
    return assigned[kept].merge(read_cells_of(run.embed), on="cell_id", how="inner").reset_index(drop=True)


def strip_of_hits(run: Run) -> Strip | None:
    """Return cells of the surest treatment, and cells of controls of the same plate; None where there are none.

    Where the search for hits found that at least a share of its cells changed, a quarter of this share are those that
    lie furthest from the middle of the cells they are compared with; shown are the ones nearest to their own middle, so
    that debris is not. Of a treatment that is not active, or without such a share, the typical of all cells are shown.
    """
    cells, table = read_cells_of(run.embed), treatments_of(run.found_hits)
    if "compound" not in cells:
        return None
    other = compared_with(run.found_hits)
    is_control = cells["control"].fillna(False).to_numpy(bool)
    for name, row in list(zip(names_of(table), table.to_dict("records"), strict=True))[:TREATMENTS_TRIED]:
        treated = _is_treatment(cells, row) & ~is_control
        beside = is_control if other == "control well" else ~treated
        plate = _plate(cells, treated, beside)
        if plate is not None:
            here = (cells["plate"] == plate).to_numpy(bool)
            of = Shown(name, str(plate), other, row["active"], share_changed(row))
            return _strip_of_plate(run, cells, of, treated & here, beside & here)
    return None


@dataclass(frozen=True)
class Shown:
    """The treatment of a strip."""

    name: str
    plate: str
    other: str
    """What its wells were compared with."""
    active: bool | None
    """None where it was not tested."""
    share: float
    """At least this share of its cells changed, as the table of treatments has it; 0 where none is known to."""

    @property
    def title(self) -> str:
        """Return what the strip calls its cells: those that changed only where the treatment did something."""
        if self.share:
            return f"{self.name}: cells that changed most"
        state = {True: "", False: " (not active)", None: " (not tested)"}[self.active]
        return f"{self.name}{state}: its typical cells"


def share_changed(row: dict[Any, Any]) -> float:
    """Return the share of changed cells of a treatment; 0 where it is not active."""
    share = row["changed_share"]
    is_known = row["active"] is True and share is not None and not math.isnan(share)
    return float(share) if is_known and round(100 * share) > 0 else 0.0


def _is_treatment(cells: pd.DataFrame, row: dict[Any, Any]) -> Bool[np.ndarray, "n"]:
    same: np.ndarray = (cells["compound"] == row["compound"]).fillna(False).to_numpy(bool)
    if "dose_micromolar" not in cells:
        return same
    doses, dose = cells["dose_micromolar"].to_numpy(float, na_value=math.nan), row["dose_micromolar"]
    dose = math.nan if dose is None else float(dose)
    return same & (np.isnan(doses) if math.isnan(dose) else np.isclose(doses, dose, rtol=1e-9, atol=0))


def _plate(cells: pd.DataFrame, treated: np.ndarray, beside: np.ndarray) -> object | None:
    """Return the plate with most cells of the treatment among those that have enough to compare with."""
    counts, others = (cells["plate"][rows].value_counts() for rows in (treated, beside))
    known = [plate for plate in sorted(counts.index, key=lambda one: natural_key(str(one))) if plate in others]
    enough = [plate for plate in known if others[plate] >= ENOUGH] or known
    return max(enough, key=lambda plate: counts[plate], default=None)


def _strip_of_plate(run: Run, cells: pd.DataFrame, of: Shown, treated: np.ndarray, beside: np.ndarray) -> Strip:
    of_treatment, of_others = (_spread(np.flatnonzero(each)) for each in (treated, beside))
    x = standardised(_vectors(run, np.concatenate([of_treatment, of_others])), len(of_treatment))
    chosen, usual = typical(x[: len(of_treatment)], x[len(of_treatment) :], CHANGED_MOST * of.share)
    ids, those = cells["cell_id"].to_numpy(str), f"{of.other.removesuffix(' well')} cells"
    how = f"the most typical of its {counted(len(of_treatment), 'cell')}"
    if of.share:
        how = (
            f"the most typical of the {100 * CHANGED_MOST * of.share:.0f} % of its {len(of_treatment):,} cells that "
            f"are least like {those} (at least {100 * of.share:.0f} % changed)"
        )
    caption = (
        f"Plate {of.plate}, all at the same contrast. Above: {how}. Below: the most typical of {len(of_others):,} "
        f"{those}. Typical: nearest to the middle of their group, as measured by “{run.arm}”."
    )
    groups = {of.title: ids[of_treatment[chosen]], f"{those} of the same plate": ids[of_others[usual]]}
    return Strip({title: list(map(str, cells)) for title, cells in groups.items()}, caption)


def _vectors(run: Run, rows: Int[np.ndarray, "n"]) -> np.ndarray:
    """Return the vectors of some cells, in the order given."""
    order = np.argsort(rows, kind="stable")
    read = embeddings.read_rows(run.embed.file("embeddings.parquet"), rows[order])
    found: np.ndarray = read[np.argsort(order, kind="stable")]
    return found


def _spread(rows: Int[np.ndarray, "n"]) -> Int[np.ndarray, "m"]:
    """Return at most LOOKED_AT of the rows, at even steps, so that every well is among them."""
    if len(rows) <= LOOKED_AT:
        return rows
    spread: np.ndarray = rows[np.linspace(0, len(rows) - 1, LOOKED_AT).astype(int)]
    return spread


def standardised(vectors: Float[np.ndarray, "n d"], n_treated: int) -> Float[np.ndarray, "n d"]:
    """Centre and scale every feature by the cells compared with, which come last (median and MAD), cut at ±10.

    A feature that does not vary among them, or has no value, becomes 0.
    """
    import warnings

    beside = vectors[n_treated:].astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a feature without any value
        middle = np.nanmedian(beside, axis=0)
        spread = 1.4826 * np.nanmedian(np.abs(beside - middle), axis=0)
    scale = np.where(spread > 0, spread, np.inf)
    x: np.ndarray = np.nan_to_num((vectors - middle) / scale)
    return np.clip(x, -LIMIT, LIMIT)


def typical(
    treated: Float[np.ndarray, "n d"], beside: Float[np.ndarray, "m d"], share: float
) -> tuple[Int[np.ndarray, "k"], Int[np.ndarray, "l"]]:
    """Return the rows of typical cells among the share that lies furthest from those beside, and of typical of these.

    With a share of 0 the typical of all treated cells are returned.
    """
    middle = np.median(beside, axis=0)
    usual, found = (np.linalg.norm(each - middle, axis=1) for each in (beside, treated))
    n_changed = math.ceil(share * len(treated)) or len(treated)
    chosen = np.sort(np.argsort(-found, kind="stable")[:n_changed])
    from_middle = np.linalg.norm(treated[chosen] - np.median(treated[chosen], axis=0), axis=1)
    return (
        chosen[np.argsort(from_middle, kind="stable")[:CELLS]],
        np.argsort(usual, kind="stable")[:CELLS],
    )


def strip_of_clusters(run: Run, cells: pd.DataFrame) -> Strip | None:
    """Return treated cells of the cluster richest in them, and controls of one plate; else cells of large clusters."""
    control = cells["control"].fillna(False).to_numpy(bool) if "control" in cells else np.zeros(len(cells), bool)
    treated = ~control & (
        cells["compound"].notna().to_numpy(bool) if "compound" in cells else np.zeros(len(cells), bool)
    )
    if control.any() and treated.any():
        return _treated_beside_controls(run, cells, treated, control)
    sizes = cells["cluster"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    chosen = sizes.index[:3].tolist()
    if not chosen:
        return None
    shown = CELLS if len(chosen) < 3 else COLUMNS
    groups = {f"cluster {number}": _nearest(cells[cells["cluster"] == number], shown) for number in chosen}
    which = "the only cluster" if len(groups) == 1 else f"the {len(groups)} largest clusters"
    return Strip(groups, f"Cells of {which} of “{run.arm}”, those nearest to the middle of theirs.")


def _treated_beside_controls(run: Run, cells: pd.DataFrame, treated: np.ndarray, control: np.ndarray) -> Strip | None:
    numbers = cells["cluster"].to_numpy()
    share = {one: float(treated[numbers == one].mean()) for one in np.unique(numbers).tolist()}
    richest, poorest = max(share, key=share.__getitem__), min(share, key=share.__getitem__)
    plate = _plate(cells, treated & (numbers == richest), control)
    if plate is None:
        return None
    here = (cells["plate"] == plate).to_numpy(bool)
    usual = control & here & (numbers == poorest)
    beside = usual if usual.any() else control & here
    changed = treated & here & (numbers == richest)
    groups = {
        f"treated cells of cluster {richest}": _nearest(cells[changed], CELLS),
        "control cells of the same plate": _nearest(cells[beside], CELLS),
    }
    where = f" of cluster {poorest}" if usual.any() else ""
    caption = (
        f"Plate {plate}, all at the same contrast. Above: the most typical of {changed.sum():,} treated cells of the "
        f"cluster of “{run.arm}” that is richest in them ({100 * share[richest]:.0f} % of its scored cells). Below: "
        "the most typical "
        f"of {beside.sum():,} control cells{where}. Typical: nearest to the middle of the cluster."
    )
    return Strip(groups, caption)


def _nearest(cells: pd.DataFrame, count: int) -> list[str]:
    """Return the cells nearest to the middle of their cluster, as far as that is known."""
    if "distance" in cells:
        cells = cells.sort_values("distance", kind="stable")
    return [str(name) for name in cells["cell_id"].head(count)]


def draw(job: Job, run: Run, strip: Strip | None) -> list[Block]:
    """Return the picture of the cells; nothing where there are none, or the segment artifact lacks some of them."""
    import pandas as pd

    from cellssl.imaging.colour import colour_words, named_colours, to_rgb
    from cellssl.reporting.figures.cells import montage
    from cellssl.stages.shared.scaled_crops import common_pixel_um, scaled_crops

    if strip is None:
        return []
    chosen = pd.DataFrame(
        [(title, cell) for title, cells in strip.groups.items() for cell in cells], columns=["shown_as", "cell_id"]
    )
    cells = chosen.merge(read_cells(run.segment), on="cell_id", how="left")
    if cells.empty or cells["crop_row"].isna().any():
        return []
    crops = scaled_crops(run.segment, job.context.store, cells)
    tiles = to_rgb(crops.read(np.arange(len(crops))), named_colours(crops.channels))
    groups = {title: tiles[(cells["shown_as"] == title).to_numpy(bool)] for title in strip.groups}
    pixel_um = common_pixel_um(cells)
    figure = montage(groups, pixel_um, columns=COLUMNS, width_inch=theme.HALF_INCH)
    caption = f"{strip.caption} Channels: {colour_words(crops.channels)}."
    kept = [name for name in ("shown_as", "cell_id", "plate", "well") if name in cells]
    return [write_figure(job, "answer-cells", figure, caption, theme.photo, cells[kept])]
