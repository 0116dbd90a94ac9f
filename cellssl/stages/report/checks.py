"""checks: runs and their numbers in; question by question whether to believe them, out."""

from __future__ import annotations

from typing import NamedTuple

from cellssl.reporting import seed_statistics
from cellssl.reporting.seed_statistics import MeanSd, number
from cellssl.stages.report.arm_scores import (
    arms,
    comes_of_a_lab,
    counted,
    leading,
    number_of_classes,
    number_of_plates,
    seeds_named,
    spreads_of,
    stray,
)
from cellssl.stages.report.runs import Row, Run

CHANCE = seed_statistics.CHANCE_AMI
NUISANCES = ("plate", "well", "density")
GAP = 0.1
"""A balanced accuracy that falls by more than this on plates that taught nothing has lost something there."""


class Belief(NamedTuple):
    """One reason to believe a result, or to doubt it."""

    question: str
    answer: str
    numbers: str
    doubt: str = ""
    """A few words for the summary where the answer speaks against the result, or is not known."""


def beliefs(runs: list[Run], rows: list[Row]) -> list[Belief]:
    """Whether the numbers mean what they seem to; of the leading arm."""
    arm = leading(rows)
    spreads = spreads_of(rows)[arm]
    run = next(one for one in runs if one.arm == arm)
    asked = [
        _collapse(runs, rows, arm),
        _chance(rows, arm, spreads),
        _beats_baselines(rows, arm),
        _sampling(rows, arm),
        _seeds(spreads),
    ]
    if comes_of_a_lab(run):
        asked += [nuisance(name, spreads, number_of_plates(rows, arm)) for name in NUISANCES]
        asked += [_leak(run), _unseen(run, spreads, rows), _simulated(run)]
    return [one for one in asked if one]


def collapses(runs: list[Run], rows: list[Row]) -> list[str]:
    """A sentence on each arm that gives all cells nearly the same vector, or whose projections ended so."""
    from cellssl.learning.training.diagnostics import COLLAPSED_SPREAD

    said = []
    for arm in dict.fromkeys(one.arm for one in runs):
        empty = [row["seed"] for row in rows if row["arm"] == arm and row["k"] > 1 and row["clusters_filled"] == 1]
        if empty:
            said.append(
                f"“{arm}” has collapsed ({seeds_named(empty)}): all cells lie in one cluster, because they have the "
                "same vector or nearly so. Its numbers say nothing."
            )
            continue
        ended = {one.seed: one.projection_spreads for one in runs if one.arm == arm}
        for branch in dict.fromkeys(branch for each in ended.values() for branch in each):
            low = [seed for seed, each in ended.items() if each.get(branch, 1.0) < COLLAPSED_SPREAD]
            if low:
                found = max(ended[seed][branch] for seed in low)
                said.append(
                    f"The training of “{arm}” ended close to a collapse ({seeds_named(low)}): projections of its "
                    f"branch “{branch}” hardly differ between cells (spread {found:.3f} at most; 1 is even, 0 all the "
                    "same)."
                )
    return said


def _collapse(runs: list[Run], rows: list[Row], arm: str) -> Belief | None:
    mine = [one for one in runs if one.arm == arm]
    said = collapses(mine, rows)
    spreads = [value for one in mine for value in one.projection_spreads.values()]
    question = "Has the training kept cells apart?"
    if said:
        return Belief(question, "no", " ".join(said), doubt="the network has collapsed")
    if not spreads:
        return None
    return Belief(
        question, "yes", f"at its end projections spread by {min(spreads):.2f} or more (1 is even, 0 the same)"
    )


def _chance(rows: list[Row], arm: str, spreads: dict[str, MeanSd]) -> Belief | None:
    if not spreads["ami"].n:
        return None
    strays = stray(rows, arm)
    level = spreads["shuffled"].mean + 2 * strays
    yes = spreads["ami"].mean > max(level, CHANCE)
    return Belief(
        "Is it more than chance?",
        "yes" if yes else "no",
        f"AMI {spreads['ami']}; with shuffled labels {number(spreads['shuffled'].mean)}, straying by {strays:.3f}",
        doubt="it is not more than chance" if not yes else "",
    )


def _beats_baselines(rows: list[Row], arm: str) -> Belief | None:
    """The leading arm against the best arm that learns nothing, seed by seed."""
    question = "Is it more than what learns nothing gives?"
    means = {
        each.arm: each.by_metric["ami"].mean
        for each in seed_statistics.aggregate(rows, ["ami"])
        if each.by_metric["ami"].n
    }
    baselines = [name for name in arms(rows, baseline=True) if name in means and name != arm]
    if arm not in means or arm in arms(rows, baseline=True):
        return None
    if not baselines:
        return Belief(question, "not known", "no baseline was run", doubt="no baseline to compare with")
    best = max(baselines, key=means.__getitem__)
    mine, theirs = seed_statistics.by_seed(rows, arm, "ami"), seed_statistics.by_seed(rows, best, "ami")
    numbers = seed_statistics.comparison(arm, mine, best, theirs)
    differences = [mine[seed] - theirs[seed] for seed in mine.keys() & theirs.keys()]
    if len(differences) < 2 and means[arm] > means[best]:
        return Belief(question, "on one seed", numbers)
    if means[arm] > means[best] and seed_statistics.paired_interval(differences)[0] > 0:
        return Belief(question, "yes", numbers)
    if len(differences) > 1 and seed_statistics.paired_interval(differences)[1] < 0:
        return Belief(question, "no, it is less", numbers, doubt="worse than what learns nothing")
    return Belief(question, "not clearly", numbers, doubt="not clearly better than what learns nothing")


def _sampling(rows: list[Row], arm: str) -> Belief | None:
    first = next(row for row in rows if row["arm"] == arm)
    if first["ami_low"] is None:
        return None
    low, high = first["ami_low"], first["ami_high"]
    wide = high - low > max(2 * CHANCE, 0.5 * abs(first["ami"]))  # around nothing every interval is wide beside it
    return Belief(
        "Are there cells enough?",
        "barely: the interval is wide" if wide else "yes, for these wells",
        f"95 % interval {number(low)} to {number(high)} (seed {first['seed']}, {first['cells']:,} cells). It takes "
        "cells as independent, which cells of one well are not: other wells will vary more",
        doubt="few cells" if wide else "",
    )


def _seeds(spreads: dict[str, MeanSd]) -> Belief | None:
    ami = spreads["ami"]
    if not ami.n:
        return None
    if ami.n == 1:
        return Belief("Does another seed give the same?", "not known", "only one seed was run", doubt="one seed only")
    steady = ami.sd <= max(CHANCE, 0.15 * abs(ami.mean))
    few = "; two seeds say little about a spread" if ami.n == 2 else ""
    numbers = f"AMI {ami} over {ami.n} seeds{few}"
    doubt = "" if steady else "seeds differ"
    return Belief("Does another seed give the same?", "yes" if steady else "not quite", numbers, doubt)


def nuisance(name: str, spreads: dict[str, MeanSd], plates: int) -> Belief:
    """Plates and wells among controls, where no treatment hides behind them."""
    question = {
        "plate": "Do clusters follow the plate?",
        "well": "Do clusters follow the well?",
        "density": "Do clusters follow crowding?",
    }[name]
    over_all = spreads.get(f"ami_{name}")
    clean = spreads.get(f"ami_{name}_in_controls")
    judged = clean if clean and clean.n else over_all if name != "well" else None
    if judged is None or not judged.n:
        return Belief(question, "not known", *_why_not_known(name, plates))
    ami = spreads["ami"]
    rival = judged.mean > max(CHANCE, ami.mean / 2 if ami.n else CHANCE)
    some = judged.mean > 2 * CHANCE
    numbers = [f"AMI {over_all} over all cells"] if over_all and over_all.n and name != "well" else []
    numbers += [f"AMI {clean} among control cells alone"] if clean and clean.n else []
    if name == "density" and some:
        numbers.append("a drug that kills cells thins them out, so crowding can be its effect as well as a nuisance")
    doubt = f"clusters follow {'crowding' if name == 'density' else f'the {name}'}" if rival else ""
    return Belief(question, "yes, beware" if rival else "a little" if some else "no", "; ".join(numbers), doubt)


def _why_not_known(name: str, plates: int) -> tuple[str, str]:
    """Why nothing can be said of a nuisance, and what of that belongs into the summary."""
    match name:
        case "plate" if plates > 1:
            return "no two plates have controls, and cluster.against leaves the plate out", "not compared with plates"
        case "plate":
            return "the clustered cells lie on one plate", "clusters of one plate only"
        case "well":
            why = "no plate has two control wells among the clustered cells: well and drug are not told apart"
            return why, "fewer than two control wells a plate"
    return "the number of neighbours is not known, or cluster.against leaves density out", ""


def _leak(run: Run) -> Belief:
    question = "Did the training see what is tested?"
    if run.trained is None:
        return Belief(question, "no", "nothing was trained on these cells")
    if run.split is None:
        return Belief(question, "no split", "all cells are clustered; the training saw their pixels, but no label")
    leaks = run.split.card.metrics["leaks"]
    numbers = ", ".join(counted(leaks[f"{name}s_in_train_and_test"], name) for name in ("field", "well", "plate"))
    if leaks["wells_in_train_and_test"]:
        answer = "not the cells, but their wells"
    else:
        answer = "not the wells, but their plates" if leaks["plates_in_train_and_test"] else "no"
    doubt = "train and test share wells" if leaks["wells_in_train_and_test"] else ""
    seen = f"{numbers} with cells both in train and in test (no label was used in training)"
    return Belief(question, answer, seen, doubt)


def _unseen(run: Run, spreads: dict[str, MeanSd], rows: list[Row]) -> Belief | None:
    """Whether what is told within the split is told on plates, or else wells, that taught nothing."""
    seen = run.trained is not None and run.split is not None and run.split is run.cells
    classes = number_of_classes(rows) or 2
    chance = f"chance of {classes} classes is {1 / classes:.2f}"
    knew = "; the classifier was not taught there, but the network may have seen its pixels" if seen else ""
    for name in ("plate", "well"):
        far, near = spreads.get(f"linear_leave_one_{name}_out"), spreads.get("linear")
        if far and far.n:
            falls = near is not None and near.n > 0 and near.mean - far.mean > GAP
            beside = f"; within the split {near}" if near and near.n else ""
            holds = far.mean > 1 / classes + GAP and not falls
            return Belief(
                f"Does it hold on a {name} that taught nothing?",
                "less so" if falls else "yes" if holds else "hardly",
                f"balanced accuracy of a linear probe {far}{beside}; {chance}{knew}",
                doubt="" if holds else f"it is told less well on a {name} that taught nothing",
            )
    return None


def _simulated(run: Run) -> Belief | None:
    if run.fetch is None or run.fetch.card.section["dataset"]["name"] != "simulated":
        return None
    said = "they are simulated: this shows that the chain works, and nothing about drugs"
    return Belief("Are these real cells?", "no", said, doubt="simulated cells")
