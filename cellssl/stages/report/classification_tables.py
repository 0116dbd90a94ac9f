"""classification_tables: evaluations of arms in, tables of classification accuracy out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellssl.reporting.html import Block, Folded, Table
from cellssl.reporting.natural_sort import natural_key
from cellssl.stages.report.runs import CLASSIFIERS, SCHEMES, Run

if TYPE_CHECKING:
    pass
from cellssl.stages.report.tables_common import ROWS_SHOWN, WORDS, by_arm, interval_text, seed_range, shortened


def told(runs: list[Run]) -> list[Block]:
    """How well classifiers tell the label, in every scheme; and by class and by plate."""
    table, classes, plates = [], [], []
    for arm, mine in by_arm(runs).items():
        found = [one.evaluate.card.metrics for one in mine if one.evaluate]
        for scheme in SCHEMES:
            each = [one[scheme] for one in found if scheme in one]
            for classifier in CLASSIFIERS if each else ():
                table.append([arm, WORDS[scheme], WORDS[classifier], *_accuracy([one[classifier] for one in each])])
                table[-1] += [each[0]["cells"], each[0]["folds"]]
            classes += [[arm, WORDS[scheme], *row] for row in (_per_class(each[0]) if each else [])]
            for plate, on in (each[0].get("plates", {}) if each else {}).items():
                plates.append([arm, plate, on["cells"], on["knn"], on["linear"]])
    if not table:
        return []
    header = ["arm", "who is told by whom", "by", "balanced accuracy", "95 % interval", "drawn by", "shuffled labels"]
    caption = (
        "Mean ± standard deviation over seeds. The interval (first seed) comes from drawing whole wells where they are "
        "known, and is – where a class has one well only. Shuffled labels say what chance gives."
    )
    blocks: list[Block] = [Table([*header, "cells", "folds"], table, caption)]
    each_by = [head for classifier in CLASSIFIERS for head in (WORDS[classifier], "95 % interval")]
    said = f"Share of a class's cells that is told right. {shortened(classes)}".strip()
    of_classes = Table(["arm", "who is told by whom", "class", *each_by], classes[:ROWS_SHOWN], said)
    blocks.append(Folded("Class by class (first seed)", [of_classes]))
    if plates:
        of_plates = Table(["arm", "plate", "cells", "kNN", "linear probe"], plates[:ROWS_SHOWN], shortened(plates))
        blocks.append(Folded("Plate by plate (first seed)", [of_plates]))
    return blocks


def _accuracy(each: list[dict[str, Any]]) -> list[str]:
    return [
        seed_range(one["balanced_accuracy"] for one in each),
        interval_text(each[0]["balanced_accuracy_interval"]),
        each[0]["resampled"],
        seed_range(one["shuffled_balanced_accuracy"]["mean"] for one in each),
    ]


def _per_class(found: dict[str, Any]) -> list[list[Any]]:
    """A row a class: what each classifier tells right, with its interval."""
    by = [found[classifier] for classifier in CLASSIFIERS]
    return [
        [
            name,
            *(
                value
                for one in by
                for value in (one["per_class"][name], interval_text(one["per_class_interval"].get(name)))
            ),
        ]
        for name in sorted(by[0]["per_class"], key=natural_key)
    ]
