"""arm_tables: the settings of arms in, tables of what differs between them out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cellssl.reporting.html import Block, Folded, Section, Table
from cellssl.stages.report import findings
from cellssl.stages.report.runs import Run, first_seeds

if TYPE_CHECKING:
    pass
from cellssl.stages.report.tables_common import by_arm


def arms(runs: list[Run]) -> list[Section]:
    """What each arm is, and in which settings they differ."""
    table = [
        [one.arm, "baseline" if one.is_baseline else "trained", findings.describe(one), _clustered(one)]
        for one in first_seeds(runs)
    ]
    seeds = {arm: ", ".join(str(one.seed) for one in mine) for arm, mine in by_arm(runs).items()}
    rows = [[*row, seeds[row[0]]] for row in table]
    blocks: list[Block] = [Table(["arm", "kind", "what looks at a cell", "clusters", "seeds"], rows)]
    return [Section("What was compared", [*blocks, *_differences(first_seeds(runs))])]


def _clustered(run: Run) -> str:
    section, found = run.cluster.card.section, run.cluster.card.metrics
    vectors = {
        "none": "vectors as they are",
        "zscore": "every number of mean 0 and standard deviation 1",
        "l2": "vectors of unit length",
        "pca_whiten": "vectors whitened by PCA",
    }
    how = f"{found['method']['name']}, k = {found['k']}, {vectors.get(found['normalise'], found['normalise'])}"
    return f"{how}, assigned to an earlier clustering" if section.get("assign_to") else how


def _differences(runs: list[Run]) -> list[Block]:
    """Knobs that are not the same in all arms that have them."""
    knobs = [_knobs(one) for one in runs]
    names = sorted({name for each in knobs for name in each})
    differ = [name for name in names if len({each[name] for each in knobs if name in each}) > 1]
    table = [[name, *(each.get(name, "–") for each in knobs)] for name in differ]
    if not table:
        return []
    return [Folded("Settings in which the arms differ", [Table(["setting", *(one.arm for one in runs)], table)])]


def _knobs(run: Run) -> dict[str, str]:
    sections = {kind: one.card.section for kind, one in run.chain().items() if kind not in ("fetch", "evaluate")}
    return dict(_flat(sections))


def _flat(value: Any, path: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
