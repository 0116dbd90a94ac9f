"""answer_picture: a run in; one picture of the effect of every treatment, or of what the clusters hold, out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.counting import counted
from cellssl.engine.build import Job
from cellssl.reporting import theme
from cellssl.reporting.figures import effects
from cellssl.reporting.html import Block
from cellssl.reporting.natural_sort import natural_key
from cellssl.stages.report.figure_files import write_figure
from cellssl.stages.report.hit_tables import compared_with, names_of, treatments_of, unit_of
from cellssl.stages.report.runs import Run

if TYPE_CHECKING:
    import pandas as pd

MOST_DOSES = 8
"""Doses that have a column; where there are more, treatments are shown in the order of their effects."""
MOST_COMPOUNDS = 12
MOST_TREATMENTS = 12
MOST_GROUPS = 10
COLOURED_CLUSTERS = 7
FILE = "answer"


def picture_of_hits(job: Job, run: Run) -> list[Block]:
    """Return the effect of every treatment: compounds against doses, or in their order where there are no doses."""
    table = treatments_of(run.found_hits)
    table = table.assign(name=names_of(table), is_active=[each is True for each in table["active"]])
    table = table[table["effect"].notna() & table["compound"].notna()]
    if table.empty:
        return []
    doses = sorted(table["dose_micromolar"].dropna().unique().tolist())
    has_doses = table.dropna(subset="dose_micromolar").groupby("compound")["dose_micromolar"].nunique().max()
    is_grid = len(doses) <= MOST_DOSES and has_doses > 1 and table["dose_micromolar"].notna().all()
    return [_grid(job, run, table, doses) if is_grid else _in_order(job, run, table)]


def _grid(job: Job, run: Run, table: pd.DataFrame, doses: list[float]) -> Block:
    order = table.groupby("compound", sort=False)["effect"].max().sort_values(ascending=False, kind="stable").index
    shown = [str(name) for name in order[:MOST_COMPOUNDS]]
    shape = (len(shown), len(doses))
    effect, active = np.full(shape, math.nan), np.zeros(shape, bool)
    for row in table[table["compound"].isin(shown)].to_dict("records"):
        place = shown.index(str(row["compound"])), doses.index(row["dose_micromolar"])
        effect[place], active[place] = row["effect"], row["is_active"]
    figure = effects.effects_by_dose(shown, doses, effect, active)
    rest = len(order) - len(shown)
    left_out = f" {counted(rest, 'further compound')} with smaller effects: see the table." if rest else ""
    framed = " Framed: active." if active.any() else ""
    return write_figure(job, FILE, figure, f"{_caption(run)}{framed}{left_out}", theme.drawing, _drawn(table))


def _in_order(job: Job, run: Run, table: pd.DataFrame) -> Block:
    ordered = table.sort_values("effect", ascending=False, kind="stable")
    shown = ordered.head(MOST_TREATMENTS)
    effect, low, high = (
        shown[name].to_numpy(float, na_value=math.nan) for name in ("effect", "effect_low", "effect_high")
    )
    low, high = np.where(np.isnan(low), effect, low), np.where(np.isnan(high), effect, high)
    figure = effects.effects_in_order(shown["name"].tolist(), effect, low, high, shown["is_active"].to_numpy(bool))
    rest = len(ordered) - len(shown)
    left_out = f" {counted(rest, 'further treatment')} with smaller effects: see the table." if rest else ""
    return write_figure(job, FILE, figure, f"{_caption(run)}{left_out}", theme.drawing, _drawn(ordered))


def _caption(run: Run) -> str:
    other = compared_with(run.found_hits)
    return (
        f"Effect of every treatment by “{run.arm}”, seed {run.seed}: how far its wells lie, in the same direction, "
        f"from {other}s. 0: no effect; {unit_of(run)}."
    )


def _drawn(table: pd.DataFrame) -> pd.DataFrame:
    names = ("compound", "dose_micromolar", "effect", "effect_low", "effect_high", "active")
    return table[list(names)].reset_index(drop=True)


def picture_of_clusters(job: Job, run: Run, cells: pd.DataFrame) -> list[Block]:
    """Return the share of every cluster in controls and treatments, or in classes; else the size of the clusters."""
    groups, what = _groups(cells)
    if groups is None:
        return _sizes(job, run, cells)
    counts = _counts(groups, cells["cluster"])
    names = [str(name) for name in counts.index[:MOST_GROUPS]]
    share = counts.to_numpy(float)[: len(names)]
    share = share / share.sum(axis=1, keepdims=True)
    shown, clusters, rest = _largest(share, [int(one) for one in counts.columns])
    figure = effects.shares_of_clusters(names, shown, clusters, rest)
    more = len(counts) - len(names)
    left_out = f" {counted(more, 'further row')}: see figures/answer.csv." if more else ""
    caption = f"Share of the cells of every {what} in each cluster of “{run.arm}”, seed {run.seed}.{left_out}"
    drawn = counts.reset_index(names=what).rename(columns=lambda one: f"cluster_{one}" if isinstance(one, int) else one)
    return [write_figure(job, FILE, figure, caption, theme.drawing, drawn)]


def _groups(cells: pd.DataFrame) -> tuple[Any, str]:
    """Return the group of every cell and what a group is; None where nothing is known that could divide the cells."""
    if "compound" in cells and cells["compound"].notna().any():
        return _treatments(cells), "treatment"
    if "label" in cells and cells["label"].nunique() > 1:
        return cells["label"].astype(object), "class"
    return None, ""


def _treatments(cells: pd.DataFrame) -> Any:
    import pandas as pd

    doses = cells["dose_micromolar"] if "dose_micromolar" in cells else pd.Series(math.nan, cells.index)
    control = cells["control"].fillna(False).astype(bool) if "control" in cells else pd.Series(False, cells.index)
    names = [
        "control" if is_control else None if pd.isna(name) else f"{name} {dose:.4g} µM" if pd.notna(dose) else str(name)
        for name, dose, is_control in zip(cells["compound"], doses, control, strict=True)
    ]
    return pd.Series(names, cells.index, dtype=object)


def _counts(groups: Any, clusters: Any) -> pd.DataFrame:
    """Return the number of cells by group and cluster: controls first, then the groups that differ most from them."""
    import pandas as pd

    counts = pd.crosstab(groups, clusters)
    share = counts.div(counts.sum(axis=1), axis=0)
    if "control" not in counts.index:
        return counts.loc[sorted(counts.index, key=lambda name: natural_key(str(name)))]
    apart = (share - share.loc["control"]).abs().sum(axis=1)
    apart["control"] = math.inf
    return counts.loc[apart.sort_values(ascending=False, kind="stable").index]


def _largest(share: np.ndarray, clusters: list[int]) -> tuple[np.ndarray, list[int], bool]:
    """Return the shares of those clusters that have a colour of their own, and the share of all others."""
    if len(clusters) <= COLOURED_CLUSTERS + 1:
        return share, clusters, False
    kept = np.sort(np.argsort(-share.sum(axis=0), kind="stable")[:COLOURED_CLUSTERS])
    others = np.delete(share, kept, axis=1).sum(axis=1, keepdims=True)
    return np.hstack([share[:, kept], others]), [clusters[one] for one in kept] + [-1], True


def _sizes(job: Job, run: Run, cells: pd.DataFrame) -> list[Block]:
    """Return the size of every cluster, where nothing is known about the cells."""
    sizes = cells["cluster"].value_counts().sort_index()
    if sizes.empty:
        return []
    shown = sizes.sort_values(ascending=False, kind="stable").head(MOST_GROUPS)
    numbers = [int(one) for one in shown.index]
    share = np.diag(shown.to_numpy(float) / len(cells))
    names = [f"cluster {number} ({shown[number]:,} cells)" for number in numbers]
    figure = effects.shares_of_clusters(names, share, numbers, legend=False)
    caption = f"Share of the {len(cells):,} clustered cells in each cluster of “{run.arm}”, seed {run.seed}."
    drawn = sizes.rename_axis("cluster").reset_index(name="cells")
    return [write_figure(job, FILE, figure, caption, theme.drawing, drawn)]
