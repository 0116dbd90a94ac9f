"""doses: the doses of a compound and the choice of a recipe in, the chosen doses out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from cellssl.errors import UsageError

TOP = re.compile(r"top ([1-9][0-9]{0,2})")
RANGE = re.compile(r"([0-9]+(?:\.[0-9]+)?) to ([0-9]+(?:\.[0-9]+)?)")


def _check(value: object) -> object:
    is_text = isinstance(value, str) and (value == "all" or TOP.fullmatch(value) or RANGE.fullmatch(value))
    is_list = isinstance(value, tuple) and all(isinstance(dose, int | float) and math.isfinite(dose) for dose in value)
    if not is_text and not is_list:
        raise ValueError('must be "all", "top 4", a range such as "0.1 to 3", or a list of doses in micromolar')
    return value


Worded = Annotated[str, Field(pattern=rf"^(?:{TOP.pattern}|{RANGE.pattern})$")]
Written = Literal["all"] | Worded | tuple[float, ...]
"""What a recipe may say, for editors; `_check` decides."""
Doses = Annotated[str | tuple[float, ...], BeforeValidator(_check, json_schema_input_type=Written)]


def chosen_doses(available: Iterable[float], choice: str | tuple[float, ...], compound: str) -> list[float]:
    """Return the doses of a compound, in micromolar, that a recipe chooses.

    Raises UsageError where the compound has no such dose, or no dose in the range.
    """
    doses = sorted(float(dose) for dose in available)
    if isinstance(choice, str):
        if named := RANGE.fullmatch(choice):
            return _within(doses, float(named.group(1)), float(named.group(2)), compound)
        top = TOP.fullmatch(choice)
        return doses[-int(top.group(1)) :] if top else doses
    for dose in choice:
        if dose not in doses:
            raise UsageError(f"{compound} has no dose of {dose:g} uM", hint=_known(doses))
    return list(choice)


def names_doses(choice: str | tuple[float, ...]) -> bool:
    """Return whether a choice names doses, as a list or a range does, rather than ranks such as "top 4"."""
    return not isinstance(choice, str) or RANGE.fullmatch(choice) is not None


def _within(doses: list[float], lowest: float, highest: float, compound: str) -> list[float]:
    within = [dose for dose in doses if lowest <= dose <= highest]
    if not within:
        raise UsageError(f"{compound} has no dose from {lowest:g} to {highest:g} uM", hint=_known(doses))
    return within


def _known(doses: list[float]) -> str:
    return f"its doses in uM: {', '.join(f'{dose:g}' for dose in doses)}"
