"""block_tables: evaluations of arms in; sentences and tables of what each block of joined vectors adds, out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cellssl.counting import counted
from cellssl.reporting.html import Paragraph, Section, Table, Value
from cellssl.reporting.seed_statistics import mean_sd
from cellssl.stages.evaluate.block_gains import BlockGain
from cellssl.stages.evaluate.metrics import CLASSIFIERS, SCHEMES, EvaluationMetrics, SchemeMetrics
from cellssl.stages.report.block_scores import each_gain
from cellssl.stages.report.runs import Run
from cellssl.stages.report.tables_common import PART_NAMES, by_arm, mean_sd_text

HEADER = ("arm", "seed", "scheme", "classifier", "block", "all_blocks", "without", "difference")
CSV_HEADER = (*HEADER, "difference_low", "difference_high", "alone", "resampled", "groups", "finding")
"""Columns of blocks.csv."""
CAPTION = (
    "A block is left out, and the classifiers are trained on the others again; the difference is what it adds to them, "
    "so two blocks that know the same add nothing to each other, however much each knows alone. Mean ± standard "
    "deviation over seeds; the interval (first seed) is a paired bootstrap, in which both predictions are of the same "
    "cells. Where it includes 0, it cannot be told whether the block adds anything. Intervals are not widened for the "
    "number of blocks."
)


def block_section(runs: list[Run]) -> list[Section]:
    """Return the section on what each block adds; nothing where no arm has blocks."""
    sentences: list[Paragraph] = []
    rows: list[list[Value]] = []
    for arm, arm_runs in by_arm(runs).items():
        evaluations = [run.evaluation for run in arm_runs if run.evaluation]
        for scheme in _schemes(evaluations):
            each = [one.schemes[scheme] for one in evaluations if scheme in one.schemes]
            rows += _rows(arm, scheme, each)
            sentences.append(Paragraph(_sentence(arm, scheme, each[0])))
    header = ["arm", "scheme", "classifier", "block", "all blocks", "without it", "difference", "95 % interval"]
    header += ["resampled", "it alone", "the block"]
    return [Section("What each block adds", [*sentences, Table(header, rows, CAPTION)])] if rows else []


def csv_rows(runs: list[Run]) -> list[list[Any]]:
    """Return the rows of blocks.csv, with all digits; None where an interval is not known."""
    table = []
    for run in runs:
        for scheme, (classifier, block, whole, gain), resampled, groups in each_gain(run.evaluation):
            which = (run.arm, run.seed, scheme, classifier, block)
            numbers = (whole, gain.without, gain.difference, *(gain.interval or (None, None)), gain.alone)
            table.append([*which, *numbers, resampled, groups, gain.finding])
    return table


def _schemes(evaluations: list[EvaluationMetrics]) -> list[str]:
    """Return the schemes under which every seed of an arm dropped blocks."""
    return [
        scheme
        for scheme in SCHEMES
        if evaluations
        and all(scheme in one.schemes and one.schemes[scheme].block_gains is not None for one in evaluations)
    ]


def _rows(arm: str, scheme: str, each: list[SchemeMetrics]) -> list[list[Value]]:
    """Return one row per classifier and block."""
    table: list[list[Value]] = []
    first = each[0].block_gains
    for classifier in CLASSIFIERS if first is not None else ():
        whole = mean_sd_text(one.classifiers[classifier].balanced_accuracy for one in each)
        of_seeds = [one.block_gains.gains[classifier] for one in each if one.block_gains is not None]
        for block, gain in of_seeds[0].items():
            gains = [one[block] for one in of_seeds if block in one]
            assert first is not None
            table.append(
                [
                    *(arm, PART_NAMES[scheme], PART_NAMES[classifier], block, whole),
                    mean_sd_text(one.without for one in gains),
                    _mean_difference(gains),
                    _between(gain),
                    f"{first.groups:,} {first.resampled}",
                    mean_sd_text(one.alone for one in gains),
                    _finding(gains),
                ]
            )
    return table


def _finding(gains: list[BlockGain]) -> str:
    findings = {one.finding for one in gains}
    return findings.pop() if len(findings) == 1 else "differs between seeds"


def _mean_difference(gains: list[BlockGain]) -> str:
    found = mean_sd([one.difference for one in gains])
    return f"{found.mean:+.3f}" + ("" if math.isnan(found.sd) else f" ± {found.sd:.3f}")


def _between(gain: BlockGain) -> str:
    return "–" if gain.interval is None else f"{gain.interval[0]:+.3f} to {gain.interval[1]:+.3f}"


def _sentence(arm: str, scheme: str, metrics: SchemeMetrics) -> str:
    """Return in words what each block adds to the linear probe."""
    gains = metrics.block_gains
    assert gains is not None
    linear: Mapping[str, BlockGain] = gains.gains["linear"]
    whole = metrics.classifiers["linear"].balanced_accuracy
    over = counted(gains.groups, gains.resampled.removesuffix("s"))
    start = (
        f"“{arm}”, linear probe, {PART_NAMES[scheme]}: all {len(linear)} blocks together have a balanced accuracy of "
        f"{whole:.3f} (intervals over {over})."
    )
    return " ".join([start, *(_of_block(name, gain) for name, gain in linear.items())])


def _of_block(name: str, gain: BlockGain) -> str:
    without = f"Without {name} it is {gain.without:.3f}"
    if gain.interval is None:
        return f"{without}; a class has too few groups for an interval, so what {name} adds cannot be told."
    numbers = f"{gain.difference:+.3f}, 95 % interval {_between(gain)}"
    match gain.finding:
        case "adds":
            return f"{without}: {name} adds to the others ({numbers})."
        case "takes away":
            return f"{without}: {name} makes the others worse ({numbers})."
        case _:
            return f"{without}: it cannot be told whether {name} adds anything ({numbers} includes 0)."
