"""check: one question about the reliability of a result, with its answer and finding; and a sentence about many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from cellssl.counting import counted

Finding = Literal["passed", "against", "too little", "not made"]
"""`against`: a reason to doubt the result. `too little`: there is too little data to judge. `not made`: the check does
not apply, or something else is missing."""
FINDING_WORDS: dict[Finding, str] = {
    "passed": "passed",
    "against": "speaks against it",
    "too little": "too little to judge",
    "not made": "not made",
}
"""What the table of checks calls each finding."""
SYMBOLS: dict[Finding, str] = {"passed": "✓", "against": "✗", "too little": "?", "not made": "–"}
"""The mark before the words of each finding, so that colour is never needed to tell them apart."""
HEAVIEST = (
    "collapse",
    "simulated",
    "active",
    "chance",
    "active_baselines",
    "baselines",
    "labels_learned",
    "plate",
    "apart",
)
"""Keys of the checks whose doubts are named first."""
DOUBTS_NAMED = 3
"""Largest number of doubts in the sentence at the top."""
FOLLOWED = "yes, be careful"
"""The answer where clusters follow a nuisance about as much as the label."""


class Check(NamedTuple):
    """One question about the reliability of a result, with its answer."""

    question: str
    answer: str
    numbers: str
    finding: Finding
    doubt: str = ""
    """A few words for the summary: what speaks against the result, or what there is too little of."""
    key: str = ""
    """What calls it in code and in links, the same in every report."""

    @property
    def anchor(self) -> str:
        """Where links of the page find its row."""
        return f"check-{self.key}"


def keyed(found: Mapping[str, Check | None]) -> list[Check]:
    """Return the checks with their keys; those that are None do not apply."""
    return [check._replace(key=key) for key, check in found.items() if check is not None]


def too_little(question: str, why: str, words: str, *, answer: str = "not known") -> Check:
    """Return a check that too little data leaves open; `words` name for the summary what there is too little of."""
    return Check(question, answer, why, "too little", words)


def not_made(question: str, why: str, *, answer: str = "not known") -> Check:
    """Return a check that was not made for another reason."""
    return Check(question, answer, why, "not made")


def summary(found: Sequence[Check]) -> str:
    """Return how many checks passed, what speaks against the result, and what there is too little of."""
    by_finding = {finding: [one for one in found if one.finding == finding] for finding in FINDING_WORDS}
    doubts = {finding: ", ".join(dict.fromkeys(one.doubt for one in each)) for finding, each in by_finding.items()}
    parts = [f"{len(by_finding['passed'])} of {counted(len(found), 'check')} passed."]
    if n_against := len(by_finding["against"]):
        parts.append(f"{n_against} speak{'s' if n_against == 1 else ''} against this result: {doubts['against']}.")
    if n_scarce := len(by_finding["too little"]):
        parts.append(f"For {n_scarce} there is too little to judge: {doubts['too little']}.")
    if n_left := len(by_finding["not made"]):
        parts.append(f"{n_left} {'does' if n_left == 1 else 'do'} not apply, or could not be made.")
    return " ".join(parts)


def in_short(found: Sequence[Check]) -> str:
    """Return how many of the checks passed, and what speaks against the result, for the top of the page."""
    heavy_first = sorted(found, key=lambda one: HEAVIEST.index(one.key) if one.key in HEAVIEST else len(HEAVIEST))
    against = list(dict.fromkeys(one.doubt for one in heavy_first if one.finding == "against"))
    n_passed = sum(one.finding == "passed" for one in found)
    n_against = sum(one.finding == "against" for one in found)
    speaks = "none speaks against it"
    if against:
        named = ", ".join(against[:DOUBTS_NAMED]) + (", and more" if len(against) > DOUBTS_NAMED else "")
        speaks = f"{n_against} speak{'s' if n_against == 1 else ''} against it ({named})"
    left = len(found) - n_passed - n_against
    unknown = f", {left} cannot be judged" if left else ""
    return f"How sure? {n_passed} of {counted(len(found), 'check')} passed, {speaks}{unknown}."
