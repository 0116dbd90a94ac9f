"""check: one question about the reliability of a result, with its answer and finding; and a sentence about many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from cellssl.counting import counted
from cellssl.reporting.signs import SIGNS, Light, Sign

Finding = Literal["passed", "against", "too little", "not made"]
"""`against`: a reason to doubt the result. `too little`: there is too little data to judge. `not made`: the check does
not apply, or something else is missing."""
LIGHT_OF: dict[Finding, Light] = {"passed": "good", "against": "bad", "too little": "unsure", "not made": "unknown"}
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
    about: tuple[str, ...] | None = None
    """The nuisances on which it says something, where that depends on the data; None: all that it can be asked for."""
    light: str = ""
    """What the light that it decides says, where this depends on the data."""
    is_answer: bool = False
    """Whether it says what the answer at the top says, such as that no treatment changed the cells: it is no doubt."""

    @property
    def sign(self) -> Sign:
        """Return how its finding is shown."""
        return SIGNS[LIGHT_OF[self.finding]]

    @property
    def is_doubt(self) -> bool:
        """Return whether it speaks against the answer."""
        return self.finding == "against" and not self.is_answer

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
    against, scarce = [one for one in found if one.is_doubt], [one for one in found if one.finding == "too little"]
    parts = [f"{sum(one.finding == 'passed' for one in found)} of {counted(len(found), 'check')} passed."]
    if against:
        parts.append(f"{len(against)} {_speak(against)} against this result: {_doubts(against)}.")
    if n_same := sum(one.is_answer for one in found):
        parts.append(f"{n_same} {'says' if n_same == 1 else 'say'} the same as the answer.")
    if scarce:
        parts.append(f"For {len(scarce)} there is too little to judge: {_doubts(scarce)}.")
    if n_left := sum(one.finding == "not made" for one in found):
        parts.append(f"{n_left} {'does' if n_left == 1 else 'do'} not apply, or could not be made.")
    return " ".join(parts)


def in_short(found: Sequence[Check]) -> str:
    """Return how many of the checks passed, and what speaks against the result, for the top of the page."""
    heavy_first = sorted(found, key=lambda one: HEAVIEST.index(one.key) if one.key in HEAVIEST else len(HEAVIEST))
    against = [one for one in heavy_first if one.is_doubt]
    n_passed, n_same = sum(one.finding == "passed" for one in found), sum(one.is_answer for one in found)
    speaks = "none speaks against it"
    if against:
        named = list(dict.fromkeys(one.doubt for one in against))
        shown = ", ".join(named[:DOUBTS_NAMED]) + (", and more" if len(named) > DOUBTS_NAMED else "")
        speaks = f"{len(against)} {_speak(against)} against it ({shown})"
    left = len(found) - n_passed - len(against) - n_same
    same = f", {n_same} {'says' if n_same == 1 else 'say'} the same" if n_same else ""
    unknown = f", {left} cannot be judged" if left else ""
    return f"How sure? {n_passed} of {counted(len(found), 'check')} passed, {speaks}{same}{unknown}."


def _speak(against: Sequence[Check]) -> str:
    return "speaks" if len(against) == 1 else "speak"


def _doubts(found: Sequence[Check]) -> str:
    return ", ".join(dict.fromkeys(one.doubt for one in found))
