"""sweep_text: the numbers of a sweep in; what turning its knobs does, in plain words, out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cellssl.profiling import class_tradeoffs
from cellssl.profiling.class_tradeoffs import Change
from cellssl.reporting.seed_statistics import number, signed
from cellssl.stages.report.runs import CLASSIFIERS
from cellssl.stages.report.sweep_results import WORDS, Curve, Swept, lines_of

BY = {"linear": "the linear probe", "knn": "kNN"}
"""Classifiers, as sentences name them."""
NAMED = 6
"""So many classes are named in a sentence; the table has all."""
READ_AT_ONCE = 16
"""Of more sentences the head of the page has the sum, and the section all."""
LISTED = 12
"""So many values of a knob are named in a sentence."""


def headline(swept: Swept) -> list[str]:
    """What stands over the page: all words where a reader can take them in, else what they come to."""
    said = words(swept)
    return said if len(said) <= READ_AT_ONCE else [said[0], *_in_all(swept)]


def words(swept: Swept) -> list[str]:
    """What the sweep shows, in plain words that claim no more; the first sentence says what was turned."""
    said = [_knobs(swept)]
    said += [_turned(swept, curve, score) for curve in swept.curves() for score in swept.scores()[:1]]
    score = swept.classifier()
    if score and swept.classes(score):
        said += [_gains(swept, curve) for curve in swept.curves()]
    if score and len(swept.classes(score)) > 1:
        said += [_against(swept, arm, knob, points, score) for arm, knob, points in lines_of(swept)]
    said += [_choice(swept, arm) for arm in swept.arms if swept.choose]
    return said


def _knobs(swept: Swept) -> str:
    """What was turned: where it stands in the recipe, and through which values."""
    named = "; ".join(f"{name} is {about['knob']}, {_through(about['values'])}" for name, about in swept.knobs.items())
    how = (
        " in every combination"
        if swept.together and len(swept.knobs) > 1
        else " one at a time"
        if len(swept.knobs) > 1
        else ""
    )
    arms = " and ".join(f"“{arm}”" for arm in swept.arms)
    return f"A sweep: {_counted(len(swept.knobs), 'knob')} turned{how} in {arms}, all else as it was. {named}."


def _through(values: Sequence[Any]) -> str:
    if len(values) > LISTED:
        return f"{len(values)} values from {value_named(values[0])} to {value_named(values[-1])}"
    return ", ".join(value_named(value) for value in values[:-1]) + f" or {value_named(values[-1])}"


def _counted(count: int, what: str) -> str:
    return f"one {what} is" if count == 1 else f"{count} {what}s are"


def _in_all(swept: Swept) -> list[str]:
    """How many of all curves rise, fall, and hide classes that go the other way."""
    curves, score = list(swept.curves()), swept.scores()[0]
    changes = [swept.changes(curve, score) for curve in curves]
    up, down = (sum(one[0].is_clear and one[0].by * sign > 0 for one in changes) for sign in (1, -1))
    said = [
        f"Of {len(curves)} curves, each one knob in one arm, {up} clearly raise the {WORDS[score]} from one end to the "
        f"other, {down} lower it, {len(curves) - up - down} do neither clearly. Each stands under “The sweep”."
    ]
    if score in CLASSIFIERS and swept.classes(score):
        gain, lose = ([any(c.is_clear and c.by * sign > 0 for c in one[1:]) for one in changes] for sign in (1, -1))
        both = sum(each and other for each, other in zip(gain, lose, strict=True))
        said.append(
            f"Class by class, some class clearly gains in {sum(gain)} of them and some class loses in {sum(lose)}; in "
            f"{both} one gains while another loses, which the mean hides. Among so many some do so by chance."
        )
    return said


def _turned(swept: Swept, curve: Curve, score: str) -> str:
    overall = swept.changes(curve, score)[0]
    ends = f"Turning {curve.knob} from {value_named(curve.values[0])} to {value_named(curve.values[-1])} {curve.where}"
    if not overall.seeds:
        return f"{ends}: no seed has both ends, so nothing is compared."
    move = "raises" if overall.by > 0 else "lowers"
    numbers = f"from {number(overall.before)} to {number(overall.after)}{_interval(overall)}"
    if overall.is_clear:
        return f"{ends} {move} the {WORDS[score]} {numbers}.{_between(swept, curve)}"
    return f"{ends} does not clearly change the {WORDS[score]}: {numbers}.{_between(swept, curve)}"


def _between(swept: Swept, curve: Curve) -> str:
    """What the ends alone would hide, of every score that has it."""
    said = []
    for score in swept.scores():
        found = swept.between(curve, score)
        if found is not None:
            value, mean = found
            overall = swept.changes(curve, score)[0]
            side = "above" if mean > overall.before else "below"
            said.append(
                f"the {WORDS[score]} at {value_named(value)} ({number(mean)}) lies {side} both ends "
                f"({number(overall.before)} and {number(overall.after)})"
            )
    return f" In between, {'; '.join(said)}, picked after the scores were seen." if said else ""


def _gains(swept: Swept, curve: Curve) -> str:
    """Which classes gain and which lose, by every classifier that was asked."""
    asked = [score for score in BY if swept.classes(score)]
    moved = {score: swept.changes(curve, score)[1:] for score in asked}
    seeds = max((one.seeds for classes in moved.values() for one in classes), default=0)
    if seeds < class_tradeoffs.FEWEST_SEEDS:
        return (
            f"Which classes {curve.knob} helps or hurts {curve.where} cannot be told from {seeds} seeds; "
            f"it takes {class_tradeoffs.FEWEST_SEEDS} at least."
        )
    told = " ".join(f"By {BY[score]}, {_gain_and_lose(classes)}." for score, classes in moved.items())
    asked_of = max(len(classes) for classes in moved.values())
    any_clear = any(one.is_clear for classes in moved.values() for one in classes)
    chance = (
        f" In brackets: the 95 % interval over {seeds} seeds. Of {asked_of} classes that do not change "
        f"{_by_chance(asked_of)} would seem to, by each."
    )
    return f"Class by class, {curve.knob} {curve.where}. {told}{chance if any_clear else ''}"


def _gain_and_lose(classes: Sequence[Change]) -> str:
    gain = sorted((one for one in classes if one.is_clear and one.by > 0), key=lambda one: -one.by)
    lose = sorted((one for one in classes if one.is_clear and one.by < 0), key=lambda one: one.by)
    parts = [f"{verb}: {_named(some)}" for verb, some in (("gaining", gain), ("losing", lose)) if some]
    rest = len(classes) - len(gain) - len(lose)
    if not parts:
        return "no class clearly gains or loses"
    return "; ".join([*parts, *([f"{rest} of {len(classes)} do not clearly change"] if rest else [])])


def _by_chance(classes: int) -> str:
    """How many classes that do not change seem to by a 95 % interval, in words."""
    expected = 0.05 * classes
    return f"about {expected:.0f}" if expected >= 1.5 else "about one" if expected >= 0.75 else "hardly one"


def _against(swept: Swept, arm: str, knob: str, points: list[dict[str, Any]], score: str) -> str:
    where = f"over {knob} in “{arm}”"
    told_apart = swept.told_apart(points, arm, score)
    if len(told_apart) < class_tradeoffs.FEWEST_POINTS:
        same = "" if len(told_apart) == len(points) else f" that differ, of {len(points)}"
        return (
            f"Whether classes go against each other {where} cannot be told from {len(told_apart)} points{same}; "
            f"it takes {class_tradeoffs.FEWEST_POINTS} at least."
        )
    found = swept.pairs(arm, points, score)
    plain, corrected = ([one for one in found if one.is_opposite(corrected=how)] for how in (False, True))
    share = class_tradeoffs.share_with_an_opposite(found)
    strongest = sorted(plain, key=lambda one: min(each.r for each in one.by.values() if not math.isnan(each.r)))
    examples = ", ".join(f"{one.first} against {one.second}" for one in strongest[:3])
    return (
        f"{len(plain)} of {len(found)} pairs of classes go against each other {where} (a correlation below "
        f"{class_tradeoffs.OPPOSITE} with p < {class_tradeoffs.ALPHA}, {len(told_apart)} points), {len(corrected)} of them also after "
        f"correction for the number of pairs; {share:.0%} of the classes have at least one opposite"
        f"{f': {examples}' if examples else ''}."
    )


def _choice(swept: Swept, arm: str) -> str:
    assert swept.choose is not None
    chosen = swept.chosen(arm)
    if chosen is None:
        return (
            f"No point of “{arm}” is chosen: there is no seed with which every point has this score on the val part: "
            f"{WORDS[swept.choose]}."
        )
    on_val, on_test = (swept.values(arm, chosen, swept.choose, part=part) for part in ("val", "test"))
    on_test_of_all = [swept.values(arm, point, swept.choose).mean for point in swept.grid(arm)]
    best = max((mean for mean in on_test_of_all if not math.isnan(mean)), default=math.nan)
    return (
        f"Chosen on the val part in “{arm}”: {_point(chosen)}. {_capital(WORDS[swept.choose])}: {on_val} there, and "
        f"{on_test} on the test part, which is the number to report. The highest on the test part is {number(best)}; "
        "picking that one after seeing it would be cheating."
    )


def _named(some: Sequence[Change]) -> str:
    named = ", ".join(f"{one.name} {signed(one.by)} ({signed(one.low)} to {signed(one.high)})" for one in some[:NAMED])
    return f"{named} and {len(some) - NAMED} more" if len(some) > NAMED else named


def _interval(one: Change) -> str:
    if one.seeds < 2:
        return " (one seed, which shows no spread)"
    return f" (95 % interval of the change {signed(one.low)} to {signed(one.high)} over {one.seeds} seeds)"


def _point(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{knob} = {value_named(value)}" for knob, value in point.items())


def value_named(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
