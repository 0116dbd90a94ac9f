"""controls: compounds, control types and the controls of a recipe in; which wells are controls out.

This is the one place that decides what a control well is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from cellssl.datasets.base import ControlType

DEFAULT_CONTROLS = ("DMSO",)
"""Compounds of the control wells, where a recipe names no others."""
CONTROL_TYPES: Mapping[ControlType, tuple[str, ...]] = {
    "negative": (
        *("negcon", "neg", "negative", "negative control", "neg control", "nc", "control", "ctrl"),
        *("vehicle", "vehicle control", "solvent", "solvent control", "dmso", "dmso control", "mock"),
        *("untreated", "untreated control", "low control", "neg ctrl", "negative ctrl", "control negative"),
        *("negcontrol", "control vehicle", "neutral control", "neutral"),
    ),
    "positive": (
        *("poscon", "pos", "positive", "positive control", "pos control", "pc", "high control", "reference compound"),
        *("pos ctrl", "positive ctrl", "control positive", "poscontrol", "reference"),
    ),
    "treatment": (
        *("trt", "treatment", "treated", "compound", "sample", "test", "test compound", "drug", "cpd", "experimental"),
        *("perturbation", "pert", "screen", "unknown"),
    ),
    "empty": ("empty", "blank", "unused", "none", "no cells", "not used", "background", "media only", "medium only"),
}
"""What labs write into a column of control types, in lower case and with blanks between the words."""
SOLVENTS = (
    *("dmso", "vehicle", "solvent", "ethanol", "etoh", "methanol", "meoh", "water", "h2o", "pbs"),
    *("untreated", "mock"),
)
"""Names of solvents, in lower case."""
USUAL_CONTROLS = frozenset({*SOLVENTS, *CONTROL_TYPES["negative"]})
AMOUNT = re.compile(r"[\s(_,;-]*(?:\d+(?:[.,]\d+)?\s*(?:%|percent)(?:\s*\(?[vw]/[vw]\)?)?|1\s*:\s*\d[\d,.]*)\)?\s*$")
"""The amount of a solvent behind its name: `DMSO 0.1%`, `DMSO (0.1 % v/v)`, `DMSO 1:1000`."""
EXTRA_WORDS = frozenset(
    {"control", "controls", "ctrl", "ctl", "con", "vehicle", "only", "well", "wells", "neg", "negative"}
)
"""Words that people add to the name of a control."""
SHORT = 7
"""Names with fewer letters are too short for a guess at misprints."""
SHORT_CONTROL = 4
"""The same for names beside a control, which are only reported: DSMO beside DMSO."""
SAME_CONTROLS = (
    frozenset({"dmso", "dimethylsulfoxide", "dimethylsulphoxide", "mesulfoxide", "me2so"}),
    frozenset({"untreated", "unt", "utc", "nontreated", "nottreated", "notreatment", "untr"}),
    frozenset({"ethanol", "etoh"}),
    frozenset({"methanol", "meoh"}),
    frozenset({"water", "h2o", "ddh2o", "dh2o"}),
    frozenset({"vehicle", "veh"}),
    frozenset({"negcon", "nc", "negctrl", "negativecontrol", "negcontrol"}),
)
"""Names of one control, without blanks and in lower case."""
LOOK_ALIKE = str.maketrans("0асеорхуіѕкмнтвοαεκμντρχι", "oaceopxyiskmhtboaekmvtpxi")
"""The digit 0, and letters of other alphabets that look like Latin ones."""
MANY = 50
"""So many names that differ in one place only are a series, and no misprints."""


def is_control(compound: str | None, control_type: ControlType | None, controls: Sequence[str]) -> bool:
    """Return whether a well is a control.

    It is where the user's column of control types says negative, and where its compound is one of `controls`, letter
    by letter. An empty compound is a control only where `controls` holds an empty name.
    """
    return control_type == "negative" or (compound or "") in controls


def control_type_of(text: str) -> ControlType | None:
    """Return what a cell of a column of control types says of its well; None where it is empty or not known."""
    words = " ".join(re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text).casefold()).split())
    for kind, names in CONTROL_TYPES.items():
        if words in names:
            return kind
    if words.startswith(("negcon ", "dmso ")):
        return "negative"
    return "positive" if words.startswith("poscon ") else None


def near_control(name: str, controls: Iterable[str]) -> str | None:
    """Return the control that a name looks like without being it, such as `DMSO` for `dmso` or `DMSO 0.1%`, or None."""
    controls = [one for one in controls if one]
    if name in controls:
        return None
    words, plain = _words(name), _plain(name)
    for one in controls:
        control = _plain(one)
        if plain == control or control in words or _looks_like(name, one):
            return one
    return None


def _looks_like(name: str, control: str) -> bool:
    """Return whether a name may be a control that is written otherwise; nothing is taken for one by this rule.

    It is where the control is a word of it, where both are names of one solvent, or where one letter is more, less,
    other or at another place, without regard to points, brackets, numbers at the end, and letters that look alike.
    """
    one, other = _letters(name).translate(LOOK_ALIKE), _letters(control).translate(LOOK_ALIKE)
    if len(other) < 2 or other.isdigit():
        return False
    tokens = {token.translate(LOOK_ALIKE) for token in re.split(r"[\W_]+", " ".join(_words(name))) if token}
    bare, of_control = (_without_number(_letters(text)).translate(LOOK_ALIKE) for text in (name, control))
    if other in (one, bare) or other in tokens:
        return True
    known = next((group for group in SAME_CONTROLS if {other, of_control} & group), frozenset())
    if {one, bare} & known or tokens & known:
        return True
    if min(len(one), len(other)) < SHORT_CONTROL or one[-1:].isdigit() or other[-1:].isdigit():
        return False
    return _misprint(one, other) or _swapped(one, other)


def _letters(name: str) -> str:
    """Return the letters and digits of a name in lower case, without the words that people add to controls."""
    words = re.split(r"[^\w.]+|_", " ".join(_without_extra(_words(name))))
    return re.sub(r"[\W_]+", "", "".join(words))


def _without_number(name: str) -> str:
    """Return a name without the number at its end; one that is short without it, such as U18, stays as it is."""
    bare = name.rstrip("0123456789")
    return bare if len(bare) >= SHORT_CONTROL else name


def _swapped(one: str, other: str) -> bool:
    """Return whether two forms differ by two neighbouring letters that changed places."""
    if len(one) != len(other):
        return False
    places = [place for place, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]]
    return (
        len(places) == 2
        and places[1] == places[0] + 1
        and one[places[0]] == other[places[1]]
        and one[places[1]] == other[places[0]]
        and all(one[place].isalpha() for place in places)
    )


def usual_controls(names: Iterable[str]) -> list[str]:
    """Return the compounds whose names are those of solvents and controls, such as DMSO."""
    found = []
    for name in names:
        words = _words(name)
        if " ".join(words) in USUAL_CONTROLS or "".join(_without_extra(words)) in SOLVENTS:
            found.append(name)
    return found


def near_names(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of compounds that a person would take for one, such as `Drug A` and `drug-a`, or a misprint.

    A letter more, less or other counts as a misprint in names of SHORT letters or more; but not a digit, and not the
    last letter in place of another: `BRD-1` and `BRD-2` are two compounds, and so are `compound-a` and `compound-b`.
    """
    forms: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        forms.setdefault(_plain(name, without_extra=False), []).append(name)
    groups = {form: [form] for form in forms}
    for one, other in _misprints(forms):
        if groups[one] is not groups[other]:
            groups[one] += groups[other]
            groups.update(dict.fromkeys(groups[other], groups[one]))
    found = {id(group): tuple(sorted(name for form in group for name in forms[form])) for group in groups.values()}
    return sorted(group for group in found.values() if len(group) > 1)


def _misprints(forms: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of forms that differ by a letter: only those that are equal after one is left out can."""
    alike: dict[str, list[str]] = {}
    for form in forms:
        if len(form) >= SHORT:
            letters = (place for place, letter in enumerate(form) if letter.isalpha())
            for part in {form, *(form[:place] + form[place + 1 :] for place in letters)}:
                alike.setdefault(part, []).append(form)
    pairs = {(one, other) for group in alike.values() if len(group) < MANY for one in group for other in group}
    return sorted(pair for pair in pairs if pair[0] < pair[1] and _misprint(*pair))


def _words(name: str) -> list[str]:
    text = unicodedata.normalize("NFKC", name).casefold().strip()
    return re.sub(r"[\s_]+|(?<=\w)-(?=\w)", " ", AMOUNT.sub("", text) or text).split()


def _without_extra(words: Sequence[str]) -> list[str]:
    return [word for word in words if word.strip("().,;") not in EXTRA_WORDS] or list(words)


def _plain(name: str, *, without_extra: bool = True) -> str:
    """Return a form in which case, blanks, dashes, amounts and words such as `control` make no difference."""
    words = _words(name)
    return "".join(_without_extra(words) if without_extra else words)


def _misprint(one: str, other: str) -> bool:
    """Return whether two forms differ by one letter: more, less, or another one before the end."""
    if one == other or abs(len(one) - len(other)) > 1:
        return False
    pairs = enumerate(zip(one, other, strict=False))
    start = next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
    left, right = one[start:], other[start:]
    if len(left) == len(right):
        return left[1:] == right[1:] != "" and left[0].isalpha() and right[0].isalpha()
    longer, shorter = (left, right) if len(left) > len(right) else (right, left)
    return longer[1:] == shorter and longer[0].isalpha()
