"""sweeps: the two shipped sweeps in; what their settings change, overall and per class, out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from page_numbers import markdown
from page_numbers.workplace import Workplace

if TYPE_CHECKING:
    from cellssl.profiling.class_tradeoffs import Change
    from cellssl.stages.report.sweep_results import Curve, SweepResults

SIMULATED, DIGITS = "sweep-simulated", "sweep-digits"
GAIN_NAMED, GAIN_COUNTED = 0.1, 0.03
"""A class that gains this much is named with its interval; one that gains less than the second gains nothing."""
SHORT_NAMES = {"mitotic_arrest": "arrested"}


def cost(work: Workplace) -> str:
    """Return number and time of the trainings of both sweeps."""
    rows = []
    for name, images in ((SIMULATED, "the nine phenotypes of simulated plates"), (DIGITS, "the ten digits")):
        report = work.cellssl("run", name)
        minutes = 5 * max(1, round(work.processor_minutes(name) / 5))
        rows.append([f"`{name}`", images, str(trainings(results_of(work, report))), f"{minutes} minutes"])
    return markdown.table(["sweep", "images", "trainings", "on one core, about"], rows)


def trainings(results: SweepResults) -> int:
    """Return the number of networks that the sweep trained."""
    return len({run.trained.fingerprint for run in results.runs if run.trained is not None})


def results_of(work: Workplace, report: Path) -> SweepResults:
    """Return the scores of a finished sweep by point, class and seed."""
    from cellssl.artifacts.card import kind_of_input
    from cellssl.artifacts.store import Store
    from cellssl.stages.report.runs import collect
    from cellssl.stages.report.sweep_results import SweepResults

    store = Store(work.store)
    artifact = store.resolve(report, ("report",))
    inputs = {name: store.get(kind_of_input(name), found) for name, found in artifact.card.inputs.items()}
    return SweepResults(artifact.card.section["sweep"], collect(inputs, store))


def curve_of(results: SweepResults, knob: str) -> Curve:
    """Return the curve of one setting."""
    return next(curve for curve in results.curves() if curve.knob == knob)


def simulated_table(work: Workplace) -> str:
    """Return accuracies and AMI at the ends of both settings, and of the baselines."""
    results = results_of(work, work.cellssl("run", SIMULATED))
    ends = {
        "brightness jitter 0": {"jitter": 0.0},
        "brightness jitter 0.8": {"jitter": 0.8},
        "crops of 0.1 to 1 of the area": {"crop": 0.1},
        "crops of 0.9 to 1 of the area": {"crop": 0.9},
    }
    rows = [_row(results, title, "main", point) for title, point in ends.items()]
    rows += [_row(results, "untrained network", "random"), _row(results, "classical features", "features")]
    seeds, steps = len({run.seed for run in results.runs}), _steps(results)
    caption = f"{seeds} seeds, {results.cells['']} test cells, {steps} steps per training."
    return f"{markdown.table(['', 'linear probe', 'kNN', 'AMI'], rows)}\n\n{caption}"


def _row(results: SweepResults, title: str, arm: str, point: Mapping[str, Any] | None = None) -> list[str]:
    each = (list(results.by_seed(arm, point or {}, score).values()) for score in ("linear", "knn", "ami"))
    return [title, *map(markdown.mean_sd, each)]


def _steps(results: SweepResults) -> int:
    """Return the number of steps of every training."""
    made = next(run.trained for run in results.runs if run.trained is not None)
    return sum(1 for _ in made.file("metrics.jsonl").open(encoding="utf-8"))


def simulated_jitter(work: Workplace) -> str:
    """Write the figure of brightness jitter; return it with what changes from one end to the other."""
    results = _with_picture(work, "jitter", "sweep-jitter.png")
    changes = results.changes(curve_of(results, "jitter"), "knn")
    return "\n\n".join(
        [
            "![Accuracy of each phenotype over the strength of brightness jitter](sweep-jitter.png)",
            markdown.bullets(*class_changes("from no jitter to jitter 0.8", changes)),
        ]
    )


def simulated_crop(work: Workplace) -> str:
    """Write the figure of the smallest crop; return it with what changes from one end to the other."""
    results = _with_picture(work, "crop", "sweep-crop.png")
    curve = curve_of(results, "crop")
    changes = results.changes(curve, "knn")
    nothing = [display(one.name) for one in changes[1:] if not one.is_clear and one.by < GAIN_COUNTED]
    lost = [display(one.name) for one in _losses(changes)]
    no_gain = markdown.in_words([f"*{name}*" for name in nothing if name not in lost])
    linear = [one for one in results.changes(curve, "linear")[1:] if one.is_clear and one.by > 0]
    gained = ", ".join(f"*{display(one.name)}* {markdown.signed(one.by)}" for one in linear) or "none"
    return "\n\n".join(
        [
            "![Accuracy of each phenotype over the smallest crop](sweep-crop.png)",
            markdown.bullets(
                *class_changes("from crops of 0.1 to crops of 0.9", changes),
                f"kNN gains less than {GAIN_COUNTED}: {no_gain}.",
                f"Linear probe, clear gains: {gained}.",
            ),
        ]
    )


def _with_picture(work: Workplace, knob: str, picture: str) -> SweepResults:
    report = work.cellssl("run", SIMULATED)
    work.write_picture(picture, (report / f"sweep-main-{knob}-classes.png").read_bytes())
    return results_of(work, report)


def class_changes(ends: str, changes: Sequence[Change]) -> list[str]:
    """Return sentences on the mean over classes, the classes that gain, and those that lose."""
    gains = [one for one in changes[1:] if one.is_clear and one.by >= GAIN_NAMED]
    losses = _losses(changes)
    clear = any(one.is_clear for one in losses)
    lost = "kNN, clear losses" if clear else "kNN, no clear loss; the largest"
    return [
        f"kNN {ends}, mean over all classes: {markdown.signed(changes[0].by)}.",
        f"kNN, clear gains of {GAIN_NAMED} and more: {_named(sorted(gains, key=lambda one: -one.by))}.",
        f"{lost}: {_named(sorted(losses, key=lambda one: one.by))}.",
    ]


def _losses(changes: Sequence[Change]) -> list[Change]:
    """Return the classes that clearly lose; where there is none, the one that loses most."""
    clear = [one for one in changes[1:] if one.is_clear and one.by < 0]
    return clear or [min(changes[1:], key=lambda one: one.by)]


def _named(changes: Iterable[Change]) -> str:
    return ", ".join(f"*{display(one.name)}* {markdown.change(one.by, one.low, one.high)}" for one in changes) or "none"


def display(name: str) -> str:
    """Return the name of a class as pages write it."""
    return SHORT_NAMES.get(name, name.replace("_", " "))


def simulated_pairs(work: Workplace) -> str:
    """Return how many pairs of phenotypes go in opposite directions."""
    results = results_of(work, work.cellssl("run", SIMULATED))
    rows = []
    for knob in ("crop", "jitter"):
        curve = curve_of(results, knob)
        found = results.pairs(curve.arm, [point for value in curve.values for point in curve.points(value)], "knn")
        counts = [sum(pair.is_opposite(corrected=corrected) for pair in found) for corrected in (False, True)]
        rows.append([knob, str(len(found)), *map(str, counts)])
    header = ["setting", "pairs of phenotypes", "opposite by the rule of the paper", "left after the correction"]
    return markdown.table(header, rows)


def digits(work: Workplace) -> str:
    """Return what rotation and crops do to the clusters of digits, and to single digits."""
    results = results_of(work, work.cellssl("run", DIGITS))
    rows = [
        *_ami_rows(results, "rotation", {0.0: "none", 15.0: "up to 15 degrees", 180.0: "up to 180 degrees"}),
        *_ami_rows(results, "crop", {0.1: "from a tenth of the area", 0.75: "from three quarters", 1.0: "none"}),
        ["untrained network", "", markdown.mean_sd(list(results.by_seed("random", {}, "ami").values()))],
    ]
    turned, linear = (results.changes(curve_of(results, "rotation"), score) for score in ("knn", "linear"))
    jitter = results.changes(curve_of(results, "jitter"), "ami")[0]
    means = [results.values("main", point, "linear").mean for point in results.grid("main")]
    lost = [one for one in turned[1:] if one.is_clear and one.by < 0]
    clear = [one for one in linear[1:] if one.is_clear]
    return "\n\n".join(
        [
            markdown.table(["view", "strength", "AMI"], rows),
            markdown.bullets(
                f"{len({run.seed for run in results.runs})} seeds, {results.cells['']} test digits.",
                f"Jitter, AMI from end to end: {'a clear change' if jitter.is_clear else 'no clear change'}.",
                f"kNN, from no rotation to any angle, clear losses: {_named(lost)}.",
                f"The linear probe predicts {min(means):.0%} to {max(means):.0%} of all digits correctly; classes that "
                f"clearly gain or lose with rotation: {_named(clear)}.".replace("%", " %"),
            ),
        ]
    )


def _ami_rows(results: SweepResults, knob: str, shown: Mapping[float, str]) -> list[list[str]]:
    each = {value: list(results.by_seed("main", {knob: value}, "ami").values()) for value in shown}
    return [[knob, words, markdown.mean_sd(each[value])] for value, words in shown.items()]
