"""label_free_checks: runs and their scores in; the checks that need no label, each with its finding, out.

Every check is listed: where its data are missing, it says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING

from cellssl.artifacts.card import is_shared_model
from cellssl.artifacts.contents import not_as_written
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_fields
from cellssl.counting import counted
from cellssl.learning.training.collapse import COLLAPSED_SPREAD
from cellssl.reporting.seed_statistics import CHANCE_AMI, MeanSd, mean_sd, number
from cellssl.stages.report.arm_scores import ScoresByArm, list_seeds
from cellssl.stages.report.check import FOLLOWED, Check, keyed, not_made, too_little
from cellssl.stages.report.runs import Part, Run, scored_assignments
from cellssl.stages.shared.card_shapes import pretrain_metrics, pretrain_section

if TYPE_CHECKING:
    import pandas as pd

NUISANCES = {
    "plate": "the plate",
    "well": "the well",
    "density": "cell density",
    "nucleus_size": "the size of the nucleus",
    "field_position": "the position in the field",
}
"""What clusters should not follow, and what sentences call it."""
EFFECT_OR_NUISANCE = {
    "density": "a drug that kills cells lowers their density, so density can be its effect or a nuisance",
    "nucleus_size": "a drug can change the size of nuclei, so the size can be its effect or a nuisance",
}
FOLLOWED_AMI = 0.1
"""Where cells have no label to compare with, clusters with a higher AMI follow a nuisance: with two halves, 0.1 means
that the half of 68 % of the cells can be guessed from their cluster; without it, that of 50 %."""
SEEDS_AGREE_AMI = 0.5
"""Clusterings of two seeds agree from this AMI on: two equal clusters reach it where one cell in nine changes its
cluster."""
LOW_RANK = 2.0
"""Effective rank below which vectors have collapsed: nearly all differences between cells lie along one line."""
RANKED_DIM = 8
"""Vectors of fewer features, such as the mean of each channel, have a low rank and copies without any collapse."""
RANKED_CELLS = 20
"""Fewer cells say little: the vectors of two always lie along one line."""
MANY_COPIES = 0.05
"""Share of cells with the vector of another cell above which the vectors do not distinguish cells."""
FEW_STEPS = 500
"""Fewer training steps say little: after 500 steps a momentum encoder (0.99 a step) has forgotten its random first
weights to below 1 %. The paper trained for about 7,600 steps (400 epochs of 2,450 cells, 128 at a time)."""
LAST_STEPS = 20
"""Losses are compared with chance in their mean over so many last steps; single steps vary."""
FEW_CELLS = 200
"""With fewer clustered cells, an AMI between two halves is uncertain by more than 0.02, the level of chance."""
FEW_CELLS_PER_CLUSTER = 20
"""With fewer cells in a cluster, a share of its cells is uncertain by more than 20 percentage points."""
FEW_FIELDS = 10
"""With fewer fields, one out of focus or unevenly lit is a tenth of the data or more."""
FEW_WELLS = 4
"""With fewer wells there are not two wells of each of two kinds, so wells differ by chance alone."""


def label_free_checks(runs: list[Run], scores: ScoresByArm) -> list[Check]:
    """Return the checks of the leading arm that need no label."""
    arm = scores.leading
    of_arm = [run for run in runs if run.arm == arm]
    over_seeds = scores.over_seeds(arm)
    plates = scores.number_of_plates(arm)
    found = {
        "collapse": collapse(runs, scores, arm),
        "amount": amount_of_data(of_arm[0]),
        "steps": steps(of_arm[0]),
        "loss": loss_below_chance(of_arm[0]),
        "seeds_agree": seeds_agree(of_arm),
        **{name: nuisance(name, of_arm[0], over_seeds, plates) for name in NUISANCES},
    }
    return keyed(found)


def collapses(runs: list[Run], scores: ScoresByArm) -> list[str]:
    """Return a sentence on each arm with nearly the same vector for all cells, or with such projections at the end."""
    sentences = []
    for arm in dict.fromkeys(run.arm for run in runs):
        empty = [row["seed"] for row in scores.rows_of(arm) if row["k"] > 1 and row["clusters_filled"] == 1]
        if empty:
            sentences.append(
                f"“{arm}” has collapsed ({list_seeds(empty)}): all cells are in one cluster, because their vectors are "
                "the same or nearly the same. Its scores mean nothing."
            )
            continue
        of_arm = [run for run in runs if run.arm == arm]
        sentences += filter(None, map(_same_vectors, of_arm))
        at_end = {run.seed: run.projection_spreads for run in of_arm}
        for branch in dict.fromkeys(branch for each in at_end.values() for branch in each):
            low = [seed for seed, each in at_end.items() if each.get(branch, 1.0) < COLLAPSED_SPREAD]
            if low:
                highest = max(at_end[seed][branch] for seed in low)
                sentences.append(
                    f"The training of “{arm}” ended close to a collapse ({list_seeds(low)}): the projections of its "
                    f"branch “{branch}” hardly differ between cells (spread {highest:.3f} at most; 1 is even, 0 is all "
                    "the same)."
                )
    return sentences


def _same_vectors(run: Run) -> str:
    """Return a sentence where the vectors of a run's cells are copies of each other, or lie along one line."""
    spread = run.clusters.spread
    if spread is None or spread.dim < RANKED_DIM or spread.cells < RANKED_CELLS:
        return ""
    where = f"The vectors of “{run.arm}” (seed {run.seed})"
    if 1 - spread.distinct / spread.cells > MANY_COPIES:
        return f"{where} do not distinguish all cells: only {spread.distinct:,} of {spread.cells:,} are different."
    if spread.effective_rank < LOW_RANK:
        return (
            f"{where} lie nearly along one line: effective rank {spread.effective_rank:.1f} of {spread.dim} features."
        )
    return ""


def collapse(runs: list[Run], scores: ScoresByArm, arm: str) -> Check:
    """Check whether different cells have different vectors, and different projections at the end of training."""
    question = "Do the vectors of different cells differ?"
    of_arm = [run for run in runs if run.arm == arm]
    sentences = collapses(of_arm, scores)
    if sentences:
        what = "the network has collapsed" if of_arm[0].trained else "cells have nearly the same vector"
        return Check(question, "no", " ".join(sentences), "against", what)
    numbers = []
    known = [run.clusters.spread for run in of_arm if run.clusters.spread]
    if known:
        least = min(known, key=lambda spread: spread.effective_rank)
        numbers.append(
            f"{least.distinct:,} of {least.cells:,} vectors are different; they vary along about "
            f"{least.effective_rank:.3g} of {least.dim} directions (effective rank)"
        )
    spreads = [value for run in of_arm for value in run.projection_spreads.values()]
    if spreads:
        numbers.append(
            f"at the end of training, the outputs that the loss compares have a spread of {min(spreads):.2f} or more "
            "(1: even; 0: all the same)"
        )
    if not numbers:
        return not_made(question, "the clustering is of an earlier version, which did not look at the vectors")
    return Check(question, "yes", "; ".join(numbers), "passed")


def amount_of_data(run: Run) -> Check:
    """Check whether there are enough wells, fields and cells to say anything."""
    question = "Are there enough wells, fields and cells to judge?"
    fields = read_fields(run.segment)
    n_wells = len(fields[["plate", "well"]].drop_duplicates())
    n_cells, k = run.clusters.cells, max(run.clusters.k, 1)
    few = {
        counted(n_wells, "well"): n_wells < FEW_WELLS,
        f"{counted(len(fields), 'field')} of view": _is_segmented(run) and len(fields) < FEW_FIELDS,
        f"{counted(n_cells, 'clustered cell')}": n_cells < FEW_CELLS,
        f"on average {counted(round(n_cells / k), 'cell')} per cluster": n_cells / k < FEW_CELLS_PER_CLUSTER,
    }
    words = ", ".join(name for name, is_few in few.items() if is_few)
    if words:
        return too_little(question, ", ".join(few), words, answer="no")
    return Check(question, "yes", ", ".join(few), "passed")


def _is_segmented(run: Run) -> bool:
    """Return whether the cells were found in fields of view; data sets of finished crops have no such fields."""
    return "dropped.parquet" in run.segment.card.files


def steps(run: Run) -> Check:
    """Check whether the training had enough steps to say anything about it."""
    question = "Was the network trained for long enough?"
    if not run.trained:
        return not_made(question, "nothing was trained on these cells")
    each = {part.block: pretrain_metrics(part.trained).steps for part in run.trained}
    taken = min(each.values())
    of_blocks = ", ".join(f"{block}: {counted(number, 'step')}" for block, number in each.items())
    numbers = f"{of_blocks if run.blocks else counted(taken, 'step')}; Bendidi et al. 2023 took about 7,600"
    if taken < FEW_STEPS:
        words = f"only {counted(taken, 'training step')}"
        return too_little(question, f"{numbers}; fewer than {FEW_STEPS} say little", words, answer="no")
    return Check(question, "yes", numbers, "passed")


def loss_below_chance(run: Run) -> Check:
    """Check whether the loss of every branch fell below that of a network that ignores its input."""
    question = "Did the loss fall below chance?"
    if not run.trained:
        return not_made(question, "nothing was trained on these cells")
    if any(is_shared_model(part.trained.card) for part in run.trained):
        return not_made(question, "a shared model comes without the log of its training")
    losses: dict[str, tuple[float, float]] = {}
    averaged = 0
    for part in run.trained:
        found, count = _last_losses(part.trained)
        losses |= {part.named(branch): values for branch, values in found.items()}
        averaged = max(averaged, count)
    if not losses:
        return not_made(question, "no objective of this training has a known level of chance")
    if unfilled := [name for part in run.trained for name in _unfilled_queues(part)]:
        why = f"the queue of {', '.join(unfilled)} still holds random keys, which are easy to distinguish"
        return too_little(question, why, "a queue that was never full")
    each = (f"branch “{name}” {loss:.2f} (chance {chance:.2f})" for name, (loss, chance) in losses.items())
    steps_back = counted(averaged, "step")
    numbers = f"mean loss of the last {steps_back}: {'; '.join(each)}; chance: a network that ignores its input"
    if all(loss < chance for loss, chance in losses.values()):
        return Check(question, "yes", numbers, "passed")
    return Check(question, "no", numbers, "against", "the loss is not below chance")


def _last_losses(model: Artifact) -> tuple[dict[str, tuple[float, float]], int]:
    """Return branch -> mean loss and level of chance over the last steps, where chance is known, and their number."""
    import pandas as pd

    last = pd.read_json(model.file("metrics.jsonl"), lines=True).tail(LAST_STEPS)
    branches = [str(name).removesuffix("/chance") for name in last.columns if str(name).endswith("/chance")]
    if lost := [name for name in branches if f"{name}/loss" not in last]:
        raise not_as_written(model, "metrics.jsonl", f"no line has {lost[0]}/loss")
    return {name: (last[f"{name}/loss"].mean(), last[f"{name}/chance"].mean()) for name in branches}, len(last)


def _unfilled_queues(part: Part) -> Iterator[str]:
    """Yield the branches whose queue of former keys is longer than all cells that the training has shown."""
    section = pretrain_section(part.trained)
    shown = pretrain_metrics(part.trained).steps * section.batch
    for name, branch in section.branches.items():
        queue = branch.objective.get("queue")
        if branch.weight > 0 and isinstance(queue, int) and shown < queue:
            yield f"“{part.named(name)}”"


def seeds_agree(runs: list[Run]) -> Check:
    """Check whether the clusterings of different seeds agree, by the AMI of every two of them."""
    question = "Do other seeds give the same clusters?"
    tables = {run.cluster.fingerprint: scored_assignments(run.cluster) for run in runs}
    if len(runs) > 1 and len(tables) == 1:
        return not_made(question, "nothing in this arm depends on the seed")
    if len(tables) == 1:
        return too_little(question, "only one seed was run", "one seed only")
    agreements = [_agreement(one, other) for one, other in combinations(tables.values(), 2)]
    found = mean_sd(agreements)
    if not found.n:
        return not_made(question, "the seeds have no cells in common")
    lowest = min(value for value in agreements if not math.isnan(value))
    numbers = f"AMI of two clusterings {found}, lowest {number(lowest)}, over {counted(found.n, 'pair')} of seeds"
    if found.mean >= SEEDS_AGREE_AMI:
        return Check(question, "yes", numbers, "passed")
    return Check(question, "no", numbers, "against", "the clusters depend on the seed")


def _agreement(one: pd.DataFrame, other: pd.DataFrame) -> float:
    """Return the AMI of two clusterings on the cells that both have; NaN where these are none or in one cluster."""
    from cellssl.profiling.cluster_scores import agreement

    both = one.merge(other, on="cell_id", suffixes=("", "_other"))
    if both.empty:
        return math.nan
    return agreement([str(name) for name in both["cluster_other"]], both["cluster"].to_numpy())["ami"]


def nuisance(name: str, run: Run, over_seeds: dict[str, MeanSd], plates: int) -> Check:
    """Check one nuisance; plate and well among controls, where no treatment can be the cause.

    Clusters do not follow it only where the whole interval of the first seed's AMI is below the limit.
    """
    question = f"Do the clusters follow {NUISANCES[name]}?"
    over_all = over_seeds.get(f"ami_{name}")
    in_controls = over_seeds.get(f"ami_{name}_in_controls")
    judged = in_controls if in_controls and in_controls.n else over_all if name != "well" else None
    if judged is None or not judged.n:
        return _why_not_known(name, question, over_all, plates)
    ami = over_seeds["ami"]
    limit = max(CHANCE_AMI, ami.mean / 2) if ami.n else FOLLOWED_AMI
    is_visible = judged.mean > 2 * CHANCE_AMI
    compared = run.clusters.scores.against.get(name) if judged is over_all else None
    interval = (compared.ami_low, compared.ami_high) if compared else (judged.mean, judged.mean)
    beside = f" (95 % interval {number(interval[0])} to {number(interval[1])})" if compared else ""
    numbers = [f"AMI {over_all} over all cells{beside}"] if over_all and over_all.n and name != "well" else []
    numbers += [f"AMI {in_controls} among control cells only"] if in_controls and in_controls.n else []
    numbers += [EFFECT_OR_NUISANCE[name]] if is_visible and name in EFFECT_OR_NUISANCE else []
    if judged.mean > limit:
        return Check(question, FOLLOWED, "; ".join(numbers), "against", f"clusters follow {NUISANCES[name]}")
    if interval[1] > max(limit, 2 * CHANCE_AMI):
        return too_little(question, "; ".join(numbers), "few cells", answer="not clear: the interval is wide")
    return Check(question, "a little" if is_visible else "no", "; ".join(numbers), "passed")


def _why_not_known(name: str, question: str, over_all: MeanSd | None, plates: int) -> Check:
    """Return why a nuisance cannot be checked."""
    match name:
        case "plate" if plates > 1:
            return not_made(question, "no two plates have controls, and cluster.against leaves out the plate")
        case "plate":
            return too_little(question, "all clustered cells are from one plate", "clusters of one plate only")
        case "well":
            beside = f" (AMI {over_all} over all cells)" if over_all and over_all.n else ""
            why = "no plate has two control wells among the clustered cells: well and drug cannot be distinguished"
            return too_little(question, f"{why}{beside}", "fewer than two control wells per plate")
        case "density":
            return not_made(question, "the number of neighbours is not known, or cluster.against leaves out density")
        case "nucleus_size":
            return not_made(question, "the area of nuclei is not known, or cluster.against leaves out nucleus_size")
    return not_made(question, "positions in fields are not known, or cluster.against leaves out field_position")
