"""lights: the checks of a report in; seven of them at a glance, each with a link to its row, out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cellssl.reporting.html import Lamp, Lights
from cellssl.reporting.signs import SIGNS
from cellssl.stages.report.check import LIGHT_OF, Check, Finding


class _Rule(NamedTuple):
    """Which checks a light stands for."""

    text: str
    keys: Sequence[str]
    """Keys of checks. The first that applies decides, also where there is too little data: what is known of clusters
    does not make up for what is not known of treatments."""
    nuisance: str = ""
    """What it says the result is not; a doubt of any of its checks decides, since each can find the nuisance."""
    all_count: bool = False
    """Whether all of them must pass; then the worst decides."""


RULES = (
    _Rule("more than chance", ("active", "chance")),
    _Rule("better than the baselines", ("active_baselines", "baselines")),
    _Rule("not the plate", ("plate", "apart"), "plate"),
    _Rule("not the position", ("apart", "well", "field_position", "doubtful"), "position"),
    _Rule("not the cell count", ("by_cell_number", "density"), "cell count"),
    _Rule("trained long enough", ("steps", "loss"), all_count=True),
    _Rule("holds on an unseen plate", ("left_out",)),
)
WORST_FIRST: tuple[Finding, ...] = ("against", "too little", "not made", "passed")


def lights(found: Sequence[Check]) -> Lights:
    """Return the lights of a report; what was not checked is grey and says why."""
    by_key = {one.key: one for one in found}
    return Lights([_lamp(rule, [by_key[key] for key in rule.keys if key in by_key]) for rule in RULES])


def _lamp(rule: _Rule, found: Sequence[Check]) -> Lamp:
    if not found:
        return Lamp("unknown", rule.text, "", "Not checked: it does not apply to the arm that is shown first.")
    one = _deciding(rule, [_on(rule, each) for each in found])
    title = f"{one.question} {one.sign.word}: {one.answer}. {one.numbers}"
    return Lamp(LIGHT_OF[one.finding], one.light or rule.text, one.anchor, title)


def _on(rule: _Rule, check: Check) -> Check:
    """Return the check, or that it leaves the nuisance open: replicates on one plate say nothing about plates."""
    if check.about is None or rule.nuisance in check.about or check.finding == "not made":
        return check
    return check._replace(finding="too little", numbers=f"It says nothing on the {rule.nuisance}: {check.numbers}")


def _deciding(rule: _Rule, found: Sequence[Check]) -> Check:
    """Return the check that decides a light: the worst, or the first that finds a nuisance, or the first that "
    "applies."""
    if rule.all_count:
        return min(found, key=lambda one: WORST_FIRST.index(one.finding))
    against = (one for one in found if rule.nuisance and one.finding == "against")
    return next(against, next((one for one in found if one.finding != "not made"), found[0]))


def in_words(shown: Lights) -> list[list[str]]:
    """Return each light as its text and the name of its colour, for programs."""
    return [[lamp.text, SIGNS[lamp.light].colour] for lamp in shown.lamps]
