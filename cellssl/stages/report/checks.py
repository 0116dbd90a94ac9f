"""checks: runs and their scores in; a list of checks, each a question with an answer and its numbers, out."""

from __future__ import annotations

from cellssl.artifacts.contents import metrics_of, section_of
from cellssl.artifacts.tables import SCALE, read_fields, read_table
from cellssl.counting import counted
from cellssl.reporting import seed_statistics
from cellssl.reporting.seed_statistics import MeanSd, number
from cellssl.stages.fetch.contradictions import contradictions
from cellssl.stages.fetch.findings import DOSES, NAMES, SAME_IMAGE
from cellssl.stages.fetch.sample import first_look
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.check import Check, keyed, not_made, too_little
from cellssl.stages.report.hit_checks import hit_checks
from cellssl.stages.report.hit_sentences import leading_run
from cellssl.stages.report.label_free_checks import label_free_checks
from cellssl.stages.report.learned_labels_check import labels_learned, learned_by
from cellssl.stages.report.plate_counts import mostly_dropped
from cellssl.stages.report.runs import Run
from cellssl.stages.report.training_leaks import training_leaks, unknown_trainings
from cellssl.stages.segment.precut import crop_cautions
from cellssl.stages.segment.scale import constant_channels, scale_cautions
from cellssl.stages.shared.card_shapes import (
    FetchMetrics,
    FetchSection,
    SegmentSection,
    segment_metrics,
    split_metrics,
)

CHANCE = seed_statistics.CHANCE_AMI
GAP = 0.1
"""Where balanced accuracy is lower by more than this on plates that were left out, it does not generalise fully."""
IN_FIELD_TABLE = (NAMES, DOSES, SAME_IMAGE)
"""Kinds of warnings of the check before the work that are found again in the field table, and listed one by one."""
NO_LABEL = "no cell is labelled"


def checks(runs: list[Run], scores: ScoresByArm) -> list[Check]:
    """Return all checks of the leading arm; those that cannot be made say why."""
    arm = scores.leading
    over_seeds = scores.over_seeds(arm)
    run = next(one for one in runs if one.arm == arm)
    found = {
        "scale": _scale(run),
        "chance": _chance(scores, arm, over_seeds),
        "baselines": _against_baselines(scores, arm),
        "cells": _number_of_cells(scores, arm),
        "seeds": _seeds(over_seeds),
        "leak": _leak(run, over_seeds),
        "labels_learned": labels_learned(run),
        "left_out": _left_out_groups(run, over_seeds, scores),
    }
    others = {"simulated": _simulated(run), "cautions": _cautions(run)}
    same = same_as_answer(runs, scores)
    every = [*label_free_checks(runs, scores), *keyed(found), *hit_checks(runs, scores), *keyed(others)]
    return [one._replace(is_answer=one.finding == "against" and one.key in same) for one in every]


def same_as_answer(runs: list[Run], scores: ScoresByArm) -> tuple[str, ...]:
    """Return the keys of checks that, where they find nothing, say what the answer says: they are no doubt of it."""
    run = leading_run(runs, scores)
    if run is None or run.hits is None:
        return ("chance",)  # the answer is how far the clusters agree with the label
    return ("active", "chance", "apart") if run.hits.tested and not run.hits.active else ()


def cautions(run: Run) -> list[str]:
    """Return what the stages of a run have noticed about their numbers, the earliest stage first."""
    controls = section_of(run.fetch, FetchSection).controls if run.fetch is not None else ()
    found = _sample(run) + list(contradictions(read_fields(run.segment), controls))
    found += _check_warnings(run)
    found += _unread_fields(run)
    found += constant_channels(read_table(run.segment.file("scale.parquet"), SCALE))
    found += mostly_dropped(run)
    found += crop_cautions(metrics_of(run.segment, dict[str, int]))
    if run.split is not None and (without := split_metrics(run.split).without_class):
        found.append(f"{without:,} cells have no class and are left out")
    found += run.clusters.cautions()
    return found + (run.evaluation.cautions() if run.evaluation is not None else [])


def _scale(run: Run) -> Check | None:
    """Doubt the intensity scale where few cells set it, or it cuts off what treated cells show; None otherwise."""
    section = section_of(run.segment, SegmentSection)
    if section.reference == "range" or section.scale is None or section.scale.of != "cells":
        return None
    scale, settings = read_table(run.segment.file("scale.parquet"), SCALE), section.scale
    found = scale_cautions(scale, section.reference, settings.pool, settings.headroom)
    if not found:
        return None
    return Check("Is the intensity scale sure?", "no", "; ".join(found), "against", "the intensity scale is not sure")


def _check_warnings(run: Run) -> list[str]:
    """Return a sentence on the warnings of the check before the work that the field table does not show any more."""
    counts = metrics_of(run.fetch, FetchMetrics).warning_kinds if run.fetch is not None else {}
    listed = ", ".join(f"{kind} ({count:,})" for kind, count in counts.items() if kind not in IN_FIELD_TABLE)
    return [f"the check of tables and image headers warned of: {listed}; `cellssl check` lists them"] if listed else []


def _sample(run: Run) -> list[str]:
    """Return a sentence where only a sample of the fields was fetched."""
    fetched = metrics_of(run.fetch, FetchMetrics) if run.fetch is not None else None
    if fetched is None or fetched.sampled_of is None:
        return []
    return [f"this is {first_look(fetched.planned, fetched.sampled_of)}, and no result"]


def _unread_fields(run: Run) -> list[str]:
    """Return a sentence where fields of view could not be used: their wells have fewer cells, or none."""
    segment = segment_metrics(run.segment)
    of_fetch = metrics_of(run.fetch, FetchMetrics).quarantined if run.fetch is not None else 0
    if not (lost := segment.quarantined + of_fetch):
        return []
    return [f"{lost:,} of {segment.fields + of_fetch:,} fields could not be read, and their wells have fewer cells"]


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
        "against" if is_doubtful else "passed",
        "not every cell and cluster counts" if is_doubtful else "",
    )


def _chance(scores: ScoresByArm, arm: str, over_seeds: dict[str, MeanSd]) -> Check:
    question = "Do the clusters agree with the label more than by chance?"
    if not over_seeds["ami"].n:
        return too_little(question, NO_LABEL, "no labels")
    shuffled, sd = over_seeds["shuffled"].mean, scores.shuffled_sd(arm)
    is_above = over_seeds["ami"].mean > max(shuffled + 2 * sd, CHANCE)
    numbers = f"AMI {over_seeds['ami']}; with shuffled labels {number(shuffled)}, standard deviation {sd:.3f}"
    if is_above:
        return Check(question, "yes", numbers, "passed")
    return Check(question, "no", numbers, "against", "not above chance")


def _against_baselines(scores: ScoresByArm, arm: str) -> Check | None:
    """Compare the leading arm with the best baseline, seed by seed; None where the leading arm is a baseline."""
    question = "Is it better than the baselines, which learn nothing?"
    means = scores.means("ami")
    baselines = [name for name in scores.baselines if name in means and name != arm]
    if arm in scores.baselines:
        return None
    if arm not in means:
        return too_little(question, NO_LABEL, "no labels")
    if not baselines:
        return too_little(question, "no baseline was run", "no baseline to compare with")
    return _compared(question, scores, arm, max(baselines, key=means.__getitem__))


def _compared(question: str, scores: ScoresByArm, arm: str, best: str) -> Check:
    """Compare an arm with one baseline by the differences of the seeds that both have."""
    means = scores.means("ami")
    scores_of_arm, baseline = scores.by_seed(arm, "ami"), scores.by_seed(best, "ami")
    numbers = seed_statistics.comparison(arm, scores_of_arm, best, baseline)
    differences = [scores_of_arm[seed] - baseline[seed] for seed in scores_of_arm.keys() & baseline.keys()]
    if len(differences) < 2 and means[arm] > means[best]:
        return too_little(question, numbers, "one seed only", answer="on one seed")
    if means[arm] > means[best] and seed_statistics.paired_interval(differences)[0] > 0:
        return Check(question, "yes", numbers, "passed")
    if len(differences) > 1 and seed_statistics.paired_interval(differences)[1] < 0:
        return Check(question, "no, it is worse", numbers, "against", "worse than a baseline")
    return Check(question, "not clearly", numbers, "against", "not clearly better than a baseline")


def _number_of_cells(scores: ScoresByArm, arm: str) -> Check:
    question = "Are there enough cells to know how well clusters and label agree?"
    first = scores.rows_of(arm)[0]
    if first["ami_low"] is None:
        return too_little(question, NO_LABEL, "no labels")
    low, high = first["ami_low"], first["ami_high"]
    is_wide = high - low > max(2 * CHANCE, 0.5 * abs(first["ami"]))  # around 0 every interval is wide next to the AMI
    numbers = (
        f"95 % interval {number(low)} to {number(high)} (seed {first['seed']}, {first['cells']:,} cells). It assumes "
        "independent cells, but cells of one well are not independent: other wells will vary more"
    )
    if is_wide:
        return too_little(question, numbers, "few cells", answer="barely: the interval is wide")
    return Check(question, "yes, for these wells", numbers, "passed")


def _seeds(over_seeds: dict[str, MeanSd]) -> Check:
    question, ami = "Do other seeds give the same agreement with the label?", over_seeds["ami"]
    if not ami.n:
        return too_little(question, NO_LABEL, "no labels")
    if ami.n == 1:
        return too_little(question, "only one seed was run", "one seed only")
    caution = "; two seeds are too few for a standard deviation" if ami.n == 2 else ""
    numbers = f"AMI {ami} over {ami.n} seeds{caution}"
    if ami.sd <= max(CHANCE, 0.15 * abs(ami.mean)):
        return Check(question, "yes", numbers, "passed")
    return Check(question, "not quite", numbers, "against", "the seeds differ")


def _labels_used(run: Run, none: str) -> str:
    """Return `none` where the training used no label; another check says which it used."""
    return "" if learned_by(run) else none


def _leak(run: Run, over_seeds: dict[str, MeanSd]) -> Check:
    question = "Did the network see the test data in training?"
    if not any(part.is_learned for part in run.parts):
        return Check(question, "no", "nothing was trained on these cells", "passed")
    if run.split is None:
        why = f"all cells are clustered; training used their pixels{_labels_used(run, ', but no label')}"
        return not_made(question, why, answer="no split")
    leaks = training_leaks(run)
    counts = {
        "field": leaks.fields_in_train_and_test,
        "well": leaks.wells_in_train_and_test,
        "plate": leaks.plates_in_train_and_test,
    }
    numbers = ", ".join(counted(count, name) for name, count in counts.items())
    shared = f"{numbers} with cells in both train and test{_labels_used(run, ' (training used no label)')}"
    if not over_seeds["ami"].n:
        return not_made(question, f"no score uses a label; {shared}")
    if leaks.wells_in_train_and_test:
        return Check(question, "not the cells, but their wells", shared, "against", "train and test share wells")
    if unknown := unknown_trainings(run):
        why = f"{' and '.join(unknown)}: the model is of other images, or the cells that trained it are not there"
        return not_made(question, f"{why}; of the rest: {shared}")
    answer = "not the wells, but their plates" if leaks.plates_in_train_and_test else "no"
    return Check(question, answer, shared, "passed")


def _left_out_groups(run: Run, over_seeds: dict[str, MeanSd], scores: ScoresByArm) -> Check:
    """Check whether the accuracy within the split also holds on plates, or else wells, that are left out."""
    has_learned = any(part.is_learned for part in run.parts)
    pixels_seen = has_learned and run.split is not None and run.split is run.cells
    note = "; the network may have seen its pixels" if pixels_seen else ""
    for name in ("plate", "well"):
        left_out, in_split = over_seeds.get(f"linear_leave_one_{name}_out"), over_seeds.get("linear")
        if left_out and left_out.n:
            question = f"Does the accuracy hold on a {name} that was left out of training the classifier?"
            classes = _evaluated_classes(run, name) or scores.number_of_classes or 2
            chance = f"chance with {classes} classes is {1 / classes:.2f}"
            is_lower = in_split is not None and in_split.n > 0 and in_split.mean - left_out.mean > GAP
            beside = f"; within the split {in_split}" if in_split and in_split.n else ""
            numbers = f"balanced accuracy of the linear probe {left_out} (leave-one-{name}-out){beside}; {chance}{note}"
            light = f"holds on a {name} unseen by the classifier" if has_learned else f"holds on an unseen {name}"
            if left_out.mean > 1 / classes + GAP and not is_lower:
                return Check(question, "yes", numbers, "passed", light=light)
            answer, doubt = "it is lower" if is_lower else "hardly", f"low accuracy on a {name} that was left out"
            return Check(question, answer, numbers, "against", doubt, light=light)
    question = "Does the accuracy hold on a plate or well that was left out of training?"
    if not over_seeds["ami"].n:
        return too_little(question, NO_LABEL, "no labels")
    return not_made(question, _why_not_left_out(run))


def _why_not_left_out(run: Run) -> str:
    """Return why there is no accuracy on plates or wells that are left out."""
    if run.evaluation is None:
        return "nothing was evaluated: the recipe has no section [evaluate]"
    reasons = (run.evaluation.not_computed.get(f"leave_one_{name}_out") for name in ("well", "plate"))
    return next(filter(None, reasons), "evaluate.leave_out names neither plate nor well")


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
    return Check("Are these real cells?", "no", numbers, "against", "simulated cells")
