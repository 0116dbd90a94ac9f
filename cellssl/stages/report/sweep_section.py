"""sweep_section: the scores of a sweep in; its section of the page, its figures and its two CSV tables out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.engine.build import Job
from cellssl.profiling import class_tradeoffs
from cellssl.reporting import theme
from cellssl.reporting.figures import sweep
from cellssl.reporting.html import Block, Bullets, Folded, Section, Table, Value
from cellssl.reporting.natural_sort import natural_key
from cellssl.reporting.seed_statistics import mean_sd
from cellssl.spreadsheets import write_rows
from cellssl.stages.report.figure_files import write_figure
from cellssl.stages.report.sweep_results import OVERALL, Curve, SweepResults, point_sets
from cellssl.stages.report.sweep_text import value_text, words

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SHARES = {"classes with an opposite": False, "after correction": True}
"""Title of a panel, and whether p-values are corrected for the number of pairs."""


def sweep_sections(job: Job, results: SweepResults) -> list[Section]:
    """Return what the settings change: overall, per class, and which classes move in opposite directions."""
    _write(job, results)
    blocks: list[Block] = [Bullets(words(results)), *_chosen_table(results)]
    for curve in results.curves():
        blocks += _curve_blocks(job, results, curve)
    if results.together and len(results.knobs) == 2:
        blocks += [_heat_map(job, results, arm) for arm in results.arms]
    blocks += _shares(job, results)
    return [Section("The sweep", [*blocks, _every_point(results)])]


def _write(job: Job, results: SweepResults) -> None:
    """Write sweep.csv, one row per score of a run, and opposites.csv, one row per pair of classes."""
    knobs = list(results.knobs)
    rows = (
        [
            record.arm,
            record.part,
            *(dict(record.values).get(knob) for knob in knobs),
            record.seed,
            record.score,
            record.class_name,
            record.value,
        ]
        for record in results.records
    )
    _csv(job, "sweep.csv", ["arm", "part", *knobs, "seed", "score", "class", "value"], rows)
    header = ["arm", "knob", "score", "first", "second", "points"]
    header += [f"{name}{what}" for name in class_tradeoffs.COEFFICIENTS for what in ("", "_p", "_p_corrected")]
    _csv(job, "opposites.csv", [*header, "opposite", "opposite_corrected"], _opposites(results))


def _chosen_table(results: SweepResults) -> list[Block]:
    """Return the scores on val and test at every point, where the recipe chooses a point by a score."""
    if results.choose is None:
        return []
    rows: list[list[Value]] = []
    for arm in results.arms:
        chosen = results.chosen(arm)
        for point in results.grid(arm):
            both = [str(results.values(arm, point, results.choose, part=part)) for part in ("val", "test")]
            rows.append([arm, *(value_text(point.get(knob)) for knob in results.knobs), *both, _mark(point == chosen)])
    header = ["arm", *results.knobs, f"{results.choose} on val", f"{results.choose} on test", ""]
    return [
        Table(
            header, rows, "The point is chosen by the mean on the val part; the test part is not used for the choice."
        )
    ]


def _curve_blocks(job: Job, results: SweepResults, curve: Curve) -> list[Block]:
    """Return curves of every score, curves of every class, and a table of their changes."""
    overall = [
        sweep.Panel(results.label(score), {curve.arm: _line(results, curve, score)}, _levels(results, score))
        for score in results.scores()
    ]
    shown = _most_changed(results, curve)
    each = [
        sweep.Panel(
            f"{results.followed[score].title}, per class",
            {name: _line(results, curve, score, name) for name in shown},
            {},
        )
        for score in results.classifiers()
        if results.classes(score)
    ]
    name = f"sweep-{curve.arm}-{curve.knob}"
    caption = (
        f"{curve.knob} {curve.where}: means over seeds, with bands of one standard deviation. Grey: arms that the "
        "sweep does not change."
    )
    figure = sweep.curves(curve.knob, curve.values, overall)
    blocks: list[Block] = [_figure(job, name, figure, caption, _lines_drawn(curve, overall))]
    if each:
        figure = sweep.curves(curve.knob, curve.values, each)
        caption = f"The same per class: share of its cells that is predicted correctly.{_not_shown(results, shown)}"
        blocks.append(_figure(job, f"{name}-classes", figure, caption, _lines_drawn(curve, each)))
        blocks.append(_change_table(results, curve))
    return blocks


def _most_changed(results: SweepResults, curve: Curve) -> list[str]:
    """Return the classes that have a line; of too many, those whose accuracy changes most from end to end."""
    score = results.classifier()
    if score is None:
        return []
    moved = {one.name: np.nan_to_num(abs(one.by)) for one in results.changes(curve, score)[1:]}
    return sorted(sorted(moved, key=lambda name: -moved[name])[: sweep.LINES_SHOWN], key=natural_key)


def _not_shown(results: SweepResults, shown: Sequence[str]) -> str:
    """Return a note where not every class has a line."""
    every = max(len(results.classes(score)) for score in results.classifiers())
    if every <= len(shown):
        return ""
    return f" The {len(shown)} of {every} classes that change most; sweep.csv has all."


def _change_table(results: SweepResults, curve: Curve) -> Block:
    """Return the change of every class from end to end, with its interval."""
    rows: list[list[Value]] = []
    for score in results.classifiers():
        for one in results.changes(curve, score) if results.classes(score) else ():
            clear = ("gains" if one.by > 0 else "loses") if one.is_clear else "not clear"
            name = "all, balanced" if one.name == OVERALL else one.name
            rows.append([results.followed[score].title, name, one.before, one.after, one.by, one.low, one.high, clear])
    first, last = (value_text(value) for value in (curve.values[0], curve.values[-1]))
    header = ["classifier", "class", f"at {first}", f"at {last}", "change", "95 % from", "to", ""]
    caption = (
        f"From one end of {curve.knob} to the other {curve.where}, paired by seed. The interval is by Student's t over "
        "seeds, and for a class no narrower than its number of test cells allows. It is not corrected for the number "
        "of classes: of twenty classes that do not change, about one seems to change."
    )
    return Folded(f"Change of every class with {curve.knob} in “{curve.arm}”", [Table(header, rows, caption)])


def _heat_map(job: Job, results: SweepResults, arm: str) -> Block:
    """Return the figure of every score over a grid of two settings."""
    first, second = results.knobs
    values = tuple(results.knobs[first]["values"]), tuple(results.knobs[second]["values"])
    scores = {
        results.label(score): np.array(
            [[results.values(arm, {first: one, second: two}, score).mean for two in values[1]] for one in values[0]]
        )
        for score in results.scores()
    }
    figure = sweep.heat_maps((first, second), values, scores)
    drawn = _squares_drawn(("score", first, second, "mean"), scores, *values)
    return _figure(job, f"sweep-{arm}", figure, f"“{arm}”: means over seeds at every point.", drawn)


def _shares(job: Job, results: SweepResults) -> list[Block]:
    """Return the figure of the share of classes with an opposite, where several settings or arms can be compared."""
    score = results.classifier()
    if score is None or len(results.classes(score)) < 2:
        return []
    lines = [
        (arm, knob, points)
        for arm, knob, points in point_sets(results)
        if len(results.distinct_points(points, arm, score)) >= class_tradeoffs.FEWEST_POINTS
    ]
    if len(lines) < 2:
        return []
    knobs = list(dict.fromkeys(knob for _, knob, _ in lines))
    shares = {title: np.full((len(results.arms), len(knobs)), math.nan) for title in SHARES}
    for arm, knob, points in lines:
        found = results.pairs(arm, points, score)
        for title, corrected in SHARES.items():
            place = results.arms.index(arm), knobs.index(knob)
            shares[title][place] = class_tradeoffs.share_with_an_opposite(found, corrected=corrected)
    caption = (
        f"Share of classes whose {results.followed[score].title} accuracy goes down where that of another class goes "
        "up. Among many pairs some do so by chance; the second panel is after correction for the number of pairs."
    )
    drawn = _squares_drawn(("p-values", "arm", "setting", "share"), shares, results.arms, knobs)
    return [_figure(job, "sweep-opposites", sweep.shares(results.arms, knobs, shares), caption, drawn)]


def _every_point(results: SweepResults) -> Block:
    """Return the table of all scores at all points, and of the unswept arms."""
    header = ["arm", *results.knobs, *(results.label(score) for score in results.scores()), "seeds"]
    rows: list[list[Value]] = []
    for arm in results.arms:
        for point in results.grid(arm):
            spreads = [results.values(arm, point, score) for score in results.scores()]
            seeds = max((one.n for one in spreads), default=0)
            rows.append(
                [arm, *(value_text(point.get(knob)) for knob in results.knobs), *(str(one) for one in spreads), seeds]
            )
    for arm in results.unswept_arms():
        spreads = [results.values(arm, {}, score) for score in results.scores()]
        seeds = max((one.n for one in spreads), default=0)
        rows.append([arm, *("" for _ in results.knobs), *(str(one) for one in spreads), seeds])
    caption = "Mean ± standard deviation over seeds; sweep.csv has all scores of all runs, opposites.csv all pairs."
    return Folded("Scores at every point", [Table(header, rows, caption)])


def _opposites(results: SweepResults) -> Iterator[list[Any]]:
    """Yield the rows of opposites.csv."""
    for score in results.classifiers():
        if len(results.classes(score)) < 2:
            continue
        for arm, knob, points in point_sets(results):
            count = len(results.distinct_points(points, arm, score))
            for pair in results.pairs(arm, points, score):
                numbers = [number for one in pair.by.values() for number in (one.r, one.p, one.p_corrected)]
                opposite = [pair.is_opposite(), pair.is_opposite(corrected=True)]
                yield [arm, knob, score, pair.first, pair.second, count, *map(_known, numbers), *opposite]


def _figure(job: Job, name: str, figure: Figure, caption: str, drawn: pd.DataFrame) -> Block:
    return write_figure(job, name, figure, caption, theme.drawing, drawn)


def _lines_drawn(curve: Curve, panels: Sequence[sweep.Panel]) -> pd.DataFrame:
    """Return one row per point of the lines of some panels, and one per level, which has no value of the setting."""
    import pandas as pd

    rows: list[tuple[Any, ...]] = []
    for panel in panels:
        for name, line in panel.lines.items():
            rows += [(panel.title, name, *each) for each in zip(curve.values, line.mean, line.sd, strict=True)]
        rows += [(panel.title, name, None, level, None) for name, level in panel.levels.items()]
    return pd.DataFrame(rows, columns=["panel", "line", curve.knob, "mean", "sd"])


def _squares_drawn(
    columns: Sequence[str], panels: Mapping[str, np.ndarray], down: Sequence[Any], across: Sequence[Any]
) -> pd.DataFrame:
    """Return one row per square of some heat maps."""
    import pandas as pd

    rows = [
        (title, one, other, values[row, column])
        for title, values in panels.items()
        for row, one in enumerate(down)
        for column, other in enumerate(across)
    ]
    return pd.DataFrame(rows, columns=list(columns))


def _line(results: SweepResults, curve: Curve, score: str, class_name: str = OVERALL) -> sweep.Line:
    spreads = [mean_sd(results.along(curve, value, score, class_name).values()) for value in curve.values]
    return sweep.Line(np.array([one.mean for one in spreads]), np.array([one.sd for one in spreads]))


def _levels(results: SweepResults, score: str) -> dict[str, float]:
    levels = {arm: results.level(arm, score) for arm in results.unswept_arms()}
    return {arm: level for arm, level in levels.items() if not math.isnan(level)}


def _mark(is_chosen: bool) -> str:
    return "chosen" if is_chosen else ""


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _csv(job: Job, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with job.draft.file(name).open("w", newline="", encoding="utf-8") as file:
        write_rows(file, header, rows)
