"""profile_tables: evaluations of arms in, tables of profile scores out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellssl.reporting.html import Block, Bullets, Folded, Paragraph, Section, Table
from cellssl.stages.report.runs import Run, first_seeds

if TYPE_CHECKING:
    import pandas as pd
from cellssl.stages.report.tables_common import ROWS_SHOWN, WORDS, by_arm, seed_range, shortened


def profiled(runs: list[Run]) -> list[Section]:
    """Mechanisms and replicates; and what could not be had of these cells, with the reason."""
    evaluated = [one for one in runs if one.evaluate is not None]
    if not evaluated:
        words = "Nothing was evaluated: add [evaluate] to the recipe, for accuracies on unseen plates and wells."
        return [Section("Mechanisms and replicates", [Paragraph(words)])]
    blocks: list[Block] = []
    table = [row for arm, mine in by_arm(evaluated).items() for row in _profile_scores(arm, mine)]
    if table:
        header = ["arm", "question", "score", "right or found", "of", "profiles normalised by"]
        caption = "Mean ± standard deviation over seeds; counts are those of the first seed."
        blocks.append(Table(header, table, caption))
    for name, title in {
        "nsc.csv": "Mechanism by mechanism",
        "map.csv": "Replicates and mechanisms, one by one",
    }.items():
        blocks += _csv_of_arms(evaluated, name, title)
    missing = _not_computed(evaluated)
    if missing:
        blocks += [Paragraph("What these cells do not allow, and why:"), Bullets(missing)]
    return [Section("Mechanisms and replicates", blocks)]


def _profile_scores(arm: str, mine: list[Run]) -> list[list[Any]]:
    found = [one.evaluate.card.metrics for one in mine if one.evaluate]
    table: list[list[Any]] = []
    for rule in ("nsc", "nscb"):
        each = [one[rule] for one in found if rule in one]
        for how in each[0]["accuracy_after"] if each else ():
            chosen = how == each[0]["normalise"]
            counts = [each[0]["right"], each[0]["treatments"]] if chosen else [None, each[0]["treatments"]]
            score = seed_range(one["accuracy_after"].get(how) for one in each)
            table.append([arm, WORDS[rule], score, *counts, how if chosen else f"{how} (not chosen)"])
    for task in ("map_replicates", "map_mechanism"):
        each = [one[task] for one in found if task in one]
        if each:
            score = seed_range(one["mean_average_precision"] for one in each)
            table.append([arm, WORDS[task], score, each[0]["found"], each[0]["groups"], "–"])
    return table


def _csv_of_arms(runs: list[Run], name: str, title: str) -> list[Block]:
    """A table that every arm's evaluation holds, of the first seeds, below each other."""
    import pandas as pd

    tables = []
    for one in first_seeds(runs):
        if one.evaluate is not None and name in one.evaluate.card.files:
            tables.append(pd.read_csv(one.evaluate.file(name)).assign(arm=one.arm))
    if not tables:
        return []
    table = pd.concat(tables, ignore_index=True)
    table = table[["arm", *(column for column in table.columns if column != "arm")]]
    rows = _values(table.head(ROWS_SHOWN))
    return [Folded(f"{title} (first seed)", [Table(list(map(str, table.columns)), rows, shortened(table, name))])]


def _not_computed(runs: list[Run]) -> list[str]:
    why: dict[str, list[str]] = {}
    for one in runs:
        missing = one.evaluate.card.metrics.get("not_computed", {}) if one.evaluate else {}
        for name, reason in missing.items():
            arms_ = why.setdefault(f"{WORDS.get(name, name)}: {reason}", [])
            arms_ += [] if one.arm in arms_ else [one.arm]
    every = list(by_arm(runs))
    return [said if arms_ == every else f"{said} ({', '.join(arms_)})" for said, arms_ in why.items()]


def _values(table: pd.DataFrame) -> list[list[Any]]:
    """Python's own numbers and words, None where a value is missing."""
    import pandas as pd

    return [[None if pd.isna(value) else _own(value) for value in row] for row in table.itertuples(index=False)]


def _own(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
