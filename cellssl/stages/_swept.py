"""_swept: runs at the points of a sweep in; their table, curves, opposite classes and plain words out."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from cellssl.profiling import trends
from cellssl.profiling.trends import Change, Pair
from cellssl.reporting import response, style
from cellssl.reporting.order import natural
from cellssl.reporting.page import Block, Bullets, Folded, Section, Table, Value
from cellssl.reporting.summary import Spread, number, signed, spread
from cellssl.stages._make import Job
from cellssl.stages._pictures import drawn
from cellssl.stages._runs import CLASSIFIERS, SCHEMES, Run

WORDS = {
    "linear": "linear probe, balanced accuracy",
    "knn": "kNN, balanced accuracy",
    "ami": "AMI of clusters and label",
    "silhouette": "silhouette",
}
"""Scores that are followed over a sweep."""
OVERALL = ""
"""In place of a class."""
NAMED = 6
"""So many classes are named in a sentence; the table has all."""
READ_AT_ONCE = 16
"""Of more sentences the head of the page has the sum, and the section all."""
LISTED = 12
"""So many values of a knob are named in a sentence."""


@dataclass(frozen=True)
class Told:
    """One number of one run: of a class, or OVERALL."""

    arm: str
    part: str
    values: tuple[tuple[str, Any], ...]
    """The point: knobs and their values; none for an arm that the sweep leaves alone."""
    seed: int
    score: str
    of: str
    value: float


@dataclass(frozen=True)
class Curve:
    """One knob turned through its values in one arm; what is told of a value is the mean over its points."""

    arm: str
    knob: str
    values: tuple[Any, ...]
    others: tuple[Mapping[str, Any], ...] = ({},)
    """The values of the other knob of a grid; where there is none, nothing."""

    def points(self, value: Any) -> list[dict[str, Any]]:
        """Where the knob has a value."""
        return [{self.knob: value, **other} for other in self.others]

    @property
    def where(self) -> str:
        """In which arm, and over what it is averaged, in words."""
        over = "".join(f" averaged over {knob}" for knob in self.others[0])
        return f"in “{self.arm}”{over}"


class Swept:
    """What a report's runs say about its sweep, as its card describes it."""

    def __init__(self, described: Mapping[str, Any], runs: Sequence[Run]) -> None:
        self.knobs = {
            knob: {**about, "values": _ascending(about["values"])} for knob, about in described["knobs"].items()
        }
        self.together: bool = described["together"]
        self.choose: str | None = described["choose"]
        self.points: dict[str, dict[str, Any]] = described["points"]
        self.runs = list(runs)
        self.told = [one for run in runs for one in self._told_of(run)]
        self._pairs: dict[tuple[Any, ...], list[Pair]] = {}
        self._by_point: dict[tuple[Any, ...], dict[int, float]] = {}
        for one in self.told:
            key = (one.arm, one.part, one.values, one.score, one.of)
            self._by_point.setdefault(key, {})[one.seed] = one.value
        self.arms = list(dict.fromkeys(point["arm"] for point in self.points.values()))
        self.cells = _fewest_cells(self.of_test())

    def of_test(self) -> list[Run]:
        """Runs whose scores are of the test part."""
        return [run for run in self.runs if self._part(run.arm) == "test"]

    def shown(self) -> list[Run]:
        """Runs that pictures are of: arms that the sweep leaves alone, and of a swept one the point that was chosen, or
        those at the ends."""
        names = {name for arm in self.arms for name in self._remarkable(arm)}
        return [run for run in self.of_test() if run.arm not in self.points or run.arm in names]

    def curves(self) -> Iterator[Curve]:
        """Every knob, arm by arm, through the values that the report has; those of a grid averaged over the other."""
        for arm in self.arms:
            there = self.grid(arm)
            for knob, about in self.knobs.items():
                mine = [point for point in there if knob in point]
                others = tuple(_unique({name: point[name] for name in point if name != knob} for point in mine))
                values = tuple(
                    value for value in about["values"] if all({knob: value, **other} in mine for other in others)
                )
                if len(values) > 1:
                    yield Curve(arm, knob, values, others)

    def scores(self) -> list[str]:
        """Those that any run has."""
        there = {one.score for one in self.told}
        return [name for name in WORDS if name in there]

    def classifier(self) -> str | None:
        """The classifier that sentences speak of."""
        return next((name for name in ("linear", "knn") if name in self.scores()), None)

    def classes(self, score: str) -> list[str]:
        """Classes that a classifier was asked about."""
        return sorted({one.of for one in self.told if one.score == score and one.of != OVERALL}, key=natural)

    def values(self, arm: str, point: Mapping[str, Any], score: str, of: str = OVERALL, part: str = "test") -> Spread:
        """One number over the seeds of a point."""
        return spread(self.by_seed(arm, point, score, of, part).values())

    def by_seed(
        self, arm: str, point: Mapping[str, Any], score: str, of: str = OVERALL, part: str = "test"
    ) -> dict[int, float]:
        """One number of a point, seed by seed."""
        return self._by_point.get((arm, part, tuple(sorted(point.items())), score, of), {})

    def along(self, curve: Curve, value: Any, score: str, of: str = OVERALL) -> dict[int, float]:
        """One number at a value of a curve, seed by seed; where it is a mean over points, of seeds that all have."""
        at = [self.by_seed(curve.arm, point, score, of) for point in curve.points(value)]
        shared = [seed for seed in at[0] if all(seed in each for each in at)]
        return {seed: fmean(each[seed] for each in at) for seed in shared}

    def level(self, arm: str, score: str, of: str = OVERALL) -> float:
        """What an arm that the sweep leaves alone scores."""
        return self.values(arm, {}, score, of).mean

    def left_alone(self) -> list[str]:
        """Arms that are the same at every point."""
        return list(dict.fromkeys(run.arm for run in self.runs if run.arm not in self.points))

    def grid(self, arm: str) -> list[dict[str, Any]]:
        """All points of an arm, knob by knob and value by value."""
        points = [dict(p["values"]) for p in self.points.values() if p["arm"] == arm and p["part"] == "test"]
        return sorted(points, key=self._place)

    def told_apart(self, points: Sequence[Mapping[str, Any]], arm: str, score: str) -> list[Mapping[str, Any]]:
        """The points of a grid without those of a knob that changes nothing of this score: the same number written down
        three times is no more evidence than once."""
        classes = self.classes(score)
        kept = list(points)
        for knob in self.knobs if len(self.knobs) > 1 else ():
            found: dict[tuple[Any, ...], set[str]] = {}
            for point in kept:
                rest = tuple(item for item in sorted(point.items()) if item[0] != knob)
                said = repr([sorted(self.by_seed(arm, point, score, name).items()) for name in classes])
                found.setdefault(rest, set()).add(said)
            values = _unique(point.get(knob) for point in kept)
            if (
                len(values) > 1
                and all(knob in point for point in kept)
                and all(len(said) == 1 for said in found.values())
            ):
                kept = [point for point in kept if point[knob] == values[0]]
        return kept

    def pairs(self, arm: str, points: Sequence[Mapping[str, Any]], score: str) -> list[Pair]:
        """How the accuracies of classes go along over some points, each the mean over seeds; computed once."""
        points = self.told_apart(points, arm, score)
        key = (arm, score, tuple(tuple(sorted(point.items())) for point in points))
        if key not in self._pairs:
            names = self.classes(score)
            means = [[self.values(arm, point, score, name).mean for name in names] for point in points]
            self._pairs[key] = trends.pairs(np.array(means, dtype=float).reshape(len(points), len(names)), names)
        return self._pairs[key]

    def changes(self, curve: Curve, score: str) -> list[Change]:
        """From the first value of a knob to its last: overall, then class by class."""
        found = []
        for name in [OVERALL, *self.classes(score)]:
            first, last = (self.along(curve, value, score, name) for value in (curve.values[0], curve.values[-1]))
            seeds = sorted(first.keys() & last.keys())
            before, after = (np.array([end[seed] for seed in seeds], dtype=float) for end in (first, last))
            cells = self.cells.get(name) if score in CLASSIFIERS else None
            found.append(trends.change(name, before, after, cells))
        return found

    def chosen(self, arm: str) -> dict[str, Any] | None:
        """The point with the highest mean score on the val part, over the seeds that all points have; of equals the
        first. None where there is no such seed, as while a grid is filling."""
        if self.choose is None:
            return None
        score, grid = self.choose, self.grid(arm)
        by_seed = [self.by_seed(arm, point, score, part="val") for point in grid]
        shared = set.intersection(*(set(each) for each in by_seed)) if by_seed else set()
        if not shared:
            return None
        means = [sum(each[seed] for seed in shared) / len(shared) for each in by_seed]
        return grid[int(np.argmax(means))]

    def _remarkable(self, arm: str) -> list[str]:
        chosen, grid = self.chosen(arm), self.grid(arm)
        wanted = [chosen] if chosen else [grid[0], grid[-1]]
        return [
            name
            for name, point in self.points.items()
            if point["arm"] == arm and point["part"] == "test" and dict(point["values"]) in wanted
        ]

    def _place(self, point: Mapping[str, Any]) -> list[tuple[int, int]]:
        return [
            (place, about["values"].index(point[knob]))
            for place, (knob, about) in enumerate(self.knobs.items())
            if knob in point
        ]

    def _part(self, arm: str) -> str:
        return str(self.points[arm]["part"]) if arm in self.points else "test"

    def _told_of(self, run: Run) -> Iterator[Told]:
        point = self.points.get(run.arm)
        arm, values = (point["arm"], tuple(sorted(point["values"].items()))) if point else (run.arm, ())
        for score, of, value in _numbers(run):
            yield Told(arm, self._part(run.arm), values, run.seed, score, of, value)


def _scheme(run: Run) -> dict[str, Any]:
    """What classifiers told, by the scheme that has the test part where there is one."""
    found = run.evaluate.card.metrics if run.evaluate else {}
    return next((found[name] for name in SCHEMES if name in found), {})


def _fewest_cells(runs: Sequence[Run]) -> dict[str, int]:
    """How many cells of every class were told, and OVERALL, in the run that has fewest."""
    fewest: dict[str, int] = {}
    for scheme in map(_scheme, runs):
        told = scheme[CLASSIFIERS[0]] if scheme else {"classes": [], "confusion": []}
        cells = {name: sum(row) for name, row in zip(told["classes"], told["confusion"], strict=True) if sum(row)}
        for name, count in {**cells, OVERALL: sum(cells.values())}.items():
            fewest[name] = min(count, fewest.get(name, count))
    return fewest


def _numbers(run: Run) -> Iterator[tuple[str, str, float]]:
    """Score, class and value."""
    scheme = _scheme(run)
    for classifier in CLASSIFIERS if scheme else ():
        told = scheme[classifier]
        yield classifier, OVERALL, told["balanced_accuracy"]
        yield from ((classifier, name, value) for name, value in told["per_class"].items())
    card = run.cluster.card.metrics
    label = card["against"].get("label", {})
    for score, value in (("ami", label.get("ami")), ("silhouette", card["silhouette"])):
        if value is not None:
            yield score, OVERALL, value


def _ascending(values: Iterable[Any]) -> list[Any]:
    """Numbers from the lowest to the highest, whatever order a recipe has come to have them in; words as they stand."""
    given = list(values)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in given)
    return sorted(given) if numbers else given


def _unique(some: Iterable[Any]) -> list[Any]:
    """Each once, in the order in which they first come; tables too."""
    found: list[Any] = []
    for one in some:
        if one not in found:
            found.append(one)
    return found


def swept_sections(job: Job, swept: Swept) -> list[Section]:
    """What turning the knobs does: overall, to every class, and which classes go against each other."""
    _write(job, swept)
    said = words(swept)
    blocks: list[Block] = [*([Bullets(said)] if said else []), *_chosen_table(swept)]
    for curve in swept.curves():
        blocks += _curve_blocks(job, swept, curve)
    if swept.together and len(swept.knobs) == 2:
        blocks += [_heat_map(job, swept, arm) for arm in swept.arms]
    blocks += _shares(job, swept)
    return [Section("The sweep", [*blocks, _every_point(swept)])]


def _write(job: Job, swept: Swept) -> None:
    """sweep.csv: a row a number of a run; opposites.csv: a row a pair of classes, with every coefficient."""
    knobs = list(swept.knobs)
    rows = (
        [one.arm, one.part, *(dict(one.values).get(knob) for knob in knobs), one.seed, one.score, one.of, one.value]
        for one in swept.told
    )
    _csv(job, "sweep.csv", ["arm", "part", *knobs, "seed", "score", "class", "value"], rows)
    header = ["arm", "knob", "score", "first", "second", "points"]
    header += [f"{name}{what}" for name in trends.COEFFICIENTS for what in ("", "_p", "_p_corrected")]
    _csv(job, "opposites.csv", [*header, "opposite", "opposite_corrected"], _opposites(swept))


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
        said += [_gains(swept, curve, score) for curve in swept.curves()]
    if score and len(swept.classes(score)) > 1:
        said += [_against(swept, arm, knob, points, score) for arm, knob, points in _lines(swept)]
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
        return f"{len(values)} values from {_value(values[0])} to {_value(values[-1])}"
    return ", ".join(_value(value) for value in values[:-1]) + f" or {_value(values[-1])}"


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


def _lines(swept: Swept) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Every set of points over which classes are compared: a knob's values, or the whole grid of two."""
    if swept.together and len(swept.knobs) > 1:
        yield from ((arm, " x ".join(swept.knobs), swept.grid(arm)) for arm in swept.arms)
    else:
        for curve in swept.curves():
            yield curve.arm, curve.knob, [point for value in curve.values for point in curve.points(value)]


def _turned(swept: Swept, curve: Curve, score: str) -> str:
    overall = swept.changes(curve, score)[0]
    ends = f"Turning {curve.knob} from {_value(curve.values[0])} to {_value(curve.values[-1])} {curve.where}"
    if not overall.seeds:
        return f"{ends}: no seed has both ends, so nothing is compared."
    move = "raises" if overall.by > 0 else "lowers"
    numbers = f"from {number(overall.before)} to {number(overall.after)}{_interval(overall)}"
    if overall.is_clear:
        return f"{ends} {move} the {WORDS[score]} {numbers}."
    return f"{ends} does not clearly change the {WORDS[score]}: {numbers}."


def _gains(swept: Swept, curve: Curve, score: str) -> str:
    classes = swept.changes(curve, score)[1:]
    gain = sorted((one for one in classes if one.is_clear and one.by > 0), key=lambda one: -one.by)
    lose = sorted((one for one in classes if one.is_clear and one.by < 0), key=lambda one: one.by)
    seeds = max((one.seeds for one in classes), default=0)
    if seeds < trends.FEWEST_SEEDS:
        return (
            f"Which classes {curve.knob} helps or hurts {curve.where} cannot be told from {seeds} seeds; "
            f"it takes {trends.FEWEST_SEEDS} at least."
        )
    parts = [f"{verb} {_named(some)}" for verb, some in (("gain:", gain), ("lose:", lose)) if some]
    rest = len(classes) - len(gain) - len(lose)
    told = "; ".join(parts) if parts else "no class clearly gains or loses"
    more = f"; {rest} of {len(classes)} classes do not clearly change" if parts and rest else ""
    chance = f" Of {len(classes)} classes that do not change {_by_chance(len(classes))} would seem to." if parts else ""
    by = WORDS[score].split(",")[0]
    return f"Class by class ({by}, {curve.knob} {curve.where}), {told}{more}.{chance}"


def _by_chance(classes: int) -> str:
    """How many classes that do not change seem to by a 95 % interval, in words."""
    expected = 0.05 * classes
    return f"about {expected:.0f}" if expected >= 1.5 else "about one" if expected >= 0.75 else "hardly one"


def _against(swept: Swept, arm: str, knob: str, points: list[dict[str, Any]], score: str) -> str:
    where = f"over {knob} in “{arm}”"
    told_apart = swept.told_apart(points, arm, score)
    if len(told_apart) < trends.FEWEST_POINTS:
        same = "" if len(told_apart) == len(points) else f" that differ, of {len(points)}"
        return (
            f"Whether classes go against each other {where} cannot be told from {len(told_apart)} points{same}; "
            f"it takes {trends.FEWEST_POINTS} at least."
        )
    found = swept.pairs(arm, points, score)
    plain, corrected = ([one for one in found if one.is_opposite(corrected=how)] for how in (False, True))
    share = trends.share_with_an_opposite(found)
    strongest = sorted(plain, key=lambda one: min(each.r for each in one.by.values() if not math.isnan(each.r)))
    examples = ", ".join(f"{one.first} against {one.second}" for one in strongest[:3])
    return (
        f"{len(plain)} of {len(found)} pairs of classes go against each other {where} (a correlation below "
        f"{trends.OPPOSITE} with p < {trends.ALPHA}, {len(told_apart)} points), {len(corrected)} of them also after "
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


def _chosen_table(swept: Swept) -> list[Block]:
    if swept.choose is None:
        return []
    rows: list[list[Value]] = []
    for arm in swept.arms:
        chosen = swept.chosen(arm)
        for point in swept.grid(arm):
            both = [str(swept.values(arm, point, swept.choose, part=part)) for part in ("val", "test")]
            rows.append([arm, *(_value(point.get(knob)) for knob in swept.knobs), *both, _mark(point == chosen)])
    header = ["arm", *swept.knobs, f"{swept.choose} on val", f"{swept.choose} on test", ""]
    return [Table(header, rows, "Chosen by the mean on the val part; the test part had no say in it.")]


def _curve_blocks(job: Job, swept: Swept, curve: Curve) -> list[Block]:
    """Curves of every score, then of every class, and how far each moved."""
    overall = [
        response.Panel(WORDS[score], {curve.arm: _line(swept, curve, score)}, _levels(swept, score))
        for score in swept.scores()
    ]
    shown = _moved_most(swept, curve)
    each = [
        response.Panel(
            f"{WORDS[score].split(',')[0]}, class by class",
            {name: _line(swept, curve, score, name) for name in shown},
            {},
        )
        for score in CLASSIFIERS
        if swept.classes(score)
    ]
    name = f"sweep-{curve.arm}-{curve.knob}"
    caption = (
        f"{curve.knob} {curve.where}: means over seeds, bands of one standard deviation. Grey: arms that it leaves "
        "alone."
    )
    figure = response.curves(curve.knob, curve.values, overall)
    blocks: list[Block] = [drawn(job, f"{name}.png", figure, caption, style.drawing)]
    if each:
        figure = response.curves(curve.knob, curve.values, each)
        caption = f"The same, share of each class's cells that is told right.{_left_out(swept, shown)}"
        blocks.append(drawn(job, f"{name}-classes.png", figure, caption, style.drawing))
        blocks.append(_change_table(swept, curve))
    return blocks


def _moved_most(swept: Swept, curve: Curve) -> list[str]:
    """Classes that have a line: of too many those whose accuracy moves most from one end of the knob to the other."""
    score = swept.classifier()
    if score is None:
        return []
    moved = {one.name: np.nan_to_num(abs(one.by)) for one in swept.changes(curve, score)[1:]}
    return sorted(sorted(moved, key=lambda name: -moved[name])[: response.LINES_SHOWN], key=natural)


def _left_out(swept: Swept, shown: Sequence[str]) -> str:
    every = max(len(swept.classes(score)) for score in CLASSIFIERS)
    return f" Of {every} classes the {len(shown)} that move most; sweep.csv has all." if every > len(shown) else ""


def _change_table(swept: Swept, curve: Curve) -> Block:
    rows: list[list[Value]] = []
    for score in CLASSIFIERS:
        for one in swept.changes(curve, score) if swept.classes(score) else ():
            clear = ("gains" if one.by > 0 else "loses") if one.is_clear else "not clear"
            name = "all, balanced" if one.name == OVERALL else one.name
            rows.append([WORDS[score].split(",")[0], name, one.before, one.after, one.by, one.low, one.high, clear])
    first, last = (_value(value) for value in (curve.values[0], curve.values[-1]))
    header = ["by", "class", f"at {first}", f"at {last}", "change", "95 % from", "to", ""]
    caption = (
        f"From one end of {curve.knob} to the other {curve.where}, paired by seed; interval by Student's t over seeds, "
        "and of a class no narrower than its number of test cells allows; each class by itself: of twenty that do not "
        "change one would seem to."
    )
    return Folded(f"What {curve.knob} does to every class of “{curve.arm}”", [Table(header, rows, caption)])


def _heat_map(job: Job, swept: Swept, arm: str) -> Block:
    first, second = swept.knobs
    values = tuple(swept.knobs[first]["values"]), tuple(swept.knobs[second]["values"])
    scores = {
        WORDS[score]: np.array(
            [[swept.values(arm, {first: one, second: two}, score).mean for two in values[1]] for one in values[0]]
        )
        for score in swept.scores()
    }
    figure = response.heat_maps((first, second), values, scores)
    return drawn(job, f"sweep-{arm}.png", figure, f"“{arm}”: means over seeds at every point.", style.drawing)


def _shares(job: Job, swept: Swept) -> list[Block]:
    """Share of classes with an opposite, where several knobs or arms can be compared."""
    score = swept.classifier()
    if score is None or len(swept.classes(score)) < 2:
        return []
    lines = [
        (arm, knob, points)
        for arm, knob, points in _lines(swept)
        if len(swept.told_apart(points, arm, score)) >= trends.FEWEST_POINTS
    ]
    if len(lines) < 2:
        return []
    knobs = list(dict.fromkeys(knob for _, knob, _ in lines))
    shares = {title: np.full((len(swept.arms), len(knobs)), math.nan) for title in SHARES}
    for arm, knob, points in lines:
        found = swept.pairs(arm, points, score)
        for title, corrected in SHARES.items():
            place = swept.arms.index(arm), knobs.index(knob)
            shares[title][place] = trends.share_with_an_opposite(found, corrected=corrected)
    caption = (
        f"Share of classes whose {WORDS[score].split(',')[0]} accuracy goes against that of another class. Among many "
        "pairs chance alone makes such, so the share that is left after correction stands beside it."
    )
    return [drawn(job, "sweep-opposites.png", response.shares(swept.arms, knobs, shares), caption, style.drawing)]


SHARES = {"classes with an opposite": False, "after correction": True}
"""Title of a panel, and whether p-values are corrected for the number of pairs."""


def _every_point(swept: Swept) -> Block:
    header = ["arm", *swept.knobs, *(WORDS[score] for score in swept.scores()), "seeds"]
    rows: list[list[Value]] = []
    for arm in swept.arms:
        for point in swept.grid(arm):
            spreads = [swept.values(arm, point, score) for score in swept.scores()]
            seeds = max((one.n for one in spreads), default=0)
            rows.append(
                [arm, *(_value(point.get(knob)) for knob in swept.knobs), *(str(one) for one in spreads), seeds]
            )
    for arm in swept.left_alone():
        spreads = [swept.values(arm, {}, score) for score in swept.scores()]
        seeds = max((one.n for one in spreads), default=0)
        rows.append([arm, *("" for _ in swept.knobs), *(str(one) for one in spreads), seeds])
    caption = "Mean ± standard deviation over seeds; sweep.csv has every number of every run, opposites.csv every pair."
    return Folded("Every point, number by number", [Table(header, rows, caption)])


def _opposites(swept: Swept) -> Iterator[list[Any]]:
    for score in CLASSIFIERS:
        if len(swept.classes(score)) < 2:
            continue
        for arm, knob, points in _lines(swept):
            count = len(swept.told_apart(points, arm, score))
            for pair in swept.pairs(arm, points, score):
                numbers = [number for one in pair.by.values() for number in (one.r, one.p, one.p_corrected)]
                verdicts = [pair.is_opposite(), pair.is_opposite(corrected=True)]
                yield [arm, knob, score, pair.first, pair.second, count, *map(_known, numbers), *verdicts]


def _line(swept: Swept, curve: Curve, score: str, of: str = OVERALL) -> response.Line:
    spreads = [spread(swept.along(curve, value, score, of).values()) for value in curve.values]
    return response.Line(np.array([one.mean for one in spreads]), np.array([one.sd for one in spreads]))


def _levels(swept: Swept, score: str) -> dict[str, float]:
    levels = {arm: swept.level(arm, score) for arm in swept.left_alone()}
    return {arm: level for arm, level in levels.items() if not math.isnan(level)}


def _named(some: Sequence[Change]) -> str:
    named = ", ".join(f"{one.name} {signed(one.by)}{_interval(one)}" for one in some[:NAMED])
    return f"{named} and {len(some) - NAMED} more" if len(some) > NAMED else named


def _interval(one: Change) -> str:
    if one.seeds < 2:
        return " (one seed, which shows no spread)"
    return f" (95 % interval of the change {signed(one.low)} to {signed(one.high)} over {one.seeds} seeds)"


def _point(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{knob} = {_value(value)}" for knob, value in point.items())


def _value(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _mark(is_chosen: bool) -> str:
    return "chosen" if is_chosen else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _csv(job: Job, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with job.draft.file(name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
