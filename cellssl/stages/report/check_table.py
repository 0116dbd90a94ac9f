"""check_table: checks of a report in, the table of them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellssl.reporting.html import Bullets, Section, Table
from cellssl.stages.report import arm_scores, checks, next_steps
from cellssl.stages.report.runs import Row, Run

if TYPE_CHECKING:
    pass


def believed(runs: list[Run], rows: list[Row]) -> list[Section]:
    """Whether to believe it, and what is next."""
    answers = [[one.question, one.answer, one.numbers] for one in checks.beliefs(runs, rows)]
    table = Table(["question", "answer", "numbers"], answers, f"Of “{arm_scores.leading(rows)}”.")
    return [
        Section("Whether to believe it", [table]),
        Section("What to check next", [Bullets(next_steps.next_steps(runs, rows))]),
    ]
