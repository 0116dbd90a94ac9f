"""hits_recall: a simulated screen in; per arm the share of changed treatments that it finds, and false calls, out."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from cellssl.datasets.simulation.compounds import compound_of
from page_numbers import markdown
from page_numbers.algorithms import Algorithms, of_recipe
from page_numbers.workplace import Workplace

RECIPE = "hits"
ARMS = ("cell_count", "intensities", "random", "neighbours", "pretrain", "features", "blocks")
EFFECT_MAX = 0.85
CHANGED = 0.3
"""From this share of changed cells a treatment has to be found."""
ALPHA = 0.05


def algorithms() -> Algorithms:
    """Return what the numbers stand on."""
    return of_recipe(RECIPE, (), ("fetch", "segment", "split", "pretrain", "embed", "hits"))


def table(work: Workplace) -> str:
    """Return per arm how many treatments it finds: those with changed cells, the inactive, and the cytostatic ones."""
    found = {arm: _called(work, arm) for arm in ARMS}
    rows = [[f"`{arm}`", *counts(called)] for arm, called in found.items()]
    header = ["arm", f"at least {100 * CHANGED:.0f} % of cells changed", "inactive", "fewer cells only"]
    return markdown.table(header, rows)


def counts(called: Mapping[tuple[str, float], bool]) -> list[str]:
    """Return the calls among the treatments of each kind."""
    kinds: dict[str, list[bool]] = {"changed": [], "inactive": [], "cytostatic": []}
    for treatment, is_active in called.items():
        if kind := kind_of(*treatment):
            kinds[kind].append(is_active)
    changed = kinds["changed"]
    return [
        f"{sum(changed)} of {len(changed)} ({fmean(changed):.2f})",
        *(_of(kinds[name]) for name in ("inactive", "cytostatic")),
    ]


def kind_of(compound: str, dose_micromolar: float) -> str | None:
    """Return what a treatment of the simulation does; None for one that changes some cells, but few."""
    if compound.startswith("sim-inactive"):
        return "inactive"
    if compound == "sim-cytostatic":
        return "cytostatic"
    return "changed" if compound_of(compound).chance(dose_micromolar, EFFECT_MAX) >= CHANGED else None


def _of(called: Sequence[bool]) -> str:
    return f"{sum(called)} of {len(called)}"


def _called(work: Workplace, arm: str) -> dict[tuple[str, float], bool]:
    """Return treatment -> whether an arm calls it active; `cell_count` is a column of every table."""
    column = "cell_count_q_value" if arm == "cell_count" else "q_value"
    made = work.cellssl("run", RECIPE, "--to", "hits", "--arm", "features" if arm == "cell_count" else arm)
    return dict(_rows(made / "hits.csv", column))


def _rows(path: Path, column: str) -> Iterator[tuple[tuple[str, float], bool]]:
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            value = row[column]
            yield (row["compound"], float(row["dose_micromolar"])), bool(value) and float(value) < ALPHA
