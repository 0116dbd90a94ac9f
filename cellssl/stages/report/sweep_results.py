"""sweep_results: runs at the points of a sweep in; their numbers, by point, class and seed, out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from cellssl.profiling import class_tradeoffs
from cellssl.profiling.class_tradeoffs import Change, Pair
from cellssl.reporting.natural_sort import natural_key
from cellssl.reporting.seed_statistics import MeanSd, mean_sd
from cellssl.stages.report.runs import CLASSIFIERS, SCHEMES, Run

WORDS = {
    "linear": "linear probe, balanced accuracy",
    "knn": "kNN, balanced accuracy",
    "ami": "AMI of clusters and label",
    "silhouette": "silhouette",
}
"""Scores that are followed over a sweep."""
OVERALL = ""
"""In place of a class."""


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
        return sorted({one.of for one in self.told if one.score == score and one.of != OVERALL}, key=natural_key)

    def values(self, arm: str, point: Mapping[str, Any], score: str, of: str = OVERALL, part: str = "test") -> MeanSd:
        """One number over the seeds of a point."""
        return mean_sd(self.by_seed(arm, point, score, of, part).values())

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
            self._pairs[key] = class_tradeoffs.pairs(
                np.array(means, dtype=float).reshape(len(points), len(names)), names
            )
        return self._pairs[key]

    def changes(self, curve: Curve, score: str) -> list[Change]:
        """From the first value of a knob to its last: overall, then class by class."""
        ends = curve.values[0], curve.values[-1]
        return [self._change(curve, *ends, score, name) for name in [OVERALL, *self.classes(score)]]

    def between(self, curve: Curve, score: str) -> tuple[Any, float] | None:
        """The value between the ends that is clearly above both, or clearly below, with its mean; the farthest if many.

        Where a score rises and falls again, the ends alone would say that the knob does nothing.
        """
        far: dict[Any, tuple[float, float]] = {}
        for value in curve.values[1:-1]:
            up, down = (self._change(curve, end, value, score) for end in (curve.values[0], curve.values[-1]))
            if up.is_clear and down.is_clear and up.by * down.by > 0:
                far[value] = (min(abs(up.by), abs(down.by)), up.after)
        value = max(far, key=far.__getitem__, default=None)
        return None if value is None else (value, far[value][1])

    def _change(self, curve: Curve, before: Any, after: Any, score: str, of: str = OVERALL) -> Change:
        """From one value of a knob to another, by the seeds that both have."""
        first, last = (self.along(curve, value, score, of) for value in (before, after))
        seeds = sorted(first.keys() & last.keys())
        one, other = (np.array([end[seed] for seed in seeds], dtype=float) for end in (first, last))
        return class_tradeoffs.change(of, one, other, self.cells.get(of) if score in CLASSIFIERS else None)

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


def lines_of(swept: Swept) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Every set of points over which classes are compared: a knob's values, or the whole grid of two."""
    if swept.together and len(swept.knobs) > 1:
        yield from ((arm, " x ".join(swept.knobs), swept.grid(arm)) for arm in swept.arms)
    else:
        for curve in swept.curves():
            yield curve.arm, curve.knob, [point for value in curve.values for point in curve.points(value)]
