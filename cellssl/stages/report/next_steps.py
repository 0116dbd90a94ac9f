"""next_steps: runs and their scores in; what to look at or run next, the most urgent first, out."""

from __future__ import annotations

import math

from cellssl.artifacts.tables import read_fields
from cellssl.reporting import seed_statistics
from cellssl.reporting.seed_statistics import MeanSd
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.check import FOLLOWED
from cellssl.stages.report.hit_checks import ALIKE_NOWHERE, apart, by_cell_number
from cellssl.stages.report.label_free_checks import FEW_CELLS, FEW_STEPS, NUISANCES, collapses, nuisance
from cellssl.stages.report.runs import Run, has_treatments
from cellssl.stages.shared.card_shapes import pretrain_metrics, segment_metrics, split_metrics

NUISANCE_ADVICE = {
    "plate": "Clusters follow the plate: look at the map coloured by plate; let the controls of every plate set its "
    "location (cluster.normalise = [“center_plate”, “scale_pooled”, “l2”]) and its brightness (segment.reference), or "
    "cluster each plate separately.",
    "well": "Clusters follow wells even among controls: look for edge effects, focus and staining in the images.",
    "density": "Clusters follow cell density: compare isolated cells with crowded cells; a branch whose views keep "
    "only the centre of the crop sees less of the neighbours.",
    "nucleus_size": "Clusters follow the size of the nucleus: look whether the groups differ in anything else; views "
    "that zoom (random_resized_crop, affine with scale) make the network ignore size.",
    "field_position": "Clusters follow the position in the field: look for dark corners and blurred edges in the "
    "images (segment.illumination = “mean” evens out the light).",
}
"""What to do where clusters follow a nuisance."""
COLLAPSE_ADVICE = (
    "Look at the training curves and at the views: training collapses where the views are so strong, or the learning "
    "rate so high, that the same vector for all cells is a good solution. Lower pretrain.learning_rate, or make the "
    "views weaker (docs/training.md)."
)
MUCH_DROPPED = 0.5
UNTESTED_ADVICE = (
    "Give treatments more wells, two of each at least, on plates with more control wells: with so few no treatment can "
    "be tested."
)
NO_HIT_ADVICE = (
    "No treatment is active: look at the cells of those with the largest effects (hits.csv); more wells per treatment, "
    "or more control wells, would show smaller effects."
)
CELL_NUMBER_ADVICE = (
    "Most active treatments differ in their number of cells, too: look at the share of changed cells and at the cells "
    "themselves, and whether a lower dose, which spares cells, is active."
)
BESIDE_ADVICE = (
    "Replicates are alike mostly on the same plate or at the same position: before a hit is believed, repeat it on "
    "another plate at another position, and compare wells at the edge with controls at the edge only "
    "(hits.permute_within = [“plate”, “edge”])."
)
NOWHERE_ADVICE = (
    "Replicates are hardly alike, on one plate or on several: look at the wells of every active treatment, and whether "
    "their cells differ from those of control wells in the same way."
)
APART_ADVICE = (
    "Put replicates on several plates, and at another position on each: only then can an effect be separated from that "
    "of a position."
)


def next_steps(runs: list[Run], scores: ScoresByArm) -> list[str]:
    """Return what to look at or run next, the most urgent first."""
    arm = scores.leading
    over_seeds = scores.over_seeds(arm)
    run = next(one for one in runs if one.arm == arm)
    return [
        *([COLLAPSE_ADVICE] if collapses(runs, scores) else []),
        *_from_training(run),
        *_from_hits(run),
        *_from_labels(scores, over_seeds),
        *_from_nuisances(run, over_seeds, scores.number_of_plates(arm)),
        *_from_counts(run, scores, arm),
        f"Look at the most typical cells of each cluster of “{arm}”: do they differ in shape and texture, or in "
        "brightness, cell density and focus?",
    ]


def _from_training(run: Run) -> list[str]:
    if all(pretrain_metrics(part.trained).steps >= FEW_STEPS for part in run.trained):
        return []
    return [f"Train longer (pretrain.epochs): after fewer than {FEW_STEPS} steps a network has learned little."]


def _from_hits(run: Run) -> list[str]:
    found = run.hits
    if found is None:
        return []
    if not found.tested:
        return [UNTESTED_ADVICE]
    if not found.active:
        return [NO_HIT_ADVICE]
    replicates = apart(found)
    beside = NOWHERE_ADVICE if replicates.doubt == ALIKE_NOWHERE else BESIDE_ADVICE
    elsewhere = {"against": [beside], "too little": [APART_ADVICE]}.get(replicates.finding, [])
    return [*([CELL_NUMBER_ADVICE] if by_cell_number(run, found).finding == "against" else []), *elsewhere]


def _from_labels(scores: ScoresByArm, over_seeds: dict[str, MeanSd]) -> list[str]:
    if not scores.has_labels:
        return [
            "Say which cells count as treated (split.treated), so that the clusters can be scored.",
            "Run more seeds (seeds = [0, 1, 2] in the recipe), and compare their clusters.",
        ][: 2 if len(scores.rows_of(scores.leading)) == 1 else 1]
    steps = []
    if over_seeds["ami"].n == 1:
        steps.append("Run more seeds (seeds = [0, 1, 2, 3, 4] in the recipe): one seed has no standard deviation.")
    elif over_seeds["ami"].n == 2:
        steps.append("Run more seeds, five as in the paper: two seeds give a poor standard deviation.")
    if not scores.baselines:
        steps.append("Add the baselines as arms (embed.model = “random”, “intensities”, “features”).")
    means = scores.means("ami")
    best_baseline = max((means[arm] for arm in scores.baselines if arm in means), default=-math.inf)
    best = max((means[arm] for arm in scores.trained if arm in means), default=-math.inf)
    if scores.trained and scores.baselines and best <= best_baseline:
        steps.append(
            "The baselines are as good: change the views (docs/views.md) or train longer before anything else."
        )
    steps += _from_baseline_probe(scores)
    probe = over_seeds.get("linear")
    if probe and probe.n and probe.mean > 0.75 and over_seeds["ami"].mean < seed_statistics.WEAK_AMI:
        steps.append(
            f"A linear classifier of the vectors predicts the label (balanced accuracy {probe}), but the clusters "
            "hardly follow it: the "
            "vectors contain the label along another axis than K-Means finds. Try cluster.normalise and another "
            "cluster.k."
        )
    return steps


def _from_baseline_probe(scores: ScoresByArm) -> list[str]:
    """Return a warning where the label is predicted from a baseline at least as well as from the leading arm."""
    arm = scores.leading
    probes = {name: scores.over_seeds(name)["linear"] for name in scores.means("linear")}
    baselines = [name for name in scores.baselines if name in probes and name != arm]
    if arm not in probes or arm in scores.baselines or not baselines:
        return []
    best = max(baselines, key=lambda name: probes[name].mean)
    if probes[best].mean < probes[arm].mean:
        return []
    return [
        f"A linear classifier of the vectors predicts the label at least as well from “{best}”, which learns nothing "
        "(balanced accuracy "
        f"{probes[best]}), as from “{arm}” ({probes[arm]}): a higher AMI alone does not show that training helped."
    ]


def _from_nuisances(run: Run, over_seeds: dict[str, MeanSd], plates: int) -> list[str]:
    steps = [NUISANCE_ADVICE[name] for name in NUISANCES if nuisance(name, run, over_seeds, plates).answer == FOLLOWED]
    if not has_treatments(run):
        return steps
    fields = read_fields(run.segment)
    if fields["plate"].nunique() == 1:
        steps.append("Add a second plate: one plate cannot show whether a result holds on another.")
    elif run.trained and run.split and split_metrics(run.split).leaks.plates_in_train_and_test:
        steps.append("Test on a plate that the network never saw (split.test_plates).")
    elif run.split and split_metrics(run.split).leaks.wells_in_train_and_test:
        steps.append("Keep every well either in training or in test (split.group_by = “well”).")
    return steps


def _from_counts(run: Run, scores: ScoresByArm, arm: str) -> list[str]:
    counts = segment_metrics(run.segment)
    steps = []
    if counts.detected and 1 - counts.kept / counts.detected > MUCH_DROPPED:
        dropped = counts.detected - counts.kept
        steps.append(f"{dropped:,} of {counts.detected:,} nuclei were dropped; look at the reasons.")
    cells = scores.rows_of(arm)[0]["cells"]
    if cells < FEW_CELLS:
        steps.append(
            f"Only {cells:,} cells were clustered: more fields or a larger test part would narrow every interval."
        )
    return steps
