"""positives: real crops and simulated screens in; what positives from metadata do, out."""

from __future__ import annotations

from functools import partial
from typing import Any

from cellssl.counting import counted
from page_numbers import markdown
from page_numbers.algorithms import Algorithms, of_plugins, of_recipe
from page_numbers.real_cells import CROPS
from page_numbers.workplace import REPOSITORY, Workplace, benchmark

RECIPE = REPOSITORY / "benchmarks" / "positives.toml"
DATA = {"real": "real crops", "simulated": "simulated screens"}
TITLES = {
    "none": "without positives",
    "share25": "`share = 0.25`",
    "share50": "`share = 0.5`",
    "share100": "`share = 1.0`",
    "random": "untrained",
    "features": "`features`",
}


def algorithms() -> Algorithms:
    """Return what both tables stand on."""
    stages = ("fetch", "segment", "split", "pretrain", "embed")
    return of_recipe(RECIPE, to=stages) | of_plugins("cellssl.datasets", "simulated")


def table(work: Workplace) -> str:
    """Run what is missing of the benchmark; return a table for each kind of data."""
    made = benchmark("positives")
    made.write_stack(CROPS, work.folder)
    return "\n\n".join(_table(made, data, _rows(made, work, data)) for data in DATA)


def _rows(made: Any, work: Workplace, data: str) -> list[dict[str, Any]]:
    halves = made.HALVES[data]
    kept = (work.kept(f"{data}-{half}", partial(made.one_half, work.folder, work.store, data, half)) for half in halves)
    return [row for rows in kept for row in rows]


def _table(made: Any, data: str, rows: list[dict[str, Any]]) -> str:
    header = [DATA[data], "mechanism", "gain", "replicates", "gain"]
    body = [
        [TITLES[arm], *(text for score in made.SCORES for text in _cells(made, rows, arm, score))] for arm in TITLES
    ]
    compounds = len({row["compound"] for row in rows})
    halves = len({row["half"] for row in rows})
    words = counted(halves, "random half").replace("halfs", "halves")
    note = f"{compounds} compounds, left out in {words} of all compounds; three training seeds."
    return "\n\n".join([markdown.table(header, body), markdown.paragraph(note)])


def _cells(made: Any, rows: list[dict[str, Any]], arm: str, score: str) -> tuple[str, str]:
    mean = made.per_compound(rows, arm, score).groupby("compound").mean().mean()
    if arm == "none":
        return f"{mean:.3f}", ""
    gain, low, high = made.difference(rows, arm, score)
    return f"{mean:.3f}", f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]"
