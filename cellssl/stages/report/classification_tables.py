"""classification_tables: evaluations of arms in, tables of classification accuracy out."""

from __future__ import annotations

from cellssl.reporting.html import Block, Folded, Table, Value
from cellssl.reporting.natural_sort import natural_key
from cellssl.stages.evaluate.metrics import CLASSIFIERS, SCHEMES, ClassifierAccuracy, SchemeMetrics
from cellssl.stages.report.runs import Run
from cellssl.stages.report.tables_common import (
    PART_NAMES,
    ROWS_SHOWN,
    by_arm,
    interval_text,
    mean_sd_text,
    rows_note,
)


def classification_tables(runs: list[Run]) -> list[Block]:
    """Return the accuracies of classifiers in every scheme, per class and per plate."""
    table: list[list[Value]] = []
    classes: list[list[Value]] = []
    plates: list[list[Value]] = []
    for arm, arm_runs in by_arm(runs).items():
        evaluations = [run.evaluation for run in arm_runs if run.evaluation]
        for scheme in SCHEMES:
            each = [evaluation.schemes[scheme] for evaluation in evaluations if scheme in evaluation.schemes]
            if not each:
                continue
            first = each[0]
            for name in CLASSIFIERS:
                accuracies = _accuracy([metrics.classifiers[name] for metrics in each])
                table.append([arm, PART_NAMES[scheme], PART_NAMES[name], *accuracies, first.cells, first.folds])
            classes += [[arm, PART_NAMES[scheme], *row] for row in _per_class(first)]
            for plate, on in (first.plates or {}).items():
                plates.append([arm, plate, on.cells, *(on.balanced_accuracy[name] for name in CLASSIFIERS)])
    if not table:
        return []
    header = ["arm", "scheme", "classifier", "balanced accuracy", "95 % interval", "resampled", "shuffled labels"]
    caption = (
        "Mean ± standard deviation over seeds. The interval (first seed) is a bootstrap over whole wells where these "
        "are known; it is – where a class has one well only. Shuffled labels show the level of chance."
    )
    blocks: list[Block] = [Table([*header, "test cells", "folds"], table, caption)]
    each_by = [head for classifier in CLASSIFIERS for head in (PART_NAMES[classifier], "95 % interval")]
    caption = f"Share of the cells of a class that is predicted correctly. {rows_note(classes)}".strip()
    of_classes = Table(["arm", "scheme", "class", *each_by], classes[:ROWS_SHOWN], caption)
    blocks.append(Folded("Accuracy per class (first seed)", [of_classes]))
    if plates:
        header = ["arm", "plate", "cells", *(PART_NAMES[name] for name in CLASSIFIERS)]
        of_plates = Table(header, plates[:ROWS_SHOWN], rows_note(plates))
        blocks.append(Folded("Balanced accuracy per plate (first seed)", [of_plates]))
    return blocks


def _accuracy(each: list[ClassifierAccuracy]) -> list[str]:
    """Return the cells of one row: accuracy, interval, what was resampled, and accuracy with shuffled labels."""
    return [
        mean_sd_text(accuracy.balanced_accuracy for accuracy in each),
        interval_text(each[0].balanced_accuracy_interval),
        each[0].resampled,
        mean_sd_text(accuracy.shuffled_mean for accuracy in each),
    ]


def _per_class(scheme: SchemeMetrics) -> list[list[Value]]:
    """Return one row per class: the share that each classifier predicts correctly, with its interval."""
    return [
        [name, *(value for each in CLASSIFIERS for value in _class_accuracy(scheme.classifiers[each], name))]
        for name in sorted(scheme.classifiers[CLASSIFIERS[0]].per_class, key=natural_key)
    ]


def _class_accuracy(classifier: ClassifierAccuracy, name: str) -> tuple[float, str]:
    return classifier.per_class[name], interval_text(classifier.per_class_interval.get(name))
