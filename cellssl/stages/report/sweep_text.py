"""sweep_text: the scores of a sweep in; sentences on what its settings change, out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cellssl.profiling import class_tradeoffs
from cellssl.profiling.class_tradeoffs import Change
from cellssl.reporting.seed_statistics import number, signed
from cellssl.stages.report.scores import score_named
from cellssl.stages.report.sweep_results import Curve, SweepResults, point_sets

CLASSES_NAMED = 6
"""Largest number of classes in a sentence; the table has all."""
SENTENCES_AT_TOP = 16
"""Where there are more sentences, the top of the page has a summary, and the section has all sentences."""
VALUES_NAMED = 12
"""Largest number of values of a setting in a sentence."""


def headline(results: SweepResults) -> list[str]:
    """Return the sentences for the top of the page: all of them where they are few, else a summary."""
    sentences = words(results)
    return sentences if len(sentences) <= SENTENCES_AT_TOP else [sentences[0], *_summary(results)]


def words(results: SweepResults) -> list[str]:
    """Return sentences on what the sweep shows, which claim no more than that; the first one names the settings."""
    sentences = [_settings(results)]
    sentences += [_change(results, curve, score) for curve in results.curves() for score in results.scores()[:1]]
    score = results.classifier()
    if score and results.classes(score):
        sentences += [_change_per_class(results, curve) for curve in results.curves()]
    if score and len(results.classes(score)) > 1:
        sentences += [_opposites(results, arm, knob, points, score) for arm, knob, points in point_sets(results)]
    sentences += [_choice(results, arm) for arm in results.arms if results.choose]
    return sentences


def _settings(results: SweepResults) -> str:
    """Return which settings are varied, where they are in the recipe, and which values they take."""
    named = "; ".join(f"{name} is {about['knob']}, {_values(about['values'])}" for name, about in results.knobs.items())
    how = (
        " in every combination"
        if results.together and len(results.knobs) > 1
        else " one at a time"
        if len(results.knobs) > 1
        else ""
    )
    arms = " and ".join(f"“{arm}”" for arm in results.arms)
    varied = f"{_count_is(len(results.knobs), 'setting')} varied{how}"
    return f"A sweep: {varied} in {arms}; everything else stays the same. {named}."


def _values(values: Sequence[Any]) -> str:
    if len(values) > VALUES_NAMED:
        return f"{len(values)} values from {value_text(values[0])} to {value_text(values[-1])}"
    return ", ".join(value_text(value) for value in values[:-1]) + f" or {value_text(values[-1])}"


def _count_is(count: int, what: str) -> str:
    return f"one {what} is" if count == 1 else f"{count} {what}s are"


def _summary(results: SweepResults) -> list[str]:
    """Return how many of all curves rise and fall, and how many hide classes that change in opposite directions."""
    curves, score = list(results.curves()), results.scores()[0]
    changes = [results.changes(curve, score) for curve in curves]
    up, down = (sum(one[0].is_clear and one[0].by * sign > 0 for one in changes) for sign in (1, -1))
    sentences = [
        f"Of {len(curves)} curves, each for one setting in one arm, {up} clearly raise the {results.label(score)} from "
        f"one end to the other, {down} lower it, and {len(curves) - up - down} do not clearly change it. “The sweep” "
        "shows each curve."
    ]
    if score in results.classifiers() and results.classes(score):
        gain, lose = ([any(c.is_clear and c.by * sign > 0 for c in one[1:]) for one in changes] for sign in (1, -1))
        both = sum(each and other for each, other in zip(gain, lose, strict=True))
        sentences.append(
            f"Per class: in {sum(gain)} curves some class clearly gains, in {sum(lose)} some class clearly loses; in "
            f"{both} one class gains while another loses, which the mean hides. With so many curves some of this is "
            "chance."
        )
    return sentences


def _change(results: SweepResults, curve: Curve, score: str) -> str:
    overall = results.changes(curve, score)[0]
    first, last = value_text(curve.values[0]), value_text(curve.values[-1])
    ends = f"Changing {curve.knob} from {first} to {last} {curve.where}"
    if not overall.seeds:
        return f"{ends}: no seed has both ends, so nothing is compared."
    direction = "raises" if overall.by > 0 else "lowers"
    numbers = f"from {number(overall.before)} to {number(overall.after)}{_interval(overall)}"
    if overall.is_clear:
        return f"{ends} {direction} the {results.label(score)} {numbers}.{_between(results, curve)}"
    return f"{ends} does not clearly change the {results.label(score)}: {numbers}.{_between(results, curve)}"


def _between(results: SweepResults, curve: Curve) -> str:
    """Return a sentence on the scores that are clearly higher or lower between the ends than at both ends."""
    found = []
    for score in results.scores():
        between = results.between(curve, score)
        if between is not None:
            value, mean = between
            overall = results.changes(curve, score)[0]
            side = "above" if mean > overall.before else "below"
            found.append(
                f"the {results.label(score)} at {value_text(value)} ({number(mean)}) is {side} both ends "
                f"({number(overall.before)} and {number(overall.after)})"
            )
    return f" In between, {'; '.join(found)}, chosen after the scores were seen." if found else ""


def _change_per_class(results: SweepResults, curve: Curve) -> str:
    """Return which classes gain and which lose, by every classifier."""
    classifiers = [score for score in results.scores() if results.classes(score)]
    changes = {score: results.changes(curve, score)[1:] for score in classifiers}
    seeds = max((one.seeds for classes in changes.values() for one in classes), default=0)
    if seeds < class_tradeoffs.FEWEST_SEEDS:
        return (
            f"{seeds} seeds do not show which classes gain or lose with {curve.knob} {curve.where}; this needs at "
            f"least {class_tradeoffs.FEWEST_SEEDS}."
        )
    by = " ".join(f"By {results.followed[score].by}, {_gain_and_lose(classes)}." for score, classes in changes.items())
    n_classes = max(len(classes) for classes in changes.values())
    is_any_clear = any(one.is_clear for classes in changes.values() for one in classes)
    chance = (
        f" In brackets: the 95 % interval over {seeds} seeds. Of {n_classes} classes that do not change, "
        f"{_expected_by_chance(n_classes)} would seem to change, by each classifier."
    )
    return f"Per class, {curve.knob} {curve.where}. {by}{chance if is_any_clear else ''}"


def _gain_and_lose(classes: Sequence[Change]) -> str:
    gain = sorted((one for one in classes if one.is_clear and one.by > 0), key=lambda one: -one.by)
    lose = sorted((one for one in classes if one.is_clear and one.by < 0), key=lambda one: one.by)
    parts = [f"{verb}: {_listed(some)}" for verb, some in (("gaining", gain), ("losing", lose)) if some]
    rest = len(classes) - len(gain) - len(lose)
    if not parts:
        return "no class clearly gains or loses"
    return "; ".join([*parts, *([f"{rest} of {len(classes)} do not clearly change"] if rest else [])])


def _expected_by_chance(classes: int) -> str:
    """Return in words how many classes without a change have a 95 % interval that excludes 0."""
    expected = 0.05 * classes
    return f"about {expected:.0f}" if expected >= 1.5 else "about one" if expected >= 0.75 else "hardly one"


def _opposites(results: SweepResults, arm: str, knob: str, points: list[dict[str, Any]], score: str) -> str:
    """Return how many pairs of classes change in opposite directions over some points."""
    where = f"over {knob} in “{arm}”"
    distinct = results.distinct_points(points, arm, score)
    if len(distinct) < class_tradeoffs.FEWEST_POINTS:
        same = "" if len(distinct) == len(points) else f" that differ, of {len(points)},"
        return (
            f"{len(distinct)} points{same} do not show whether classes change in opposite directions {where}; this "
            f"needs at least {class_tradeoffs.FEWEST_POINTS}."
        )
    found = results.pairs(arm, points, score)
    plain, corrected = ([one for one in found if one.is_opposite(corrected=how)] for how in (False, True))
    share = class_tradeoffs.share_with_an_opposite(found)
    strongest = sorted(plain, key=lambda one: min(each.r for each in one.by.values() if not math.isnan(each.r)))
    examples = ", ".join(f"{one.first} against {one.second}" for one in strongest[:3])
    return (
        f"{len(plain)} of {len(found)} pairs of classes change in opposite directions {where} (a correlation below "
        f"{class_tradeoffs.OPPOSITE} with p < {class_tradeoffs.ALPHA}, {len(distinct)} points), {len(corrected)} of "
        f"them also after correction for the number of pairs; {share:.0%} of the classes have at least one opposite"
        f"{f': {examples}' if examples else ''}."
    )


def _choice(results: SweepResults, arm: str) -> str:
    """Return which point is chosen on the val part, with its score on val and on test."""
    assert results.choose is not None
    chosen, label = results.chosen(arm), results.label(results.choose)
    if chosen is None:
        return (
            f"No point of “{arm}” is chosen: there is no seed with which every point has this score on the val part: "
            f"{label}."
        )
    on_val, on_test = (results.values(arm, chosen, results.choose, part=part) for part in ("val", "test"))
    on_test_of_all = [results.values(arm, point, results.choose).mean for point in results.grid(arm)]
    known = [mean for mean in on_test_of_all if not math.isnan(mean)]
    lower_is_better = score_named(results.choose).lower_is_better
    best = (min if lower_is_better else max)(known, default=math.nan)
    return (
        f"Chosen on the val part in “{arm}”: {_point(chosen)}. {_capital(label)}: {on_val} on val, and {on_test} on "
        "the test part, which is the number to report. "
        f"The {'lowest' if lower_is_better else 'highest'} on the test part is {number(best)}; choosing that point "
        "after seeing it would be cheating."
    )


def _listed(some: Sequence[Change]) -> str:
    listed = ", ".join(
        f"{one.name} {signed(one.by)} ({signed(one.low)} to {signed(one.high)})" for one in some[:CLASSES_NAMED]
    )
    return f"{listed} and {len(some) - CLASSES_NAMED} more" if len(some) > CLASSES_NAMED else listed


def _interval(one: Change) -> str:
    if one.seeds < 2:
        return " (one seed, so there is no standard deviation)"
    return f" (95 % interval of the change {signed(one.low)} to {signed(one.high)} over {one.seeds} seeds)"


def _point(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{knob} = {value_text(value)}" for knob, value in point.items())


def value_text(value: Any) -> str:
    """Return a value of a setting as text; nothing for None."""
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
