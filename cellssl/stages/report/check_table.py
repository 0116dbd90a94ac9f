"""check_table: the checks of a report in; the sections with the table of checks and with the next steps out."""

from __future__ import annotations

from cellssl.reporting.html import Bullets, Section, Table
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.check import FINDING_WORDS
from cellssl.stages.report.checks import checks
from cellssl.stages.report.next_steps import next_steps
from cellssl.stages.report.runs import Run


def check_sections(runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the section with the checks of the leading arm, and the section with the next steps."""
    answers = [[one.question, one.answer, FINDING_WORDS[one.finding], one.numbers] for one in checks(runs, scores)]
    table = Table(["question", "answer", "finding", "numbers"], answers, f"Checks of “{scores.leading}”.")
    return [
        Section("How reliable is it?", [table], anchor="checks"),
        Section("What to check next", [Bullets(next_steps(runs, scores))], anchor="next"),
    ]
