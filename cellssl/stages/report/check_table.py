"""check_table: the checks of a report in; the sections with the table of checks and with the next steps out."""

from __future__ import annotations

from cellssl.reporting.html import Bullets, Paragraph, Section, Table
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.check import FINDING_WORDS, SYMBOLS, summary
from cellssl.stages.report.checks import checks
from cellssl.stages.report.next_steps import next_steps
from cellssl.stages.report.runs import Run

CAPTION = (
    "Passed: nothing speaks against the result here. Speaks against it: a reason to doubt the result. Too little to "
    "judge: more wells, cells or seeds would tell. Not made: it needs something that this run has not, such as labels."
)


def check_sections(runs: list[Run], scores: ScoresByArm) -> list[Section]:
    """Return the section with the checks of the leading arm, and the section with the next steps."""
    found = checks(runs, scores)
    table = Table(
        ["question", "answer", "finding", "numbers"],
        [
            [one.question, one.answer, f"{SYMBOLS[one.finding]} {FINDING_WORDS[one.finding]}", one.numbers]
            for one in found
        ],
        f"Checks of “{scores.leading}”. {CAPTION}",
        [one.anchor for one in found],
    )
    return [
        Section("How reliable is it?", [Paragraph(summary(found)), table], anchor="checks"),
        Section("What to check next", [Bullets(next_steps(runs, scores))], anchor="next"),
    ]
