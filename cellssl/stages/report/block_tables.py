"""block_tables: evaluations of arms in; sentences and tables of what each block of joined vectors adds, out."""

from __future__ import annotations

import math
from typing import Any

from cellssl.counting import counted
from cellssl.reporting.html import Block, Paragraph, Section, Table, Value
from cellssl.reporting.seed_statistics import mean_sd
from cellssl.stages.report.block_scores import AMI, CLUSTERS, DroppedBlocks, dropped_blocks
from cellssl.stages.report.runs import Run
from cellssl.stages.report.tables_common import PART_NAMES, by_arm, mean_sd_text
from cellssl.stages.shared.block_gains import BlockGain

HEADER = ("arm", "seed", "scheme", "score", "block", "all_blocks", "without", "difference")
CSV_HEADER = (*HEADER, "difference_low", "difference_high", "alone", "resampled", "groups", "finding")
"""Columns of blocks.csv."""
CAPTION = (
    "Difference: what a block adds to the others, all blocks minus all but this one, fitted again; blocks that know "
    "the same add nothing to each other. Mean ± standard deviation over seeds; interval (first seed): paired bootstrap "
    "over "
    "cells, not widened for the number of blocks. Where it includes 0, it is unclear whether the block adds anything."
)
NAMES = {CLUSTERS: "clusters", AMI: "AMI with the label", **PART_NAMES}
SHARED_WELLS = "Wells of test cells may have cells in training, so a block may seem to add what it knows of the well."
"""What is said of the split, where no group is left out as a whole."""
SPOKEN = {"linear": "linear probe, {scheme}: balanced accuracy", AMI: "clusters: AMI with the label"}
"""Scores that sentences are about, and how they begin."""


def block_section(runs: list[Run]) -> list[Section]:
    """Return the section on what each block adds; nothing where no arm has blocks."""
    sentences: list[Paragraph] = []
    rows: list[list[Value]] = []
    for arm, arm_runs in by_arm(runs).items():
        of_seeds = [{(one.scheme, one.score): one for one in _dropped(run)} for run in arm_runs]
        for key, first in of_seeds[0].items():
            each = [of_seed[key] for of_seed in of_seeds if key in of_seed]
            rows += [[arm, *_row(block, each)] for block in first.gains]
            if first.score in SPOKEN:
                sentences.append(Paragraph(_sentence(arm, first)))
    header = ["arm", "scheme", "score", "block", "all blocks", "without it", "difference", "95 % interval"]
    header += ["resampled", "it alone", "the block"]
    blocks: list[Block] = [*sentences, Table(header, rows, CAPTION)]
    return [Section("What each block adds", blocks, is_appendix=True)] if rows else []


def csv_rows(runs: list[Run]) -> list[list[Any]]:
    """Return the rows of blocks.csv, with all digits; None where an interval is not known."""
    table = []
    for run in runs:
        for one in _dropped(run):
            for block, gain in one.gains.items():
                which = (run.arm, run.seed, one.scheme, one.score, block)
                numbers = (one.whole, gain.without, gain.difference, *(gain.interval or (None, None)), gain.alone)
                table.append([*which, *numbers, one.resampled, one.groups, gain.finding])
    return table


def _dropped(run: Run) -> list[DroppedBlocks]:
    return dropped_blocks(run.clusters, run.evaluation)


def _row(block: str, each: list[DroppedBlocks]) -> list[Value]:
    """Return the row of a block, without its arm; `each` are the seeds."""
    first, gains = each[0], [one.gains[block] for one in each if block in one.gains]
    return [
        *(NAMES[first.scheme], NAMES[first.score], block),
        mean_sd_text(one.whole for one in each),
        mean_sd_text(one.without for one in gains),
        _mean_difference(gains),
        _between(gains[0]),
        f"{first.groups:,} {first.resampled}",
        mean_sd_text(one.alone for one in gains),
        _finding(gains),
    ]


def _finding(gains: list[BlockGain]) -> str:
    findings = {one.finding for one in gains}
    return findings.pop() if len(findings) == 1 else "differs between seeds"


def _mean_difference(gains: list[BlockGain]) -> str:
    found = mean_sd([one.difference for one in gains])
    return f"{found.mean:+.3f}" + ("" if math.isnan(found.sd) else f" ± {found.sd:.3f}")


def _between(gain: BlockGain) -> str:
    return "–" if gain.interval is None else f"{gain.interval[0]:+.3f} to {gain.interval[1]:+.3f}"


def _sentence(arm: str, dropped: DroppedBlocks) -> str:
    """Return in words what each block adds to a score."""
    what = SPOKEN[dropped.score].format(scheme=NAMES[dropped.scheme])
    over = counted(dropped.groups, dropped.resampled.removesuffix("s"))
    start = f"“{arm}”, {what} {dropped.whole:.3f} with all {len(dropped.gains)} blocks (intervals over {over})."
    start += f" {SHARED_WELLS}" if dropped.scheme == "split" else ""
    return " ".join([start, *(_of_block(name, gain) for name, gain in dropped.gains.items())])


def _of_block(name: str, gain: BlockGain) -> str:
    without = f"Without {name} it is {gain.without:.3f}"
    if gain.interval is None:
        return f"{without}; a class has too few groups for an interval, so what {name} adds is unclear."
    numbers = f"{gain.difference:+.3f}, 95 % interval {_between(gain)}"
    match gain.finding:
        case "adds":
            return f"{without}: {name} adds to the others ({numbers})."
        case "takes away":
            return f"{without}: {name} makes the others worse ({numbers})."
        case _:
            return f"{without}: whether {name} adds anything is unclear ({numbers}, which includes 0)."
