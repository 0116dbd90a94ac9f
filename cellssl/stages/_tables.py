"""_tables: runs and their rows of numbers in, the sections of the page that are tables out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cellssl.artifacts.store import Artifact
from cellssl.reporting.order import natural
from cellssl.reporting.page import Block, Bullets, Details, Folded, Paragraph, Section, Table, Value
from cellssl.reporting.summary import Spread, aggregate, number, score_table, spread
from cellssl.stages import _advice, _beliefs, _scored, _verdict
from cellssl.stages._chosen import ALL_REASONS
from cellssl.stages._runs import CLASSIFIERS, SCHEMES, Row, Run, first_seeds, part_of

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "ami": "AMI label",
    "shuffled": "AMI shuffled",
    "ami_plate": "AMI plate",
    "ami_density": "AMI density",
    "ami_phenotype": "AMI phenotype",
    "silhouette": "silhouette",
    "knn": "kNN accuracy",
    "linear": "linear accuracy",
}
"""Scores of the first table, by their names in scores.csv."""
OF_A_RUN = {
    "cells": "cells",
    "ami": "AMI label",
    "ami_low": "95 % from",
    "ami_high": "to",
    "ami_max": "AMI max",
    "shuffled": "shuffled",
    "ami_plate": "AMI plate",
    "ami_well_in_controls": "AMI well, controls",
    "ami_density": "AMI density",
    "silhouette": "silhouette",
    "knn": "kNN",
    "linear": "linear",
}
"""Scores of single runs, by their names in scores.csv."""
WORDS = {
    "knn": "kNN",
    "linear": "linear probe",
    "split": "test part, told by the train part",
    "leave_one_plate_out": "each plate, told by the others",
    "leave_one_well_out": "each well, told by the others",
    "nsc": "NSC: the nearest treatment of another compound has the same mechanism",
    "nscb": "NSCB: as NSC, and of another batch",
    "map_replicates": "mAP: a well finds its replicates before controls",
    "map_mechanism": "mAP: a treatment finds its mechanism before others",
    "profiles": "profiles of wells",
}
ROWS_SHOWN = 400
"""Of longer tables the first rows are on the page, and all in the artifact that they come from."""


def result_table(rows: list[Row], paper: Mapping[str, str]) -> tuple[list[str], list[list[str]]]:
    """A row an arm: mean and standard deviation over seeds; the paper's number where it gives one."""
    shown = {name: head for name, head in COLUMNS.items() if _known(rows, name)}
    header, table = score_table(aggregate(rows, list(shown)), shown)
    if paper:
        header = [*header, "AMI in the paper"]
        table = [[*row, paper.get(row[0], "–")] for row in table]
    return header, table


def _known(rows: list[Row], name: str) -> bool:
    return any(row.get(name) is not None for row in rows)


def results(rows: list[Row], paper: Mapping[str, str]) -> list[Block]:
    """Every arm, and every run."""
    header, table = result_table(rows, {})
    said = {
        ("ami",): "AMI label: clusters against the label: treated or not, or the class.",
        ("ami_plate", "ami_density"): "AMI plate, density: against what clusters should not follow.",
        ("knn", "linear"): "Accuracies are balanced, so chance is 1 over the number of classes.",
    }
    there = [words for names, words in said.items() if any(_known(rows, name) for name in names)]
    caption = " ".join(["Every arm: mean ± standard deviation over seeds.", *there])
    blocks: list[Block] = [Table(header, table, caption)]
    if paper:
        blocks.append(_beside_the_paper(rows, paper))
    names = {"arm": "arm", "seed": "seed", **{name: head for name, head in OF_A_RUN.items() if _known(rows, name)}}
    each = [[row.get(name) for name in names] for row in rows]
    runs = Table(list(names.values()), each, "scores.csv has these and all others, in full.")
    return [*blocks, Folded("Every run, number by number", [runs])]


def _beside_the_paper(rows: list[Row], paper: Mapping[str, str]) -> Table:
    """Ours beside the paper's; arms that only one of the two has are there too."""
    ours = {each.arm: each.spreads["ami"] for each in aggregate(rows, ["ami"])}
    table: list[list[Value]] = [
        [
            arm,
            str(ours[arm]) if arm in ours else "not run",
            paper.get(arm, "not given"),
            ours[arm].n if arm in ours else 0,
        ]
        for arm in dict.fromkeys([*ours, *paper])
    ]
    caption = (
        "AMI of the label beside the paper's (mean ± standard deviation; the paper ran 5 seeds, k = 2). The paper "
        "does not say how it scaled intensities, which layer it clustered, nor which cells it drew: expect no equal "
        "numbers."
    )
    return Table(["arm", "AMI here", "AMI in the paper", "seeds here"], table, caption)


def agreements(runs: list[Run]) -> list[Block]:
    """Clusters against every column: all scores, what shuffled labels give, and an interval."""
    table = []
    for arm, mine in _by_arm(runs).items():
        found = [one.cluster.card.metrics["against"] for one in mine]
        for column in found[0]:
            each = [against[column] for against in found if column in against]
            low, high = each[0]["ami_interval"]
            table.append(
                [
                    arm,
                    column,
                    *(_spread(one[score] for one in each) for score in ("ami", "ami_max", "nmi", "ari", "homogeneity")),
                    f"{number(low)} to {number(high)}" if low is not None else "–",
                    _spread(one["shuffled_ami"]["mean"] for one in each),
                    each[0]["classes"],
                    each[0]["cells"],
                ]
            )
    header = ["arm", "column", "AMI", "AMI max", "NMI", "ARI", "homogeneity", "95 % interval of AMI", "AMI shuffled"]
    caption = (
        "AMI: arithmetic mean; AMI max: maximum as normaliser. Mean ± standard deviation over seeds; the interval "
        "(bootstrap over cells), the classes and the cells are those of the first seed. The columns plate, well and "
        "density are what clusters should not follow; a well also holds its treatment, so control_well has the wells "
        "of control cells alone."
    )
    return [Folded("Clusters against every column", [Table([*header, "classes", "cells"], table, caption)])]


def believed(runs: list[Run], rows: list[Row]) -> list[Section]:
    """Whether to believe it, and what is next."""
    answers = [[one.question, one.answer, one.numbers] for one in _beliefs.beliefs(runs, rows)]
    table = Table(["question", "answer", "numbers"], answers, f"Of “{_scored.leading(rows)}”.")
    return [
        Section("Whether to believe it", [table]),
        Section("What to check next", [Bullets(_advice.next_steps(runs, rows))]),
    ]


def arms(runs: list[Run]) -> list[Section]:
    """What each arm is, and in which settings they differ."""
    table = [
        [one.arm, "baseline" if one.is_baseline else "trained", _verdict.describe(one), _clustered(one)]
        for one in first_seeds(runs)
    ]
    seeds = {arm: ", ".join(str(one.seed) for one in mine) for arm, mine in _by_arm(runs).items()}
    rows = [[*row, seeds[row[0]]] for row in table]
    blocks: list[Block] = [Table(["arm", "kind", "what looks at a cell", "clusters", "seeds"], rows)]
    return [Section("What was compared", [*blocks, *_differences(first_seeds(runs))])]


def _clustered(run: Run) -> str:
    section, found = run.cluster.card.section, run.cluster.card.metrics
    vectors = {
        "none": "vectors as they are",
        "zscore": "every number of mean 0 and standard deviation 1",
        "l2": "vectors of unit length",
        "pca_whiten": "vectors whitened by PCA",
    }
    how = f"{found['method']['name']}, k = {found['k']}, {vectors.get(found['normalise'], found['normalise'])}"
    return f"{how}, assigned to an earlier clustering" if section.get("assign_to") else how


def _differences(runs: list[Run]) -> list[Block]:
    """Knobs that are not the same in all arms that have them."""
    knobs = [_knobs(one) for one in runs]
    names = sorted({name for each in knobs for name in each})
    differ = [name for name in names if len({each[name] for each in knobs if name in each}) > 1]
    table = [[name, *(each.get(name, "–") for each in knobs)] for name in differ]
    if not table:
        return []
    return [Folded("Settings in which the arms differ", [Table(["setting", *(one.arm for one in runs)], table)])]


def _knobs(run: Run) -> dict[str, str]:
    sections = {kind: one.card.section for kind, one in run.chain().items() if kind not in ("fetch", "evaluate")}
    return dict(_flat(sections))


def _flat(value: Any, path: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def told(runs: list[Run]) -> list[Block]:
    """How well classifiers tell the label, in every scheme; and by class and by plate."""
    table, classes, plates = [], [], []
    for arm, mine in _by_arm(runs).items():
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
    said = f"Share of a class's cells that is told right. {_cut(classes)}".strip()
    of_classes = Table(["arm", "who is told by whom", "class", *each_by], classes[:ROWS_SHOWN], said)
    blocks.append(Folded("Class by class (first seed)", [of_classes]))
    if plates:
        of_plates = Table(["arm", "plate", "cells", "kNN", "linear probe"], plates[:ROWS_SHOWN], _cut(plates))
        blocks.append(Folded("Plate by plate (first seed)", [of_plates]))
    return blocks


def _accuracy(each: list[dict[str, Any]]) -> list[str]:
    return [
        _spread(one["balanced_accuracy"] for one in each),
        _interval(each[0]["balanced_accuracy_interval"]),
        each[0]["resampled"],
        _spread(one["shuffled_balanced_accuracy"]["mean"] for one in each),
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
                for value in (one["per_class"][name], _interval(one["per_class_interval"].get(name)))
            ),
        ]
        for name in sorted(by[0]["per_class"], key=natural)
    ]


def profiled(runs: list[Run]) -> list[Section]:
    """Mechanisms and replicates; and what could not be had of these cells, with the reason."""
    evaluated = [one for one in runs if one.evaluate is not None]
    if not evaluated:
        words = "Nothing was evaluated: add [evaluate] to the recipe, for accuracies on unseen plates and wells."
        return [Section("Mechanisms and replicates", [Paragraph(words)])]
    blocks: list[Block] = []
    table = [row for arm, mine in _by_arm(evaluated).items() for row in _profile_scores(arm, mine)]
    if table:
        header = ["arm", "question", "score", "right or found", "of", "profiles normalised by"]
        caption = "Mean ± standard deviation over seeds; counts are those of the first seed."
        blocks.append(Table(header, table, caption))
    for name, title in {
        "nsc.csv": "Mechanism by mechanism",
        "map.csv": "Replicates and mechanisms, one by one",
    }.items():
        blocks += _csv_of_arms(evaluated, name, title)
    missing = _not_computed(evaluated)
    if missing:
        blocks += [Paragraph("What these cells do not allow, and why:"), Bullets(missing)]
    return [Section("Mechanisms and replicates", blocks)]


def _profile_scores(arm: str, mine: list[Run]) -> list[list[Any]]:
    found = [one.evaluate.card.metrics for one in mine if one.evaluate]
    table: list[list[Any]] = []
    for rule in ("nsc", "nscb"):
        each = [one[rule] for one in found if rule in one]
        for how in each[0]["accuracy_after"] if each else ():
            chosen = how == each[0]["normalise"]
            counts = [each[0]["right"], each[0]["treatments"]] if chosen else [None, each[0]["treatments"]]
            score = _spread(one["accuracy_after"].get(how) for one in each)
            table.append([arm, WORDS[rule], score, *counts, how if chosen else f"{how} (not chosen)"])
    for task in ("map_replicates", "map_mechanism"):
        each = [one[task] for one in found if task in one]
        if each:
            score = _spread(one["mean_average_precision"] for one in each)
            table.append([arm, WORDS[task], score, each[0]["found"], each[0]["groups"], "–"])
    return table


def _csv_of_arms(runs: list[Run], name: str, title: str) -> list[Block]:
    """A table that every arm's evaluation holds, of the first seeds, below each other."""
    import pandas as pd

    tables = []
    for one in first_seeds(runs):
        if one.evaluate is not None and name in one.evaluate.card.files:
            tables.append(pd.read_csv(one.evaluate.file(name)).assign(arm=one.arm))
    if not tables:
        return []
    table = pd.concat(tables, ignore_index=True)
    table = table[["arm", *(column for column in table.columns if column != "arm")]]
    rows = _values(table.head(ROWS_SHOWN))
    return [Folded(f"{title} (first seed)", [Table(list(map(str, table.columns)), rows, _cut(table, name))])]


def _not_computed(runs: list[Run]) -> list[str]:
    why: dict[str, list[str]] = {}
    for one in runs:
        missing = one.evaluate.card.metrics.get("not_computed", {}) if one.evaluate else {}
        for name, reason in missing.items():
            arms_ = why.setdefault(f"{WORDS.get(name, name)}: {reason}", [])
            arms_ += [] if one.arm in arms_ else [one.arm]
    every = list(_by_arm(runs))
    return [said if arms_ == every else f"{said} ({', '.join(arms_)})" for said, arms_ in why.items()]


def counts(run: Run) -> list[Block]:
    """Fields, nuclei and cells from stage to stage; each line says whether it adds up."""
    found = run.segment.card.metrics
    reasons = {name: found[name] for name in ALL_REASONS if name in found}
    lines: list[list[Any]] = []
    if run.fetch is not None:
        fetched = run.fetch.card.metrics
        set_aside = fetched.get("quarantined", 0)
        lines.append(["fetch", f"{fetched['fields']:,} fields; {set_aside:,} more set aside as unreadable", "–"])
    lines.append(["segment", f"{found['fields']:,} fields; {found['quarantined']:,} of them set aside", "–"])
    lost = " + ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in reasons.items() if count)
    sums = found["kept"] + sum(reasons.values())
    said = f"{found['detected']:,} nuclei detected = {found['kept']:,} kept{f' + {lost}' if lost else ''}"
    lines.append(["segment", said, _balances(found["detected"], sums)])
    if run.split is not None:
        lines += _split_counts(run, found["kept"])
    clustered = run.cluster.card.metrics["cells"]
    of = _cells_of_part(run)
    lines.append(["cluster", f"{clustered:,} cells of the part “{part_of(run)}”", _balances(of, clustered)])
    caption = (
        "Balances: whether the right side adds up to the left. Every dropped nucleus has its reason in dropped.parquet."
    )
    blocks: list[Block] = [Table(["stage", "count", "balances"], lines, caption)]
    if run.split is not None:
        parts = [[*name.partition("/")[::2], value] for name, value in run.split.card.metrics["counts"].items()]
        blocks.append(Table(["part", "label", "cells"], parts, "The split."))
    names = [[name.replace("_", " "), count] for name, count in reasons.items()]
    blocks.append(Folded("Every reason to drop a nucleus", [Table(["reason", "nuclei"], names)]))
    return blocks


def _split_counts(run: Run, kept: int) -> list[list[Any]]:
    assert run.split is not None
    found = run.split.card.metrics
    divided = sum(found["counts"].values())
    unlabelled = kept - divided - found["unused_cells"]
    parts = dict.fromkeys(("train", "val", "test"), 0)
    for name, value in found["counts"].items():
        parts[name.partition("/")[0]] += value
    listed = " + ".join(f"{value:,} {part}" for part, value in parts.items())
    said = f"{kept:,} cells = {listed} + {found['unused_cells']:,} left over by balancing"
    said += f" + {unlabelled:,} of other treatments or plates" if unlabelled else ""
    return [["split", said, "yes" if unlabelled >= 0 else f"no: {-unlabelled:,} too many"]]


def _cells_of_part(run: Run) -> int:
    """How many cells the part that was clustered should have, by the split's own table, or else by the embedding."""
    part = part_of(run)
    if run.split is None or part == "all":
        return int(run.embed.card.metrics["cells"])
    counted = run.split.card.metrics["counts"].items()
    return sum(value for name, value in counted if name.startswith(f"{part}/"))


def _balances(left: int, right: int) -> str:
    return "yes" if left == right else f"no: {left:,} and {right:,}"


def provenance(runs: list[Run]) -> list[Section]:
    """Which artifacts the numbers come from, and the settings in full."""
    kinds = list(dict.fromkeys(kind for one in runs for kind in one.chain()))
    table: list[list[Value]] = []
    for one in runs:
        chain = one.chain()
        table.append([one.arm, one.seed, *(chain[kind].fingerprint if kind in chain else "–" for kind in kinds)])
    caption = (
        "Each artifact stands on those left of it, and is named by a fingerprint of its settings and inputs. cellssl "
        "verify checks its bytes; its artifact.json says when, where and with which versions it was made."
    )
    blocks: list[Block] = [Table(["arm", "seed", *kinds], table, caption)]
    for one in first_seeds(runs):
        text = "\n\n".join(_section_text(artifact) for artifact in one.chain().values())
        blocks.append(Details(f"All settings of “{one.arm}”", text))
    return [Section("Where it comes from", blocks)]


def _section_text(artifact: Artifact) -> str:
    """A section of the recipe as TOML would say it, a line a knob, tables of tables in dotted keys."""
    head = f"[{artifact.card.kind}]    # {artifact.fingerprint}, algorithm {artifact.card.algorithm}"
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in _knob_lines(artifact.card.section)]
    return "\n".join([head, *lines])


def _knob_lines(section: Mapping[str, Any], path: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict) and value:
            yield from _knob_lines(value, f"{path}{key}.")
        elif value is not None:
            yield f"{path}{key}", value


def _by_arm(runs: list[Run]) -> dict[str, list[Run]]:
    grouped: dict[str, list[Run]] = {}
    for one in runs:
        grouped.setdefault(one.arm, []).append(one)
    return grouped


def _spread(values: Iterable[float | None]) -> str:
    found: Spread = spread(float("nan") if value is None else value for value in values)
    return str(found)


def _interval(pair: list[float] | None) -> str:
    return "–" if pair is None or pair[0] is None else f"{number(pair[0])} to {number(pair[1])}"


def _cut(rows: Any, file: str = "evaluation.json") -> str:
    return f"The first {ROWS_SHOWN} of {len(rows):,} rows; {file} has all." if len(rows) > ROWS_SHOWN else ""


def _values(table: pd.DataFrame) -> list[list[Any]]:
    """Python's own numbers and words, None where a value is missing."""
    import pandas as pd

    return [[None if pd.isna(value) else _own(value) for value in row] for row in table.itertuples(index=False)]


def _own(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
