"""arm_tables: runs in; tables of what each arm is, and of the settings in which arms differ, out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from cellssl.reporting.html import Block, Folded, Section, Table
from cellssl.stages.report import findings
from cellssl.stages.report.runs import Run, first_seeds
from cellssl.stages.report.tables_common import by_arm

VECTORS = {
    "none": "vectors not normalised",
    "zscore": "every feature with mean 0 and standard deviation 1",
    "l2": "vectors of unit length",
    "pca_whiten": "vectors whitened by PCA",
}
"""What `cluster.normalise` means."""


def arm_section(runs: list[Run]) -> list[Section]:
    """Return the section on what each arm is, and in which settings the arms differ."""
    seeds = {arm: ", ".join(str(run.seed) for run in arm_runs) for arm, arm_runs in by_arm(runs).items()}
    rows = [
        [run.arm, "baseline" if run.is_baseline else "trained", findings.describe(run), _clusters(run), seeds[run.arm]]
        for run in first_seeds(runs)
    ]
    blocks: list[Block] = [Table(["arm", "kind", "vector of a cell", "clusters", "seeds"], rows)]
    return [Section("Arms", [*blocks, *_differences(first_seeds(runs))])]


def _clusters(run: Run) -> str:
    """Return how the vectors of a run were clustered."""
    found = run.clusters
    empty = f" ({found.filled} with cells)" if found.filled is not None else ""
    how = f"{found.method['name']}, k = {found.k}{empty}, {VECTORS.get(found.normalise, found.normalise)}"
    return f"{how}, assigned to an earlier clustering" if run.cluster.card.section.get("assign_to") else how


def _differences(runs: list[Run]) -> list[Block]:
    """Return a table of the settings that are not the same in all arms that have them."""
    each_settings = [_settings(run) for run in runs]
    names = sorted({name for settings in each_settings for name in settings})
    differ = [name for name in names if len({each[name] for each in each_settings if name in each}) > 1]
    table = [[name, *(each.get(name, "–") for each in each_settings)] for name in differ]
    if not table:
        return []
    return [Folded("Settings in which the arms differ", [Table(["setting", *(run.arm for run in runs)], table)])]


def _settings(run: Run) -> dict[str, str]:
    """Return path -> value of every setting of a run, as text."""
    sections = {kind: one.card.section for kind, one in run.chain().items() if kind not in ("fetch", "evaluate")}
    return dict(_flat(sections))


def _flat(value: Any, path: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
