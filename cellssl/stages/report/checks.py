"""checks: runs and their scores in; a list of checks, each a question with an answer and its numbers, out."""

from __future__ import annotations

from typing import NamedTuple

from cellssl.artifacts.contents import section_of
from cellssl.artifacts.tables import read_fields, read_table
from cellssl.reporting import seed_statistics
from cellssl.reporting.seed_statistics import MeanSd, number
from cellssl.stages.fetch.contradictions import contradictions
from cellssl.stages.report.arm_scores import ScoresByArm, count_of, list_seeds
from cellssl.stages.report.runs import Run, has_treatments
from cellssl.stages.segment.precut import crop_cautions
from cellssl.stages.segment.scale import constant_channels
from cellssl.stages.shared.card_shapes import FetchSection, split_metrics

CHANCE = seed_statistics.CHANCE_AMI
NUISANCES = ("plate", "well", "density")
FOLLOWED = "yes, be careful"
"""The answer where clusters follow a nuisance about as much as the label."""
GAP = 0.1
"""Where balanced accuracy is lower by more than this on plates that were left out, it does not generalise fully."""


class Check(NamedTuple):
    """One question about the reliability of a result, with its answer."""

    question: str
    answer: str
    numbers: str
    doubt: str = ""
    """A few words for the summary where the answer is a reason to doubt the result, or is not known."""


def checks(runs: list[Run], scores: ScoresByArm) -> list[Check]:
    """Return the checks of the leading arm."""
    arm = scores.leading
    over_seeds = scores.over_seeds(arm)
    run = next(one for one in runs if one.arm == arm)
    found = [
        _collapse(runs, scores, arm),
        _chance(scores, arm, over_seeds),
        _against_baselines(scores, arm),
        _number_of_cells(scores, arm),
        _seeds(over_seeds),
    ]
    if has_treatments(run):
        found += [nuisance(name, over_seeds, scores.number_of_plates(arm)) for name in NUISANCES]
        found += [_leak(run), _left_out_groups(run, over_seeds, scores), _simulated(run)]
    return [one for one in [*found, _cautions(run)] if one]


def cautions(run: Run) -> list[str]:
    """Return what the stages of a run have noticed about their numbers, the earliest stage first."""
    controls = run.fetch.card.section["controls"] if run.fetch is not None else ()
    found = list(contradictions(read_fields(run.segment), controls))
    found += constant_channels(read_table(run.segment.file("scale.parquet")))
    found += crop_cautions(run.segment.card.metrics)
    if run.split is not None and (without := run.split.card.metrics.get("without_class")):
        found.append(f"{without:,} cells have no class and are left out")
    found += run.clusters.cautions()
    return found + (run.evaluation.cautions() if run.evaluation is not None else [])


def _cautions(run: Run) -> Check | None:
    """List what does not count as one would think: copies, empty crops and clusters, constant channels and features."""
    found = cautions(run)
    if not found:
        return None
    profiles = run.evaluation.profiles if run.evaluation is not None else None
    of_features = profiles.cautions() if profiles is not None and not profiles.copied_vectors else []
    is_doubtful = len(found) > len(of_features)  # features that vary nowhere are usual
    return Check(
        "Does every cell, feature and cluster count?",
        "no",
        "; ".join(found),
        doubt="not every cell and cluster counts" if is_doubtful else "",
    )


def collapses(runs: list[Run], scores: ScoresByArm) -> list[str]:
    """Return a sentence on each arm with nearly the same vector for all cells, or with such projections at the end."""
    from cellssl.learning.training.diagnostics import COLLAPSED_SPREAD

    sentences = []
    for arm in dict.fromkeys(run.arm for run in runs):
        empty = [row["seed"] for row in scores.rows_of(arm) if row["k"] > 1 and row["clusters_filled"] == 1]
        if empty:
            sentences.append(
                f"“{arm}” has collapsed ({list_seeds(empty)}): all cells are in one cluster, because their vectors are "
                "the same or nearly the same. Its scores mean nothing."
            )
            continue
        at_end = {run.seed: run.projection_spreads for run in runs if run.arm == arm}
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


def _collapse(runs: list[Run], scores: ScoresByArm, arm: str) -> Check | None:
    arm_runs = [run for run in runs if run.arm == arm]
    sentences = collapses(arm_runs, scores)
    spreads = [value for run in arm_runs for value in run.projection_spreads.values()]
    question = "Do the vectors of different cells differ?"
    if sentences:
        return Check(question, "no", " ".join(sentences), doubt="the network has collapsed")
    if not spreads:
        return None
    numbers = f"at the end of training the spread of projections is at least {min(spreads):.2f} (1 is even, 0 is all "
    return Check(question, "yes", f"{numbers}the same)")


def _chance(scores: ScoresByArm, arm: str, over_seeds: dict[str, MeanSd]) -> Check | None:
    if not over_seeds["ami"].n:
        return None
    shuffled, sd = over_seeds["shuffled"].mean, scores.shuffled_sd(arm)
    is_above = over_seeds["ami"].mean > max(shuffled + 2 * sd, CHANCE)
    return Check(
        "Is the AMI above chance?",
        "yes" if is_above else "no",
        f"AMI {over_seeds['ami']}; with shuffled labels {number(shuffled)}, standard deviation {sd:.3f}",
        doubt="not above chance" if not is_above else "",
    )


def _against_baselines(scores: ScoresByArm, arm: str) -> Check | None:
    """Compare the leading arm with the best baseline, seed by seed."""
    question = "Is it better than the baselines, which learn nothing?"
    means = scores.means("ami")
    baselines = [name for name in scores.baselines if name in means and name != arm]
    if arm not in means or arm in scores.baselines:
        return None
    if not baselines:
        return Check(question, "not known", "no baseline was run", doubt="no baseline to compare with")
    best = max(baselines, key=means.__getitem__)
    scores_of_arm, baseline = scores.by_seed(arm, "ami"), scores.by_seed(best, "ami")
    numbers = seed_statistics.comparison(arm, scores_of_arm, best, baseline)
    differences = [scores_of_arm[seed] - baseline[seed] for seed in scores_of_arm.keys() & baseline.keys()]
    if len(differences) < 2 and means[arm] > means[best]:
        return Check(question, "on one seed", numbers)
    if means[arm] > means[best] and seed_statistics.paired_interval(differences)[0] > 0:
        return Check(question, "yes", numbers)
    if len(differences) > 1 and seed_statistics.paired_interval(differences)[1] < 0:
        return Check(question, "no, it is worse", numbers, doubt="worse than a baseline")
    return Check(question, "not clearly", numbers, doubt="not clearly better than a baseline")


def _number_of_cells(scores: ScoresByArm, arm: str) -> Check | None:
    first = scores.rows_of(arm)[0]
    if first["ami_low"] is None:
        return None
    low, high = first["ami_low"], first["ami_high"]
    is_wide = high - low > max(2 * CHANCE, 0.5 * abs(first["ami"]))  # around 0 every interval is wide next to the AMI
    return Check(
        "Are there enough cells?",
        "barely: the interval is wide" if is_wide else "yes, for these wells",
        f"95 % interval {number(low)} to {number(high)} (seed {first['seed']}, {first['cells']:,} cells). It assumes "
        "independent cells, but cells of one well are not independent: other wells will vary more",
        doubt="few cells" if is_wide else "",
    )


def _seeds(over_seeds: dict[str, MeanSd]) -> Check | None:
    question, ami = "Do other seeds give the same result?", over_seeds["ami"]
    if not ami.n:
        return None
    if ami.n == 1:
        return Check(question, "not known", "only one seed was run", doubt="one seed only")
    is_steady = ami.sd <= max(CHANCE, 0.15 * abs(ami.mean))
    caution = "; two seeds are too few for a standard deviation" if ami.n == 2 else ""
    numbers = f"AMI {ami} over {ami.n} seeds{caution}"
    return Check(question, "yes" if is_steady else "not quite", numbers, "" if is_steady else "the seeds differ")


def nuisance(name: str, over_seeds: dict[str, MeanSd], plates: int) -> Check:
    """Check one nuisance; plate and well among controls, where no treatment can be the cause."""
    question = {
        "plate": "Do the clusters follow the plate?",
        "well": "Do the clusters follow the well?",
        "density": "Do the clusters follow cell density?",
    }[name]
    over_all = over_seeds.get(f"ami_{name}")
    in_controls = over_seeds.get(f"ami_{name}_in_controls")
    judged = in_controls if in_controls and in_controls.n else over_all if name != "well" else None
    if judged is None or not judged.n:
        return Check(question, "not known", *_why_not_known(name, plates))
    ami = over_seeds["ami"]
    is_followed = judged.mean > max(CHANCE, ami.mean / 2 if ami.n else CHANCE)
    is_visible = judged.mean > 2 * CHANCE
    numbers = [f"AMI {over_all} over all cells"] if over_all and over_all.n and name != "well" else []
    numbers += [f"AMI {in_controls} among control cells only"] if in_controls and in_controls.n else []
    if name == "density" and is_visible:
        numbers.append("a drug that kills cells lowers their density, so density can be its effect or a nuisance")
    doubt = f"clusters follow {'cell density' if name == 'density' else f'the {name}'}" if is_followed else ""
    answer = FOLLOWED if is_followed else "a little" if is_visible else "no"
    return Check(question, answer, "; ".join(numbers), doubt)


def _why_not_known(name: str, plates: int) -> tuple[str, str]:
    """Return why a nuisance cannot be checked, and the doubt for the summary."""
    match name:
        case "plate" if plates > 1:
            return "no two plates have controls, and cluster.against leaves out the plate", "not compared with plates"
        case "plate":
            return "all clustered cells are from one plate", "clusters of one plate only"
        case "well":
            why = "no plate has two control wells among the clustered cells: well and drug cannot be distinguished"
            return why, "fewer than two control wells per plate"
    return "the number of neighbours is not known, or cluster.against leaves out density", ""


def _leak(run: Run) -> Check:
    question = "Did the network see the test data in training?"
    if run.trained is None:
        return Check(question, "no", "nothing was trained on these cells")
    if run.split is None:
        return Check(question, "no split", "all cells are clustered; training used their pixels, but no label")
    leaks = split_metrics(run.split).leaks
    shared = (
        (leaks.fields_in_train_and_test, "field"),
        (leaks.wells_in_train_and_test, "well"),
        (leaks.plates_in_train_and_test, "plate"),
    )
    numbers = ", ".join(count_of(count, name) for count, name in shared)
    if leaks.wells_in_train_and_test:
        answer = "not the cells, but their wells"
    else:
        answer = "not the wells, but their plates" if leaks.plates_in_train_and_test else "no"
    doubt = "train and test share wells" if leaks.wells_in_train_and_test else ""
    found = f"{numbers} with cells in both train and test (training used no label)"
    return Check(question, answer, found, doubt)


def _left_out_groups(run: Run, over_seeds: dict[str, MeanSd], scores: ScoresByArm) -> Check | None:
    """Check whether the accuracy within the split also holds on plates, or else wells, that are left out."""
    pixels_seen = run.trained is not None and run.split is not None and run.split is run.cells
    note = "; the classifier was not trained there, but the network may have seen its pixels" if pixels_seen else ""
    for name in ("plate", "well"):
        left_out, in_split = over_seeds.get(f"linear_leave_one_{name}_out"), over_seeds.get("linear")
        if left_out and left_out.n:
            classes = _evaluated_classes(run, name) or scores.number_of_classes or 2
            chance = f"chance with {classes} classes is {1 / classes:.2f}"
            is_lower = in_split is not None and in_split.n > 0 and in_split.mean - left_out.mean > GAP
            beside = f"; within the split {in_split}" if in_split and in_split.n else ""
            holds = left_out.mean > 1 / classes + GAP and not is_lower
            return Check(
                f"Does the accuracy hold on a {name} that was left out of training?",
                "it is lower" if is_lower else "yes" if holds else "hardly",
                f"balanced accuracy of the linear probe {left_out} (leave-one-{name}-out){beside}; {chance}{note}",
                doubt="" if holds else f"low accuracy on a {name} that was left out",
            )
    return None


def _evaluated_classes(run: Run, left_out: str) -> int:
    """Return the number of classes that the classifiers predict; 0 where the run has no such evaluation.

    It can differ from the number of classes among the clustered cells, as with `evaluate.label = "moa"`.
    """
    scheme = run.evaluation.schemes.get(f"leave_one_{left_out}_out") if run.evaluation is not None else None
    return 0 if scheme is None else len(scheme.classifiers["linear"].classes)


def _simulated(run: Run) -> Check | None:
    if run.fetch is None or section_of(run.fetch, FetchSection).dataset.name != "simulated":
        return None
    numbers = "they are simulated: this shows that the pipeline works, and says nothing about drugs"
    return Check("Are these real cells?", "no", numbers, doubt="simulated cells")
