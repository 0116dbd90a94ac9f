"""scores: the one list of scores: what each is called, how it is computed from a run, and where the page shows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from cellssl.stages.cluster.metrics import ClusterMetrics, ColumnAgreement
from cellssl.stages.evaluate.metrics import (
    CLASSIFIERS,
    NSC_RULES,
    RETRIEVAL_TASKS,
    SCHEMES,
    EvaluationMetrics,
    SchemeMetrics,
)
from cellssl.stages.hits.is_it_real import ANY, IN_WORDS
from cellssl.stages.hits.metrics import HitsMetrics

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
"""One run: `arm`, `seed`, `baseline`, and the value of every score by its name; None where it is not defined."""
Value = int | float | None


@dataclass(frozen=True)
class RunResults:
    """What the scores of one run are computed from."""

    clusters: ClusterMetrics
    evaluation: EvaluationMetrics | None
    read_cells: Callable[[], pd.DataFrame]
    """Reads the table of clustered cells, which sweeps with many runs do not need."""
    hits: HitsMetrics | None = None

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Columns `cluster`, `plate`, `well` and `control`; one row per clustered cell."""
        return self.read_cells()


@dataclass(frozen=True)
class InSweeps:
    """How the sweep section follows a score through the values of a setting."""

    label: str
    """What sentences and panels call it, such as "AMI of clusters and label"."""
    compute: Callable[[RunResults], Value]
    """Its value at one point; it may differ from that in scores.csv, see `sweep_scheme`."""
    by: str = ""
    """Of a classifier: what sentences call it."""
    title: str = ""
    """Of a classifier: what table heads and panels call it."""
    per_class: Callable[[RunResults], Mapping[str, float]] | None = None
    """Of a classifier: class -> share of its test cells that is predicted correctly."""
    position: int = 0
    """The score with the lowest position comes first on the page, and the summary at the top uses that one."""


@dataclass(frozen=True)
class Score:
    """One number of a run: a column of scores.csv, and of the tables of the page that show it."""

    name: str
    """Its column in scores.csv and, where sweeps follow it, its name in sweep.csv and in `choose` of [sweep]."""
    label: str
    """The head of its column in tables of the page."""
    compute: Callable[[RunResults], Value]
    """Its value for one run; None where it is not defined."""
    higher_is_better: bool | None = None
    """None where neither is better, as for counts and for the level of chance."""
    caption: str = ""
    """What it means; folded below the table of scores where it is shown there."""
    per_arm: bool = False
    """Whether the table of scores, one row per arm, shows it."""
    instead_of: tuple[str, ...] = ()
    """The table of scores shows it only where no run has a score of these names."""
    summary_head: str = ""
    """The head of its column in table.json, which fits a terminal; empty where it is not among the few shown there."""
    per_run: bool = False
    """Whether the table of single runs shows it."""
    optional: bool = False
    """Whether scores.csv has its column only where a run has the score."""
    sweep: InSweeps | None = None
    """How sweeps follow it; None where they do not."""

    @property
    def lower_is_better(self) -> bool:
        """Whether a lower value is better; else the highest value is the best."""
        return self.higher_is_better is False


def score_row(results: RunResults) -> Row:
    """Return the value of every score, by its name, in the order of SCORES."""
    values = {score.name: (score, score.compute(results)) for score in SCORES}
    return {name: value for name, (score, value) in values.items() if value is not None or not score.optional}


def scores_per_arm() -> list[Score]:
    """Return the scores in the table of scores, one row per arm."""
    return [score for score in SCORES if score.per_arm]


def summary_heads() -> dict[str, str]:
    """Return name -> head of the scores in table.json."""
    return {score.name: score.summary_head for score in SCORES if score.summary_head}


def labels_per_run() -> dict[str, str]:
    """Return name -> label of the scores in the table of single runs."""
    return {score.name: score.label for score in SCORES if score.per_run}


def followed_scores() -> dict[str, InSweeps]:
    """Return name -> how sweeps follow the score, in the order of SCORES."""
    return {score.name: score.sweep for score in SCORES if score.sweep is not None}


def score_named(name: str) -> Score:
    """Return the score of this name."""
    return next(score for score in SCORES if score.name == name)


def sweep_values(results: RunResults, overall: str) -> Iterator[tuple[str, str, float]]:
    """Yield score, class and value of one point, classifiers first; `overall` takes the place of a class."""
    for name, sweep in sorted(followed_scores().items(), key=lambda item: item[1].per_class is None):
        value = sweep.compute(results)
        if value is not None:
            yield name, overall, value
        if sweep.per_class is not None:
            yield from ((name, class_name, share) for class_name, share in sweep.per_class(results).items())


def sweep_scheme(evaluation: EvaluationMetrics | None) -> SchemeMetrics | None:
    """Return the scheme whose accuracies sweeps follow: that with the test part, where there is one."""
    schemes = evaluation.schemes if evaluation is not None else {}
    return next((schemes[name] for name in SCHEMES if name in schemes), None)


def plate_ami_in_controls(cells: pd.DataFrame) -> float | None:
    """Return the AMI of clusters and plate among control cells, where no treatment can be the cause.

    None where the controls lie on one plate.
    """
    return _ami(_controls(cells), "plate")


def well_ami_in_controls(cells: pd.DataFrame) -> float | None:
    """Return the AMI of clusters and well among control cells: the mean over plates with two control wells or more.

    Wells of treated plates differ by their compounds, so over all cells an AMI with the well says little. A single
    control well cannot be distinguished from its plate. None where no plate has two control wells.
    """
    of_plates = [_ami(plate, "well") for _, plate in _controls(cells).groupby("plate", sort=True)]
    known = [score for score in of_plates if score is not None]
    return sum(known) / len(known) if known else None


def _controls(cells: pd.DataFrame) -> pd.DataFrame:
    return cells[cells["control"].fillna(False).astype(bool)]


def _ami(cells: pd.DataFrame, column: str) -> float | None:
    """Return the AMI of the clusters with a column; None where the column has one value only."""
    from cellssl.profiling.cluster_scores import agreement

    names = cells[column].astype(str).tolist()
    return _known(agreement(names, cells["cluster"].to_numpy())["ami"]) if len(set(names)) > 1 else None


def _known(value: float) -> float | None:
    """Return None for NaN, which scores.csv leaves empty."""
    return None if math.isnan(value) else value


def _agreement(column: str, number: Callable[[ColumnAgreement], Value], results: RunResults) -> Value:
    """Return one number of the agreement with a column; None where the clusters were not compared with it."""
    compared = results.clusters.scores.against.get(column)
    value = None if compared is None else number(compared)
    return None if value is None else _known(value)


def _with_label(number: Callable[[ColumnAgreement], Value]) -> Callable[[RunResults], Value]:
    return partial(_agreement, "label", number)


def _with_column(column: str) -> Callable[[RunResults], Value]:
    return partial(_agreement, column, lambda compared: compared.ami)


def _ceiling(results: RunResults) -> Value:
    bound = results.clusters.scores.ceiling_ami
    return None if bound is None else _known(bound)


def _silhouette(results: RunResults) -> Value:
    return _known(results.clusters.scores.silhouette)


def _balanced_accuracy(scheme: str, classifier: str, results: RunResults) -> Value:
    found = results.evaluation.schemes.get(scheme) if results.evaluation is not None else None
    return None if found is None else found.classifiers[classifier].balanced_accuracy


def _accuracy_in_sweep(classifier: str, results: RunResults) -> Value:
    scheme = sweep_scheme(results.evaluation)
    return None if scheme is None else scheme.classifiers[classifier].balanced_accuracy


def _per_class(classifier: str, results: RunResults) -> Mapping[str, float]:
    scheme = sweep_scheme(results.evaluation)
    return {} if scheme is None else scheme.classifiers[classifier].per_class


def _nsc(rule: str, results: RunResults) -> Value:
    found = results.evaluation.nsc.get(rule) if results.evaluation is not None else None
    return None if found is None else found.accuracy


def _mean_average_precision(task: str, results: RunResults) -> Value:
    found = results.evaluation.retrieval.get(task) if results.evaluation is not None else None
    return None if found is None else found.mean_average_precision


def _of_hits(name: str, results: RunResults) -> Value:
    """Return a number of the search for hits; None where there is none, or no treatment could be tested."""
    if results.hits is None or not results.hits.tested:
        return None
    value: Value = getattr(results.hits, name)
    return value


def recall_score(rule: str) -> str:
    """Return the name of the score of a rule of the retrieval of replicates."""
    return "hits_recall_at_1" if rule == ANY else f"hits_recall_{rule}"


def _replicate_recall(rule: str, results: RunResults) -> Value:
    found = results.hits.retrieval.get(rule) if results.hits is not None else None
    return None if found is None else found.recall_at_1


ACCURACY_CAPTION = (
    "kNN, linear: balanced accuracy of the label on the test cells, by nearest neighbours and by a linear classifier; "
    "chance is 1 / number of classes."
)
PRECISION_CAPTION = "mAP (mean average precision): how high replicates rank above control wells; 1 is best."
MECHANISM_CAPTION = (
    "NSC, NSCB: share of treatments whose nearest treatment of another compound (NSCB: and of another batch) has the "
    "same mechanism."
)
LABEL_IN_SWEEPS = InSweeps("AMI of clusters and label", _with_label(lambda label: label.ami), position=2)
SILHOUETTE_IN_SWEEPS = InSweeps("silhouette", _silhouette, position=3)


def _in_sweeps(classifier: str, by: str, title: str, position: int) -> InSweeps:
    compute, per_class = partial(_accuracy_in_sweep, classifier), partial(_per_class, classifier)
    return InSweeps(f"balanced accuracy of {by}", compute, by, title, per_class, position)


CLUSTER_SCORES = (
    Score("cells", "cells", lambda results: results.clusters.cells, per_run=True),
    Score("k", "clusters", lambda results: results.clusters.k),
    Score("clusters_filled", "clusters with cells", lambda results: int(results.cells["cluster"].nunique())),
    Score("classes", "classes", _with_label(lambda label: label.classes)),
    Score(
        "ami",
        "AMI with label",
        LABEL_IN_SWEEPS.compute,
        higher_is_better=True,
        caption="AMI with label: agreement of clusters and label (treated or not, or class); 0: chance, 1: full.",
        per_arm=True,
        summary_head="AMI label",
        per_run=True,
        sweep=LABEL_IN_SWEEPS,
    ),
    Score("ami_low", "AMI, 95 % from", _with_label(lambda label: label.ami_low), per_run=True),
    Score("ami_high", "AMI, 95 % to", _with_label(lambda label: label.ami_high), per_run=True),
    Score("ami_max", "AMI max", _with_label(lambda label: label.ami_max), higher_is_better=True, per_run=True),
    Score("shuffled", "AMI shuffled", _with_label(lambda label: label.shuffled_mean), per_run=True),
    Score("shuffled_sd", "SD of AMI shuffled", _with_label(lambda label: label.shuffled_sd)),
    Score(
        "ami_plate",
        "AMI with plate",
        _with_column("plate"),
        higher_is_better=False,
        per_run=True,
    ),
    Score("ami_well", "AMI with well", _with_column("well")),
    Score(
        "ami_density",
        "AMI with cell density",
        _with_column("density"),
        higher_is_better=False,
        per_run=True,
    ),
    Score(
        "ami_nucleus_size",
        "AMI with size of nucleus",
        _with_column("nucleus_size"),
        higher_is_better=False,
        optional=True,
    ),
    Score(
        "ami_field_position", "AMI with position", _with_column("field_position"), higher_is_better=False, optional=True
    ),
    Score("ami_phenotype", "AMI with simulated phenotype", _with_column("true_phenotype"), higher_is_better=True),
    Score(
        "ami_plate_in_controls",
        "AMI with plate, controls only",
        lambda results: plate_ami_in_controls(results.cells),
        higher_is_better=False,
    ),
    Score(
        "ami_well_in_controls",
        "AMI with well, controls only",
        lambda results: well_ami_in_controls(results.cells),
        higher_is_better=False,
        per_run=True,
    ),
    Score("plates", "plates", lambda results: int(results.cells["plate"].nunique())),
    Score("ceiling", "upper bound of AMI", _ceiling),
    Score(
        "silhouette",
        "silhouette",
        _silhouette,
        higher_is_better=True,
        caption="Silhouette: how far apart the clusters are, from -1 to 1; it is here because nothing else was scored.",
        per_arm=True,
        instead_of=("ami", "hits_active"),
        per_run=True,
        sweep=SILHOUETTE_IN_SWEEPS,
    ),
)
"""Scores of the clusters, which every run has."""
SPLIT_SCORES = tuple(
    Score(
        classifier,
        label,
        partial(_balanced_accuracy, "split", classifier),
        higher_is_better=True,
        caption=ACCURACY_CAPTION,
        per_arm=True,
        summary_head=head,
        per_run=True,
        optional=True,
        sweep=sweep,
    )
    for classifier, label, head, sweep in (
        ("knn", "kNN accuracy", "kNN", _in_sweeps("knn", "kNN", "kNN", 1)),
        ("linear", "linear accuracy", "linear", _in_sweeps("linear", "the linear probe", "linear probe", 0)),
    )
)
"""Balanced accuracies on the test part."""
NEW_PLATE = ("linear", "leave_one_plate_out")
"""The classifier and the scheme of the accuracy on plates that were left out, which the table of scores shows."""
CROSS_VALIDATION_SCORES = tuple(
    Score(
        f"{classifier}_{scheme}",
        f"{classifier} {scheme.replace('_', '-')}",
        partial(_balanced_accuracy, scheme, classifier),
        higher_is_better=True,
        caption="Leave-one-plate-out: as linear, on the cells of each plate after training on the other plates.",
        per_arm=(classifier, scheme) == NEW_PLATE,
        summary_head="new plate" if (classifier, scheme) == NEW_PLATE else "",
        optional=True,
    )
    for scheme in SCHEMES[1:]
    for classifier in CLASSIFIERS
)
"""Balanced accuracies of cross-validation."""
RETRIEVAL_LABELS = dict(zip(RETRIEVAL_TASKS, ("mAP against controls", "mAP of mechanisms"), strict=True))
PROFILE_SCORES = tuple(
    Score(
        name,
        label,
        partial(compute, name),
        higher_is_better=True,
        caption=caption,
        per_arm=name != "map_mechanism",
        instead_of=("hits_map",) if name == "map_replicates" else (),
        optional=True,
    )
    for name, label, compute, caption in (
        *((rule, rule.upper(), _nsc, MECHANISM_CAPTION) for rule in NSC_RULES),
        *((task, label, _mean_average_precision, PRECISION_CAPTION) for task, label in RETRIEVAL_LABELS.items()),
    )
)
"""Scores of well and treatment profiles."""
HIT_SCORES = (
    Score("hits_tested", "treatments tested", partial(_of_hits, "tested"), optional=True),
    Score(
        "hits_active",
        "active treatments",
        partial(_of_hits, "active"),
        higher_is_better=True,
        caption="Active: treatments whose wells differ from controls, of those that were tested.",
        per_arm=True,
        summary_head="active",
        optional=True,
    ),
    Score(
        "hits_map",
        "mAP against controls",
        partial(_of_hits, "mean_average_precision"),
        higher_is_better=True,
        caption=PRECISION_CAPTION,
        per_arm=True,
        optional=True,
    ),
    Score("hits_by_cell_count", "active by cell count", partial(_of_hits, "active_by_cell_count"), optional=True),
    *(
        Score(
            recall_score(rule),
            f"replicate is nearest, {words}",
            partial(_replicate_recall, rule),
            higher_is_better=True,
            optional=True,
        )
        for rule, words in IN_WORDS.items()
    ),
)
"""Scores of the search for treatments that changed the cells."""
SCORES: tuple[Score, ...] = (*CLUSTER_SCORES, *SPLIT_SCORES, *CROSS_VALIDATION_SCORES, *PROFILE_SCORES, *HIT_SCORES)
"""Every score, in the order of the columns of scores.csv. A new score is one more entry here; where sweeps may choose
by it, its name also belongs to `Score` in cellssl/config/sweep.py."""
