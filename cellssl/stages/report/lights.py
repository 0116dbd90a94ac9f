"""lights: the checks of a report in; seven of them at a glance, each with a link to its row, out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cellssl.reporting.html import Lamp, Light, Lights
from cellssl.stages.report.check import FINDING_WORDS, Check, Finding

LIGHT_OF: dict[Finding, Light] = {"passed": "good", "against": "bad", "too little": "unsure", "not made": "unknown"}
COLOUR_OF: dict[Light, str] = {"good": "green", "bad": "red", "unsure": "amber", "unknown": "grey"}
"""The words that programs read in the card of a report."""


class _Rule(NamedTuple):
    """Which checks a light stands for."""

    text: str
    keys: Sequence[str]
    """Keys of checks; the first that applies decides, also where there is too little data: what is known of clusters
    does not make up for what is not known of treatments."""
    all_count: bool = False
    """Whether all of them must pass; then the worst decides."""


RULES = (
    _Rule("more than chance", ("active", "chance")),
    _Rule("better than the baselines", ("active_baselines", "baselines")),
    _Rule("not the plate", ("plate", "apart")),
    _Rule("not the position", ("apart", "well", "field_position")),
    _Rule("not the cell count", ("by_cell_number", "density")),
    _Rule("trained long enough", ("steps", "loss"), all_count=True),
    _Rule("holds on an unseen plate", ("left_out",)),
)
WORST_FIRST: tuple[Finding, ...] = ("against", "too little", "not made", "passed")
ON_WELLS = "holds on an unseen well"
OF_HITS = {"active": "more hits than chance", "active_baselines": "more hits than the baselines"}
"""Key of a check -> the text of the light that it decides, where that is about treatments and not about clusters."""


def lights(found: Sequence[Check]) -> Lights:
    """Return the lights of a report; what was not checked is grey and says why."""
    by_key = {one.key: one for one in found}
    return Lights([_lamp(rule, [by_key[key] for key in rule.keys if key in by_key]) for rule in RULES])


def _lamp(rule: _Rule, found: Sequence[Check]) -> Lamp:
    if not found:
        return Lamp("unknown", rule.text, "", "Not checked: it does not apply to the arm that is shown first.")
    one = _deciding(rule, found)
    on_wells = one.key == "left_out" and one.question.endswith("a well that was left out of training?")
    text = ON_WELLS if on_wells else OF_HITS.get(one.key, rule.text)
    return Lamp(
        LIGHT_OF[one.finding],
        text,
        one.anchor,
        f"{one.question} {FINDING_WORDS[one.finding]}: {one.answer}. {one.numbers}",
    )


def _deciding(rule: _Rule, found: Sequence[Check]) -> Check:
    """Return the check that decides a light: the worst, or the first that applies."""
    if rule.all_count:
        return min(found, key=lambda one: WORST_FIRST.index(one.finding))
    return next((one for one in found if one.finding != "not made"), found[0])


def in_words(shown: Lights) -> list[list[str]]:
    """Return each light as its text and its colour, for programs."""
    return [[lamp.text, COLOUR_OF[lamp.light]] for lamp in shown.lamps]
