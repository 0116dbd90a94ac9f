"""next_steps: runs and their numbers in; what to look at or run next, the most pressing first, out."""

from __future__ import annotations

import math

from cellssl.artifacts.tables import read_fields
from cellssl.reporting import seed_statistics
from cellssl.reporting.seed_statistics import MeanSd
from cellssl.stages.report.arm_scores import arms, comes_of_a_lab, labelled, leading, number_of_plates, spreads_of
from cellssl.stages.report.checks import NUISANCES, collapses, nuisance
from cellssl.stages.report.runs import Row, Run

CURES = {
    "plate": "Clusters follow the plate: see the map coloured by plate; measure every plate by its own controls "
    "(segment.reference), or cluster each plate alone.",
    "well": "Clusters follow wells even among controls: look for edges, focus and staining in the images.",
    "density": "Clusters follow crowding: compare lone cells with crowded ones; a branch whose views keep the centre "
    "alone sees less of the neighbours.",
}
"""What to do where clusters follow a nuisance."""
COLLAPSE_CURE = (
    "Look at the training curves and at the views: a collapse comes of views so strong, or a learning rate so high, "
    "that giving every cell the same vector costs nothing. Lower pretrain.learning_rate, calm the views "
    "(docs/training.md)."
)
MUCH_DROPPED = 0.5
FEW_CELLS = 200


def next_steps(runs: list[Run], rows: list[Row]) -> list[str]:
    """What to look at or run next, the most pressing first."""
    arm = leading(rows)
    spreads = spreads_of(rows)[arm]
    run = next(one for one in runs if one.arm == arm)
    return [
        *([COLLAPSE_CURE] if collapses(runs, rows) else []),
        *_because_of_labels(runs, rows, spreads),
        *(_because_of_nuisances(run, spreads, number_of_plates(rows, arm)) if comes_of_a_lab(run) else []),
        *_because_of_counts(run, rows, arm),
        f"Look at the cells nearest each centroid of “{arm}” below: do the groups differ in shape and texture, or in "
        "brightness, crowding and focus?",
    ]


def _because_of_labels(runs: list[Run], rows: list[Row], spreads: dict[str, MeanSd]) -> list[str]:
    if not labelled(rows):
        return ["Name the treated class (split.treated), so that clusters can be scored."]
    steps = []
    if spreads["ami"].n == 1:
        steps.append("Run more seeds (seeds = [0, 1, 2, 3, 4] in the recipe): one does not show a spread.")
    elif spreads["ami"].n == 2:
        steps.append("Run more seeds, five as in the paper: two hardly show a spread.")
    trained, baselines = arms(rows, baseline=False), arms(rows, baseline=True)
    if not baselines:
        steps.append("Add the baselines as arms (embed.model = “random”, “intensities”, “features”).")
    means = {arm: each["ami"].mean for arm, each in spreads_of(rows).items() if each["ami"].n}
    best_base = max((means[arm] for arm in baselines if arm in means), default=-math.inf)
    best = max((means[arm] for arm in trained if arm in means), default=-math.inf)
    if trained and baselines and best <= best_base:
        steps.append("The baselines do as well: change the views (docs/views.md) or train longer before anything else.")
    steps += _probe_of_baselines(rows)
    probe = spreads.get("linear")
    if probe and probe.n and probe.mean > 0.75 and spreads["ami"].mean < seed_statistics.WEAK_AMI:
        steps.append(
            f"A linear probe tells the label (balanced accuracy {probe}) though the clusters hardly follow it: the "
            "vectors hold it along another axis than K-Means finds. Try cluster.normalise and other cluster.k."
        )
    return steps


def _probe_of_baselines(rows: list[Row]) -> list[str]:
    """A baseline whose vectors tell the label as well as the leading arm's, whatever the clusters say."""
    arm, spreads = leading(rows), spreads_of(rows)
    told = {name: each["linear"] for name, each in spreads.items() if "linear" in each and each["linear"].n}
    others = [name for name in arms(rows, baseline=True) if name in told and name != arm]
    if arm not in told or arm in arms(rows, baseline=True) or not others:
        return []
    best = max(others, key=lambda name: told[name].mean)
    if told[best].mean < told[arm].mean:
        return []
    return [
        f"A linear probe tells the label at least as well from “{best}”, which learns nothing (balanced accuracy "
        f"{told[best]}), as from “{arm}” ({told[arm]}): a higher AMI alone does not show that training helped."
    ]


def _because_of_nuisances(run: Run, spreads: dict[str, MeanSd], plates: int) -> list[str]:
    steps = [CURES[name] for name in NUISANCES if nuisance(name, spreads, plates).answer == "yes, beware"]
    fields = read_fields(run.segment)
    if fields["plate"].nunique() == 1:
        steps.append("Add a second plate: nothing here can say whether a result holds on another.")
    elif run.trained and run.split and run.split.card.metrics["leaks"]["plates_in_train_and_test"]:
        steps.append("Set split.test_plates, to test on a plate that the network never saw.")
    elif run.split and run.split.card.metrics["leaks"]["wells_in_train_and_test"]:
        steps.append('Set split.group_by = "well", so that no well is in train and test.')
    return steps


def _because_of_counts(run: Run, rows: list[Row], arm: str) -> list[str]:
    counts = run.segment.card.metrics
    steps = []
    if counts["detected"] and 1 - counts["kept"] / counts["detected"] > MUCH_DROPPED:
        steps.append(
            f"{counts['detected'] - counts['kept']:,} of {counts['detected']:,} nuclei were dropped; see the reasons."
        )
    cells = next(row["cells"] for row in rows if row["arm"] == arm)
    if cells < FEW_CELLS:
        steps.append(
            f"Only {cells:,} cells were clustered: more fields or a larger test part would narrow every interval."
        )
    return steps
