"""paired_differences: scores and hits of all arms in; the leading arm minus every other, with intervals, out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellssl.artifacts.tables import write_csv
from cellssl.engine.build import Job
from cellssl.reporting.html import Block, Heading, Paragraph, Rich, Strong, Table, Value
from cellssl.reporting.paired_tests import PairedTest, paired_tests
from cellssl.reporting.seed_statistics import signed
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.hit_tables import treatments_of
from cellssl.stages.report.runs import Run, first_seeds

if TYPE_CHECKING:
    import pandas as pd

SMALLEST = 0.005
"""What is nearer to 0 than this is 0.00 with two decimals."""
FILE = "paired_differences.csv"
COMPARED = ("ami", "knn", "linear", "linear_leave_one_plate_out", "hits_map", "nscb", "nsc")
"""Scores that are compared over seeds, in the order of their columns; of these, as many as COLUMNS are shown."""
COLUMNS = 4
FEWEST_TREATMENTS = 5
"""Fewer treatments than this are too few to compare arms over them."""
OVER_SEEDS, OVER_TREATMENTS = "seeds", "treatments"


@dataclass(frozen=True)
class Comparison:
    """The leading arm minus every other one by one score."""

    score: str
    label: str
    over: str
    """What the pairs are: seeds, or treatments."""
    tests: Mapping[str, PairedTest]
    """The other arm -> the test."""


def paired_blocks(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Block]:
    """Return the table of paired differences, and write it with all digits; where there is one arm, nothing."""
    others = [arm for arm in [*scores.trained, *scores.baselines] if arm != scores.leading]
    if not others:
        return []
    found = [one for one in _comparisons(runs, scores, others) if any(test.n for test in one.tests.values())]
    blocks: list[Block] = [Heading("Differences between arms")]
    if not any(one.over == OVER_SEEDS for one in found):
        blocks.append(
            Paragraph(
                "One seed does not show how much arms differ by chance, so the scores above have no intervals. Run "
                "three seeds or more (seeds = [0, 1, 2])."
            )
        )
    if not found:
        return blocks
    write_csv(_csv(scores.leading, found), job.draft.file(FILE))
    header = [f"“{scores.leading}” minus", *(one.label for one in found)]
    rows: list[list[Value | Rich]] = [[arm, *(_cell(one.tests[arm]) for one in found)] for arm in others]
    return [*blocks, Table(header, rows, _caption(scores, found))]


def _comparisons(runs: list[Run], scores: ScoresByArm, others: list[str]) -> list[Comparison]:
    labels = {score.name: score.label for score in scores.shown()}
    found = []
    for name in (name for name in COMPARED if name in labels):
        differences = [scores.differences(scores.leading, arm, name) for arm in others]
        if max(map(len, differences)) > 1:
            tests = paired_tests(differences)
            found.append(Comparison(name, labels[name], OVER_SEEDS, dict(zip(others, tests, strict=True))))
    found = found[:COLUMNS]
    return found or _over_treatments(runs, scores.leading, others)


def _over_treatments(runs: list[Run], leading: str, others: list[str]) -> list[Comparison]:
    """Return the comparison by the mean average precision of every treatment; nothing where there are too few."""
    precision = {
        run.arm: _precision(run) for run in first_seeds(runs) if run.hits_artifact is not None and run.hits is not None
    }
    if leading not in precision:
        return []
    differences = [
        (precision[leading] - precision[arm]).dropna().tolist() if arm in precision else [] for arm in others
    ]
    if max(map(len, differences)) < FEWEST_TREATMENTS:
        return []
    tests = paired_tests(differences)
    return [Comparison("hits_map", "mAP against controls", OVER_TREATMENTS, dict(zip(others, tests, strict=True)))]


def _precision(run: Run) -> pd.Series[float]:
    """Return treatment -> mean average precision, for the treatments that were tested."""
    table = treatments_of(run.found_hits)
    table = table[table["q_value"].notna()]
    keys = [table["compound"].astype(str), table["dose_micromolar"].astype(float).fillna(-1.0)]
    precision = table.set_index(keys)["mean_average_precision"].astype(float)
    return precision[~precision.index.duplicated()]


def _cell(test: PairedTest) -> Value | Rich:
    """Return a difference as text, in bold where its interval does not hold 0."""
    if not test.n:
        return "–"
    if not test.is_tested:
        return f"{signed(test.mean)} ({'one pair' if test.n == 1 else 'the same in every pair'})"
    text = f"{signed(test.mean)} ({_end(test.low)} to {_end(test.high)})"
    return text if test.may_be_zero else Strong(text)


def _end(value: float) -> str:
    """Return an end of an interval, with as many decimals as show on which side of 0 it lies."""
    return f"{value:+.1g}" if 0 < abs(value) < SMALLEST else signed(value)


def _caption(scores: ScoresByArm, found: list[Comparison]) -> str:
    n = _range({test.n for one in found for test in one.tests.values() if test.n})
    tested = _range({sum(test.is_tested for test in one.tests.values()) for one in found} - {0})
    chosen = ""
    if len(scores.trained) > 1 and scores.means("ami"):
        chosen = f" “{scores.leading}” was picked because its AMI is the highest of the trained arms, which favours it."
    over = ""
    if found[0].over == OVER_TREATMENTS:
        over = (
            " Pairs are treatments (first seed), which share control wells: the interval is too narrow, and says "
            "nothing about other seeds."
        )
    return (
        f"Mean difference over pairs (n = {n} {found[0].over}) and its 95 % interval (paired t-test, widened for "
        f"the {tested or 'no'} comparisons of its column by Bonferroni). Bold: the interval does not hold 0; {FILE} "
        f"has all p-values, corrected by Holm.{over}{chosen}"
    )


def _range(counts: Iterable[int]) -> str:
    """Return "3" or "2 to 3"; nothing for no counts."""
    known = sorted(counts)
    return " to ".join(map(str, dict.fromkeys([*known[:1], *known[-1:]])))


def _csv(leading: str, found: list[Comparison]) -> pd.DataFrame:
    """Return one row per score and arm, with all digits; empty where there is no interval."""
    import pandas as pd

    rows = [
        (one.score, leading, arm, one.over, test.n, *map(_known, _numbers(test)))
        for one in found
        for arm, test in one.tests.items()
    ]
    names = ("score", "arm", "minus", "pairs", "n", "difference", "low", "high", "p_value", "corrected_p_value")
    return pd.DataFrame(rows, columns=list(names))


def _numbers(test: PairedTest) -> tuple[float, ...]:
    return test.mean, test.low, test.high, test.p_value, test.corrected_p_value


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
