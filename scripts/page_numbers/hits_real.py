"""hits_real: CellProfiler's well profiles of BBBC021 -> mechanisms and active treatments after every chain."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from page_numbers import markdown, real_cells
from page_numbers.workplace import Workplace, sets

CHAINS: tuple[tuple[str, ...], ...] = (
    ("center_plate", "scale_pooled", "clip"),
    ("center_plate", "scale_pooled"),
    (),
    ("zscore",),
    ("robust_z",),
    ("percentile",),
    ("zscore", "l2", "center_plate"),
    ("center_plate", "scale_pooled", "sphering"),
    ("tvn",),
)
"""The default of [hits] first."""
CHEAP = ("hits.bootstrap_draws=100",)


def table(work: Workplace) -> str:
    """Return per chain NSC and NSCB, the number of active treatments, and mean average precision."""
    columns = real_cells.write_profiles(work.folder / "profiles.csv")
    rows = [[f"`{', '.join(chain) or 'none'}`", *_scores(work, columns, chain)] for chain in CHAINS]
    return markdown.table(["`normalise`", "NSC", "NSCB", "active treatments", "mean average precision"], rows)


def _scores(work: Workplace, columns: dict[str, str], chain: tuple[str, ...]) -> list[str]:
    of_evaluate = ("evaluate.retrieval.null_size=100", f"evaluate.profiles.normalise={json.dumps(chain)}")
    right = _right(_made(work, columns, "evaluate", of_evaluate) / "nsc.csv", ", ".join(chain) or "none")
    made = _made(work, columns, "hits", (f"hits.normalise={json.dumps(chain)}", *CHEAP))
    found = json.loads((made / "hits.json").read_text(encoding="utf-8"))
    active = f"{found['active']} of {found['tested']}"
    return [right["nsc"], right["nscb"], active, f"{found['mean_average_precision']:.3f}"]


def _made(work: Workplace, columns: dict[str, str], stage: str, settings: tuple[str, ...]) -> Path:
    named = [f"{stage}.table.columns.{name}={column}" for name, column in columns.items()]
    path = f"{stage}.table.path={work.folder / 'profiles.csv'}"
    return work.cellssl(stage, "profiles", *sets(path, *named, *settings))


def _right(path: Path, chain: str) -> dict[str, str]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["moa"] == "all" and row["normalise"] == chain]
    return {row["rule"]: f"{row['right']} of {row['treatments']}" for row in rows}
