"""sweep_section: the numbers of a sweep in; the section of the page on it, its figures and its two tables out."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from cellssl.engine.build import Job
from cellssl.profiling import class_tradeoffs
from cellssl.reporting import theme
from cellssl.reporting.figures import sweep
from cellssl.reporting.html import Block, Bullets, Folded, Section, Table, Value
from cellssl.reporting.natural_sort import natural_key
from cellssl.reporting.seed_statistics import mean_sd
from cellssl.stages.report.figures import drawn
from cellssl.stages.report.runs import CLASSIFIERS
from cellssl.stages.report.sweep_results import OVERALL, WORDS, Curve, Swept, lines_of
from cellssl.stages.report.sweep_text import value_named, words


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
    header += [f"{name}{what}" for name in class_tradeoffs.COEFFICIENTS for what in ("", "_p", "_p_corrected")]
    _csv(job, "opposites.csv", [*header, "opposite", "opposite_corrected"], _opposites(swept))


def _chosen_table(swept: Swept) -> list[Block]:
    if swept.choose is None:
        return []
    rows: list[list[Value]] = []
    for arm in swept.arms:
        chosen = swept.chosen(arm)
        for point in swept.grid(arm):
            both = [str(swept.values(arm, point, swept.choose, part=part)) for part in ("val", "test")]
            rows.append([arm, *(value_named(point.get(knob)) for knob in swept.knobs), *both, _mark(point == chosen)])
    header = ["arm", *swept.knobs, f"{swept.choose} on val", f"{swept.choose} on test", ""]
    return [Table(header, rows, "Chosen by the mean on the val part; the test part had no say in it.")]


def _curve_blocks(job: Job, swept: Swept, curve: Curve) -> list[Block]:
    """Curves of every score, then of every class, and how far each moved."""
    overall = [
        sweep.Panel(WORDS[score], {curve.arm: _line(swept, curve, score)}, _levels(swept, score))
        for score in swept.scores()
    ]
    shown = _moved_most(swept, curve)
    each = [
        sweep.Panel(
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
    figure = sweep.curves(curve.knob, curve.values, overall)
    blocks: list[Block] = [drawn(job, f"{name}.png", figure, caption, theme.drawing)]
    if each:
        figure = sweep.curves(curve.knob, curve.values, each)
        caption = f"The same, share of each class's cells that is told right.{_left_out(swept, shown)}"
        blocks.append(drawn(job, f"{name}-classes.png", figure, caption, theme.drawing))
        blocks.append(_change_table(swept, curve))
    return blocks


def _moved_most(swept: Swept, curve: Curve) -> list[str]:
    """Classes that have a line: of too many those whose accuracy moves most from one end of the knob to the other."""
    score = swept.classifier()
    if score is None:
        return []
    moved = {one.name: np.nan_to_num(abs(one.by)) for one in swept.changes(curve, score)[1:]}
    return sorted(sorted(moved, key=lambda name: -moved[name])[: sweep.LINES_SHOWN], key=natural_key)


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
    first, last = (value_named(value) for value in (curve.values[0], curve.values[-1]))
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
    figure = sweep.heat_maps((first, second), values, scores)
    return drawn(job, f"sweep-{arm}.png", figure, f"“{arm}”: means over seeds at every point.", theme.drawing)


def _shares(job: Job, swept: Swept) -> list[Block]:
    """Share of classes with an opposite, where several knobs or arms can be compared."""
    score = swept.classifier()
    if score is None or len(swept.classes(score)) < 2:
        return []
    lines = [
        (arm, knob, points)
        for arm, knob, points in lines_of(swept)
        if len(swept.told_apart(points, arm, score)) >= class_tradeoffs.FEWEST_POINTS
    ]
    if len(lines) < 2:
        return []
    knobs = list(dict.fromkeys(knob for _, knob, _ in lines))
    shares = {title: np.full((len(swept.arms), len(knobs)), math.nan) for title in SHARES}
    for arm, knob, points in lines:
        found = swept.pairs(arm, points, score)
        for title, corrected in SHARES.items():
            place = swept.arms.index(arm), knobs.index(knob)
            shares[title][place] = class_tradeoffs.share_with_an_opposite(found, corrected=corrected)
    caption = (
        f"Share of classes whose {WORDS[score].split(',')[0]} accuracy goes against that of another class. Among many "
        "pairs chance alone makes such, so the share that is left after correction stands beside it."
    )
    return [drawn(job, "sweep-opposites.png", sweep.shares(swept.arms, knobs, shares), caption, theme.drawing)]


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
                [arm, *(value_named(point.get(knob)) for knob in swept.knobs), *(str(one) for one in spreads), seeds]
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
        for arm, knob, points in lines_of(swept):
            count = len(swept.told_apart(points, arm, score))
            for pair in swept.pairs(arm, points, score):
                numbers = [number for one in pair.by.values() for number in (one.r, one.p, one.p_corrected)]
                verdicts = [pair.is_opposite(), pair.is_opposite(corrected=True)]
                yield [arm, knob, score, pair.first, pair.second, count, *map(_known, numbers), *verdicts]


def _line(swept: Swept, curve: Curve, score: str, of: str = OVERALL) -> sweep.Line:
    spreads = [mean_sd(swept.along(curve, value, score, of).values()) for value in curve.values]
    return sweep.Line(np.array([one.mean for one in spreads]), np.array([one.sd for one in spreads]))


def _levels(swept: Swept, score: str) -> dict[str, float]:
    levels = {arm: swept.level(arm, score) for arm in swept.left_alone()}
    return {arm: level for arm, level in levels.items() if not math.isnan(level)}


def _mark(is_chosen: bool) -> str:
    return "chosen" if is_chosen else ""


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _csv(job: Job, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with job.draft.file(name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
