"""profile_tables: evaluations of arms in, tables of profile scores out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.tables import explained
from cellssl.reporting.html import Block, Bullets, Folded, Paragraph, Section, Table, Value
from cellssl.stages.evaluate.metrics import NSC_RULES, RETRIEVAL_TASKS
from cellssl.stages.report.runs import Run, first_seeds
from cellssl.stages.report.tables_common import PART_NAMES, ROWS_SHOWN, by_arm, mean_sd_text, rows_note

if TYPE_CHECKING:
    import pandas as pd

CSV_TITLES = {"nsc.csv": "NSC and NSCB per mechanism", "map.csv": "Mean average precision per treatment and mechanism"}
"""Tables of an evaluation that the page shows folded."""
CSV_NUMBERS = (
    *("treatments", "right", "accuracy", "dose_micromolar", "profiles"),
    *("mean_average_precision", "p_value", "corrected_p_value"),
)
"""Columns of these tables that hold numbers; all others hold names, also where they look like numbers."""


def profile_section(runs: list[Run]) -> list[Section]:
    """Return the section on mechanisms and replicates, with the reasons why scores are missing."""
    evaluated = [run for run in runs if run.evaluate is not None]
    if not evaluated:
        text = "Not computed: accuracies on left-out plates and wells were not asked for ([evaluate] in the recipe)."
        return [Section("Mechanisms and replicates", [Paragraph(text)], is_appendix=True)]
    blocks: list[Block] = []
    table = [row for arm, arm_runs in by_arm(evaluated).items() for row in _profile_scores(arm, arm_runs)]
    if table:
        header = ["arm", "task", "score", "correct or found", "of", "profiles normalised by"]
        caption = "Mean ± standard deviation over seeds; the counts are those of the first seed."
        blocks.append(Table(header, table, caption))
    for name, title in CSV_TITLES.items():
        blocks += _csv_of_arms(evaluated, name, title)
    missing = _not_computed(evaluated)
    if missing:
        blocks += [Bullets(missing)]
    return [Section("Mechanisms and replicates", blocks, is_appendix=True)]


def _profile_scores(arm: str, arm_runs: list[Run]) -> list[list[Value]]:
    """Return one row per score and normalisation of an arm."""
    evaluations = [run.evaluation for run in arm_runs if run.evaluation]
    table: list[list[Value]] = []
    for rule in NSC_RULES:
        of_rule = [evaluation.nsc[rule] for evaluation in evaluations if rule in evaluation.nsc]
        for how in of_rule[0].accuracy_after if of_rule else ():
            is_chosen = how == of_rule[0].normalise
            counts = [of_rule[0].right if is_chosen else None, of_rule[0].treatments]
            score = mean_sd_text(nsc.accuracy_after.get(how) for nsc in of_rule)
            table.append([arm, PART_NAMES[rule], score, *counts, how if is_chosen else f"{how} (not chosen)"])
    for task in RETRIEVAL_TASKS:
        of_task = [evaluation.retrieval[task] for evaluation in evaluations if task in evaluation.retrieval]
        if of_task:
            score = mean_sd_text(retrieval.mean_average_precision for retrieval in of_task)
            table.append([arm, PART_NAMES[task], score, of_task[0].found, of_task[0].groups, "–"])
    return table


def _csv_of_arms(runs: list[Run], name: str, title: str) -> list[Block]:
    """Return a CSV of the evaluations, of the first seed of every arm, as one table."""
    import pandas as pd

    from cellssl.artifacts.tables import read_csv

    tables = []
    for run in first_seeds(runs):
        if run.evaluate is not None and name in run.evaluate.card.files:
            path = run.evaluate.file(name)
            with explained(path):
                tables.append(read_csv(path, CSV_NUMBERS).assign(arm=run.arm))
    if not tables:
        return []
    table = pd.concat(tables, ignore_index=True)
    table = table[["arm", *(column for column in table.columns if column != "arm")]]
    rows = _python_values(table.head(ROWS_SHOWN))
    return [Folded(f"{title} (first seed)", [Table(list(map(str, table.columns)), rows, rows_note(table, name))])]


def _not_computed(runs: list[Run]) -> list[str]:
    """Return one sentence per missing score and reason, with the arms where not all arms miss it."""
    reasons: dict[str, list[str]] = {}
    for run in runs:
        missing = run.evaluation.not_computed if run.evaluation else {}
        for name, reason in missing.items():
            arms = reasons.setdefault(f"{PART_NAMES.get(name, name)}: not computed, because {reason}", [])
            arms += [] if run.arm in arms else [run.arm]
    every = list(by_arm(runs))
    return [sentence if arms == every else f"{sentence} ({', '.join(arms)})" for sentence, arms in reasons.items()]


def _python_values(table: pd.DataFrame) -> list[list[Value]]:
    """Return numbers and text as Python's own types, None where a value is missing."""
    import pandas as pd

    rows = table.itertuples(index=False)
    return [[None if pd.isna(value) else _python_value(value) for value in row] for row in rows]


def _python_value(value: Value | np.generic) -> Value:
    return value.item() if isinstance(value, np.generic) else value
