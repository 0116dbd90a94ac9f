"""paper_question: the recipe of the paper's question in; scores of its arms on five screens, and their gains, out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from page_numbers import markdown
from page_numbers.algorithms import Algorithms, of_recipe
from page_numbers.workplace import Row, Workplace, sets

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from cellssl.stages.report.runs import Run

RECIPE = "paper-question"
PLATE_SEEDS = (11, 12, 13, 14, 15)
"""Seeds of the simulation. Sizes of fields, crops and trainings were settled on another one, 900."""
SCORES = {
    "treated": "AMI, treated or not",
    "ami": "AMI, mechanism",
    "knn": "kNN, other plate",
    "linear": "linear, other plate",
}
ARM_TITLES = {
    "context": "`context`",
    "centre": "`centre`",
    "sum": "`sum`",
    "both": "`both`: blocks of `context` and `centre`",
    "features": "`features`",
    "neighbours": "`neighbours`",
    "all": "`all`: blocks of `context`, `centre`, `features` and `neighbours`",
    "random": "`random` network",
    "intensities": "`intensities`",
}
PAIRS = (
    ("context", "centre"),
    ("sum", "context"),
    ("sum", "centre"),
    ("both", "sum"),
    ("both", "context"),
    ("both", "features"),
    ("all", "features"),
    ("all", "both"),
)


def algorithms() -> Algorithms:
    """Return what the tables stand on."""
    return of_recipe(RECIPE)


def tables(work: Workplace) -> str:
    """Run what is missing; return scores, paired differences, and the primary score by mechanism."""
    rows = [row for screen in PLATE_SEEDS for row in _rows_of(work, screen)]
    screens, seeds = len(PLATE_SEEDS), len({row["seed"] for row in rows})
    spread = f"{screens} screens, {seeds} seeds of training each; mean ± standard deviation over all of them."
    paired = "Paired by screen: mean difference, its 95 % interval over screens, and the number of screens above 0."
    parts = (scores(rows), markdown.paragraph(spread), gains(rows), markdown.paragraph(paired), by_mechanism(rows))
    return "\n\n".join(parts)


def scores(rows: Sequence[Row]) -> str:
    """Return the scores of every arm: mean, and standard deviation over screens and seeds."""
    lines = [
        [title, *(markdown.mean_sd([row[score] for row in rows if row["arm"] == arm]) for score in SCORES)]
        for arm, title in ARM_TITLES.items()
    ]
    return markdown.table(["vectors", *SCORES.values()], lines)


def gains(rows: Sequence[Row]) -> str:
    """Return the difference of every pair of arms, with its 95 % interval over screens."""
    lines = [[f"`{one}` - `{other}`", *(_gain(rows, one, other, score) for score in SCORES)] for one, other in PAIRS]
    return markdown.table(["difference", *SCORES.values()], lines)


def by_mechanism(rows: Sequence[Row]) -> str:
    """Return the AMI of treated or not of every arm, by mechanism."""
    mechanisms = list(rows[0]["by_mechanism"])
    lines = [
        [title, *(markdown.mean_sd([r["by_mechanism"][name] for r in rows if r["arm"] == arm]) for name in mechanisms)]
        for arm, title in ARM_TITLES.items()
    ]
    return markdown.table([SCORES["treated"], *mechanisms], lines)


def _gain(rows: Sequence[Row], one: str, other: str, score: str) -> str:
    """Return the mean difference, its interval by Student's t over screens, and in how many screens it is above 0."""
    from cellssl.reporting.seed_statistics import paired_interval

    of_arm = {arm: _by_screen(rows, arm, score) for arm in (one, other)}
    each = [of_arm[one][screen] - of_arm[other][screen] for screen in PLATE_SEEDS]
    above = sum(difference > 0 for difference in each)
    return f"{markdown.change(fmean(each), *paired_interval(each))}, {above} of {len(each)}"


def _by_screen(rows: Sequence[Row], arm: str, score: str) -> dict[int, float]:
    """Return screen -> mean over the seeds of training."""
    found = {screen: [r[score] for r in rows if r["arm"] == arm and r["screen"] == screen] for screen in PLATE_SEEDS}
    return {screen: fmean(values) for screen, values in found.items()}


def _rows_of(work: Workplace, screen: int) -> list[Row]:
    """Return the scores of one screen; runs what is missing."""
    report = work.cellssl("run", RECIPE, *sets(f"fetch.dataset.seed={screen}"))
    found: list[Row] = work.kept(f"screen-{screen}-{report.name}", partial(_measured, work, report, screen))
    return found


def _measured(work: Workplace, report: Path, screen: int) -> list[Row]:
    return [_row(run, screen) for run in _runs(work, report)]


def _runs(work: Workplace, report: Path) -> list[Run]:
    """Return arms and seeds of a finished report with their artifacts."""
    from cellssl.artifacts.card import kind_of_input
    from cellssl.artifacts.store import Store
    from cellssl.stages.report.runs import collect

    store = Store(work.store)
    artifact = store.resolve(report, ("report",))
    inputs = {name: store.get(kind_of_input(name), found) for name, found in artifact.card.inputs.items()}
    return collect(inputs, store)


def _row(run: Run, screen: int) -> Row:
    """Return the scores of one arm and seed."""
    label, evaluation = run.clusters.scores.label, run.evaluation
    assert label is not None and evaluation is not None
    left_out = evaluation.schemes["leave_one_plate_out"].classifiers
    treated = dict(_treated(run))
    return {
        "arm": run.arm,
        "seed": run.seed,
        "screen": screen,
        "treated": fmean(value for each in treated.values() for value in each),
        "by_mechanism": {name: fmean(each) for name, each in treated.items()},
        "ami": label.ami,
        "knn": left_out["knn"].balanced_accuracy,
        "linear": left_out["linear"].balanced_accuracy,
    }


def _treated(run: Run) -> Iterator[tuple[str, list[float]]]:
    """Yield mechanism and, for each of its compounds, the AMI of two clusters with treated and untreated.

    The cells are those of the test plate: all of the compound, and as many of DMSO, which are the same for all arms.
    """
    cells, x = _normalised(run)
    test = (cells["split"] == "test").fillna(False).to_numpy(bool)
    compounds = cells["compound"].to_numpy(str)
    for mechanism in sorted(set(cells["moa"].dropna()) - {"DMSO"}):
        own = sorted(set(compounds[(cells["moa"] == mechanism).fillna(False).to_numpy(bool)]))
        yield mechanism, [_two_clusters(x, cells, test, compounds, name, run.seed) for name in own]


def _two_clusters(
    x: np.ndarray, cells: pd.DataFrame, test: np.ndarray, compounds: np.ndarray, name: str, seed: int
) -> float:
    """Return the AMI of K-Means with k = 2 on the cells of a compound and as many of DMSO."""
    import numpy as np

    from cellssl.profiling import kmeans
    from cellssl.profiling.cluster_scores import agreement
    from cellssl.randomness import generator

    in_order = np.argsort(cells["cell_id"].to_numpy(str), kind="stable")
    treated = in_order[(test & (compounds == name))[in_order]]
    controls = in_order[(test & (compounds == "DMSO"))[in_order]]
    number = min(len(treated), len(controls))
    draw = generator(RECIPE, name).permutation
    rows = np.concatenate([treated[draw(len(treated))[:number]], controls[draw(len(controls))[:number]]])
    labels = np.repeat(["treated", "DMSO"], number)
    return float(agreement(labels, kmeans.fit(x[rows], 2, seed=seed).assignment)["ami"])


def _normalised(run: Run) -> tuple[pd.DataFrame, np.ndarray]:
    """Return all cells and their vectors after the chain of the clusters."""
    from cellssl.stages.cluster.normalised import normalised_as_before
    from cellssl.stages.shared.cell_tables import read_all_embeddings

    cells, vectors = read_all_embeddings(run.embed)
    return cells, normalised_as_before(run.cluster, run.embed, cells, vectors).x
