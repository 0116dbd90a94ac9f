"""sweep_results: runs at the points of a sweep in; their scores by point, class and seed out."""

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
from cellssl.stages.evaluate.metrics import CLASSIFIERS
from cellssl.stages.report.runs import Run, results_of
from cellssl.stages.report.scores import InSweeps, followed_scores, score_named, sweep_scheme, sweep_values

OVERALL = ""
"""In place of a class: the score over all classes."""


@dataclass(frozen=True)
class ScoreRecord:
    """One score of one run, of one class or OVERALL: a row of sweep.csv."""

    arm: str
    part: str
    values: tuple[tuple[str, Any], ...]
    """The point: settings and their values; empty for an arm that the sweep does not change."""
    seed: int
    score: str
    class_name: str
    """The class."""
    value: float


@dataclass(frozen=True)
class Curve:
    """One setting that takes its values in one arm; the score at a value is the mean over the points that have it."""

    arm: str
    knob: str
    values: tuple[Any, ...]
    others: tuple[Mapping[str, Any], ...] = ({},)
    """The values of the other setting of a grid, where there is one."""

    def points(self, value: Any) -> list[dict[str, Any]]:
        """Return the points at which the setting has this value."""
        return [{self.knob: value, **other} for other in self.others]

    @property
    def where(self) -> str:
        """In which arm, and over what it is averaged, in words."""
        over = "".join(f" averaged over {knob}" for knob in self.others[0])
        return f"in “{self.arm}”{over}"


class SweepResults:
    """The scores of the runs of a sweep, by point, class and seed."""

    def __init__(self, described: Mapping[str, Any], runs: Sequence[Run]) -> None:
        """Collect the scores; `described` is the sweep as the card of the report describes it."""
        self.knobs = {
            knob: {**about, "values": _ascending(about["values"])} for knob, about in described["knobs"].items()
        }
        self.together: bool = described["together"]
        self.choose: str | None = described["choose"]
        self.points: dict[str, dict[str, Any]] = described["points"]
        self.runs = list(runs)
        self.followed: dict[str, InSweeps] = followed_scores()
        """Score -> how this section shows it."""
        self.records = [record for run in runs for record in self._records_of(run)]
        self._pairs: dict[tuple[Any, ...], list[Pair]] = {}
        self._by_point: dict[tuple[Any, ...], dict[int, float]] = {}
        for record in self.records:
            key = (record.arm, record.part, record.values, record.score, record.class_name)
            self._by_point.setdefault(key, {})[record.seed] = record.value
        self.arms = list(dict.fromkeys(point["arm"] for point in self.points.values()))
        self.cells = _fewest_cells(self.of_test())
        """Class -> number of its test cells, in the run that has the fewest."""

    def of_test(self) -> list[Run]:
        """Return the runs with scores of the test part."""
        return [run for run in self.runs if self._part(run.arm) == "test"]

    def shown(self) -> list[Run]:
        """Return the runs that the other sections show: unswept arms, and of a swept arm the chosen point, or those at
        both ends."""
        names = {name for arm in self.arms for name in self._shown_points(arm)}
        return [run for run in self.of_test() if run.arm not in self.points or run.arm in names]

    def curves(self) -> Iterator[Curve]:
        """Yield one curve per arm and setting, over the values with runs; a grid is averaged over the other setting."""
        for arm in self.arms:
            grid = self.grid(arm)
            for knob, about in self.knobs.items():
                with_knob = [point for point in grid if knob in point]
                others = tuple(_unique({name: point[name] for name in point if name != knob} for point in with_knob))
                values = tuple(
                    value for value in about["values"] if all({knob: value, **other} in with_knob for other in others)
                )
                if len(values) > 1:
                    yield Curve(arm, knob, values, others)

    def scores(self) -> list[str]:
        """Return the scores that any run has, by their position on the page."""
        scored = {record.score for record in self.records}
        return sorted((name for name in self.followed if name in scored), key=lambda name: self.followed[name].position)

    def label(self, score: str) -> str:
        """Return what sentences and panels call a score."""
        return self.followed[score].label

    def classifiers(self) -> list[str]:
        """Return the followed scores that classifiers have, with one value per class."""
        return [name for name, how in self.followed.items() if how.per_class is not None]

    def classifier(self) -> str | None:
        """Return the classifier that sentences are about, where any run has one."""
        return next((name for name in self.scores() if name in self.classifiers()), None)

    def classes(self, score: str) -> list[str]:
        """Return the classes for which a score has values."""
        return sorted(
            {record.class_name for record in self.records if record.score == score and record.class_name != OVERALL},
            key=natural_key,
        )

    def values(
        self, arm: str, point: Mapping[str, Any], score: str, class_name: str = OVERALL, part: str = "test"
    ) -> MeanSd:
        """Return mean and standard deviation of a score over the seeds of a point."""
        return mean_sd(self.by_seed(arm, point, score, class_name, part).values())

    def by_seed(
        self, arm: str, point: Mapping[str, Any], score: str, class_name: str = OVERALL, part: str = "test"
    ) -> dict[int, float]:
        """Return seed -> score at a point."""
        return self._by_point.get((arm, part, tuple(sorted(point.items())), score, class_name), {})

    def along(self, curve: Curve, value: Any, score: str, class_name: str = OVERALL) -> dict[int, float]:
        """Return seed -> score at a value of a curve; a mean over points takes the seeds that all these points have."""
        at = [self.by_seed(curve.arm, point, score, class_name) for point in curve.points(value)]
        shared = [seed for seed in at[0] if all(seed in each for each in at)]
        return {seed: fmean(each[seed] for each in at) for seed in shared}

    def level(self, arm: str, score: str, class_name: str = OVERALL) -> float:
        """Return the mean score of an unswept arm."""
        return self.values(arm, {}, score, class_name).mean

    def unswept_arms(self) -> list[str]:
        """Return the arms that the sweep does not change."""
        return list(dict.fromkeys(run.arm for run in self.runs if run.arm not in self.points))

    def grid(self, arm: str) -> list[dict[str, Any]]:
        """Return all points of an arm, ordered by setting and value."""
        points = [dict(p["values"]) for p in self.points.values() if p["arm"] == arm and p["part"] == "test"]
        return sorted(points, key=self._order)

    def distinct_points(self, points: Sequence[Mapping[str, Any]], arm: str, score: str) -> list[Mapping[str, Any]]:
        """Return the points of a grid without repetitions along a setting that does not change this score: the same
        number three times is no more evidence than once."""
        classes = self.classes(score)
        kept = list(points)
        for knob in self.knobs if len(self.knobs) > 1 else ():
            found: dict[tuple[Any, ...], set[str]] = {}
            for point in kept:
                rest = tuple(item for item in sorted(point.items()) if item[0] != knob)
                numbers = repr([sorted(self.by_seed(arm, point, score, name).items()) for name in classes])
                found.setdefault(rest, set()).add(numbers)
            values = _unique(point.get(knob) for point in kept)
            if (
                len(values) > 1
                and all(knob in point for point in kept)
                and all(len(numbers) == 1 for numbers in found.values())
            ):
                kept = [point for point in kept if point[knob] == values[0]]
        return kept

    def pairs(self, arm: str, points: Sequence[Mapping[str, Any]], score: str) -> list[Pair]:
        """Return all pairs of classes with the correlations of their accuracies, means over seeds, over some points.

        They are computed once and kept.
        """
        points = self.distinct_points(points, arm, score)
        key = (arm, score, tuple(tuple(sorted(point.items())) for point in points))
        if key not in self._pairs:
            names = self.classes(score)
            means = [[self.values(arm, point, score, name).mean for name in names] for point in points]
            self._pairs[key] = class_tradeoffs.pairs(
                np.array(means, dtype=float).reshape(len(points), len(names)), names
            )
        return self._pairs[key]

    def changes(self, curve: Curve, score: str) -> list[Change]:
        """Return the change from the first value of a setting to its last: overall, then per class."""
        ends = curve.values[0], curve.values[-1]
        return [self._change(curve, *ends, score, name) for name in [OVERALL, *self.classes(score)]]

    def between(self, curve: Curve, score: str) -> tuple[Any, float] | None:
        """Return the value between the ends that is clearly above both, or clearly below, with its mean score.

        Of several values, the one farthest from both ends; None where there is none. Where a score rises and falls
        again, the ends alone would suggest that the setting has no effect.
        """
        far: dict[Any, tuple[float, float]] = {}
        for value in curve.values[1:-1]:
            up, down = (self._change(curve, end, value, score) for end in (curve.values[0], curve.values[-1]))
            if up.is_clear and down.is_clear and up.by * down.by > 0:
                far[value] = (min(abs(up.by), abs(down.by)), up.after)
        value = max(far, key=far.__getitem__, default=None)
        return None if value is None else (value, far[value][1])

    def _change(self, curve: Curve, before: Any, after: Any, score: str, class_name: str = OVERALL) -> Change:
        """Return the change from one value of a setting to another, over the seeds that both have."""
        first, last = (self.along(curve, value, score, class_name) for value in (before, after))
        seeds = sorted(first.keys() & last.keys())
        one, other = (np.array([end[seed] for seed in seeds], dtype=float) for end in (first, last))
        return class_tradeoffs.change(
            class_name, one, other, self.cells.get(class_name) if score in self.classifiers() else None
        )

    def chosen(self, arm: str) -> dict[str, Any] | None:
        """Return the point with the best mean score on the val part, over the seeds that all points have; the first of
        equal ones. None where there is no such seed, as long as runs are missing."""
        if self.choose is None:
            return None
        score, grid = self.choose, self.grid(arm)
        by_seed = [self.by_seed(arm, point, score, part="val") for point in grid]
        shared = set.intersection(*(set(each) for each in by_seed)) if by_seed else set()
        if not shared:
            return None
        means = [sum(each[seed] for seed in shared) / len(shared) for each in by_seed]
        return grid[int(np.argmin(means) if score_named(score).lower_is_better else np.argmax(means))]

    def _shown_points(self, arm: str) -> list[str]:
        chosen, grid = self.chosen(arm), self.grid(arm)
        wanted = [chosen] if chosen else [grid[0], grid[-1]]
        return [
            name
            for name, point in self.points.items()
            if point["arm"] == arm and point["part"] == "test" and dict(point["values"]) in wanted
        ]

    def _order(self, point: Mapping[str, Any]) -> list[tuple[int, int]]:
        return [
            (place, about["values"].index(point[knob]))
            for place, (knob, about) in enumerate(self.knobs.items())
            if knob in point
        ]

    def _part(self, arm: str) -> str:
        return str(self.points[arm]["part"]) if arm in self.points else "test"

    def _records_of(self, run: Run) -> Iterator[ScoreRecord]:
        point = self.points.get(run.arm)
        arm, values = (point["arm"], tuple(sorted(point["values"].items()))) if point else (run.arm, ())
        for score, class_name, value in sweep_values(results_of(run), OVERALL):
            yield ScoreRecord(arm, self._part(run.arm), values, run.seed, score, class_name, value)


def _fewest_cells(runs: Sequence[Run]) -> dict[str, int]:
    """Return class -> number of its test cells, and of all at OVERALL, in the run that has the fewest."""
    fewest: dict[str, int] = {}
    for run in runs:
        scheme = sweep_scheme(run.evaluation)
        cells = scheme.classifiers[CLASSIFIERS[0]].cells_per_class() if scheme else {}
        for name, count in {**cells, OVERALL: sum(cells.values())}.items():
            fewest[name] = min(count, fewest.get(name, count))
    return fewest


def _ascending(values: Iterable[Any]) -> list[Any]:
    """Return numbers in ascending order, whatever their order in the recipe; other values keep their order."""
    listed = list(values)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in listed)
    return sorted(listed) if numbers else listed


def _unique(some: Iterable[Any]) -> list[Any]:
    """Return each item once, in order of first appearance; items may be unhashable."""
    found: list[Any] = []
    for one in some:
        if one not in found:
            found.append(one)
    return found


def point_sets(sweep: SweepResults) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Yield arm, setting and points of every set over which classes are compared: one curve, or a whole grid of two."""
    if sweep.together and len(sweep.knobs) > 1:
        yield from ((arm, " x ".join(sweep.knobs), sweep.grid(arm)) for arm in sweep.arms)
    else:
        for curve in sweep.curves():
            yield curve.arm, curve.knob, [point for value in curve.values for point in curve.points(value)]
