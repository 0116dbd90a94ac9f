"""check_table: the checks of a report in; the sections with the table of checks and with the next steps out."""

from __future__ import annotations

from collections.abc import Sequence

from cellssl.reporting.html import Bullets, Paragraph, Section, Table
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.check import Check, summary
from cellssl.stages.report.next_steps import next_steps
from cellssl.stages.report.runs import Run

CAPTION = (
    "Passed: nothing speaks against the result here. Doubtful: a reason to doubt the result. Unclear: there is too "
    "little to judge; more wells, cells or seeds would tell. Not checked: it needs something that this run has not, "
    "such as labels."
)


def check_sections(runs: list[Run], scores: ScoresByArm, found: Sequence[Check]) -> list[Section]:
    """Return the section with the checks of the leading arm, and the section with the next steps."""
    table = Table(
        ["question", "answer", "finding", "numbers"],
        [[one.question, one.answer, f"{one.sign.symbol} {one.sign.word}", one.numbers] for one in found],
        f"Checks of “{scores.leading}”. {CAPTION}",
        [one.anchor for one in found],
    )
    return [
        Section("How reliable is it?", [Paragraph(summary(found)), table], anchor="checks"),
        Section("What to check next", [Bullets(next_steps(runs, scores))], anchor="next"),
    ]
