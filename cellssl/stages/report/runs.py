"""runs: cluster and evaluate artifacts in, arms and seeds with all that they stand on and their numbers out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cellssl.artifacts.card import kind_of_input
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_table
from cellssl.errors import UsageError
from cellssl.stages.embed.settings import BASELINES
from cellssl.stages.shared.scaled_crops import segment_below

if TYPE_CHECKING:
    import pandas as pd

SCHEMES = ("split", "leave_one_plate_out", "leave_one_well_out")
CLASSIFIERS = ("knn", "linear")
LONGEST_ARM = 60
"""Letters of an arm that is called by its branches; figures bear its name."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One arm with one seed: its cluster artifact, what that stands on, and its evaluation where there is one."""

    arm: str
    seed: int
    cluster: Artifact
    embed: Artifact
    model: Artifact | None
    split: Artifact | None
    segment: Artifact
    fetch: Artifact | None
    evaluate: Artifact | None

    @property
    def is_baseline(self) -> bool:
        """Whether nothing was learned from these cells or others like them."""
        untrained = self.model is not None and self.model.card.section["epochs"] == 0
        return untrained or self.embed.card.section["model"] in BASELINES

    @property
    def cells(self) -> Artifact:
        """What was embedded: the cells of a split, or all that were found."""
        return self.split if self.embed.card.section["cells"] == "split" and self.split else self.segment

    @property
    def trained(self) -> Artifact | None:
        """The model, where it was trained."""
        return None if self.is_baseline else self.model

    @cached_property
    def projection_spreads(self) -> dict[str, float]:
        """Branch -> spread of its projections over the last steps of the training: 1 where even, 0 where all are one.

        Empty where nothing was trained, or by objectives without projections.
        """
        import pandas as pd

        from cellssl.learning.training.diagnostics import COLLAPSED_STEPS

        if self.trained is None:
            return {}
        last = pd.read_json(self.trained.file("metrics.jsonl"), lines=True).tail(COLLAPSED_STEPS)
        spreads = last.filter(regex="/projection_spread$").mean().dropna()
        return {str(name).rpartition("/")[0]: float(value) for name, value in spreads.items()}

    def chain(self) -> dict[str, Artifact]:
        """Every artifact that its numbers stand on, in the order of making."""
        made = [self.fetch, self.segment, self.split, self.model, self.embed, self.cluster, self.evaluate]
        return {one.card.kind: one for one in made if one is not None}


def collect(inputs: Mapping[str, Artifact], store: Store) -> list[Run]:
    """Every arm and seed with all that its clusters stand on, in the order of the inputs, ARM/SEED/STAGE."""
    runs = []
    for name, artifact in inputs.items():
        if kind_of_input(name) == "cluster":
            arm, seed, _ = name.split("/")
            runs.append(_run(arm, int(seed), artifact, inputs.get(f"{arm}/{seed}/evaluate"), store))
    return runs


def _run(arm: str, seed: int, cluster: Artifact, evaluate: Artifact | None, store: Store) -> Run:
    around = store.with_store_of(cluster)
    embed = around.get("embed", cluster.card.inputs["embed"])
    trained = embed.card.inputs.get("model") or embed.card.inputs.get("pretrain")
    model = around.get("pretrain", trained) if trained else None
    kind = embed.card.section["cells"]
    cells = around.get(kind, embed.card.inputs[kind])
    segment = segment_below(cells, around)
    source = segment.card.inputs.get("fetch")
    fetch = around.find("fetch", source) if source else None
    return Run(arm, seed, cluster, embed, model, cells if kind == "split" else None, segment, fetch, evaluate)


def by_hand(artifacts: Iterable[Artifact], store: Store) -> dict[str, Artifact]:
    """Artifacts that a person names, as ARM/SEED/STAGE: those that differ in nothing but the seed are one arm.

    Raises UsageError for an evaluation without the clusters of the same vectors.
    """
    given = list({artifact.fingerprint: artifact for artifact in artifacts}.values())
    named: dict[str, Artifact] = {}
    arms: dict[str, list[str]] = {}
    places: dict[str, list[str]] = {}
    for cluster in (one for one in given if one.card.kind == "cluster"):
        run = _run("", 0, cluster, None, store)
        same = arms.setdefault(_words_of_arm(run), [])
        place = _free(_without_seeds(run), _seed_of(run), same, named, _words_of_arm(run))
        named[f"{place}/cluster"] = cluster
        places.setdefault(run.embed.fingerprint, []).append(place)
    for evaluation in (one for one in given if one.card.kind == "evaluate"):
        found = places.get(evaluation.card.inputs.get("embed", ""), [])
        if not found:
            raise UsageError(
                f"{evaluation.path} is an evaluation, and no cluster artifact of the same vectors is given",
                hint="name a cluster artifact of the same embed artifact too",
            )
        named |= {f"{place}/evaluate": evaluation for place in found}
    return dict(sorted(named.items(), key=_arm_and_seed(named)))


def _arm_and_seed(named: Mapping[str, Artifact]) -> Callable[[tuple[str, Artifact]], tuple[int, int]]:
    """Arms in the order in which they were given, and their seeds by number."""
    arms = list(dict.fromkeys(name.partition("/")[0] for name in named))
    return lambda item: (arms.index(item[0].split("/")[0]), int(item[0].split("/")[1]))


def _free(content: str, seed: int, same: list[str], named: Mapping[str, Artifact], words: str) -> str:
    """ARM/SEED of an arm with this content; arms of the same words are numbered, as are runs of the same seed."""
    known = [content == other for other in same]
    for number, fits in enumerate(known):
        place = f"{words}{f'-{number + 1}' if number else ''}/{seed}"
        if fits and f"{place}/cluster" not in named:
            return place
    same.append(content)
    return f"{words}{f'-{len(same)}' if len(same) > 1 else ''}/{seed}"


def _words_of_arm(run: Run) -> str:
    if run.trained is None:
        name = str(run.embed.card.section["model"])
        return (name if name in BASELINES else "untrained").replace("/", "-")
    return "+".join(active_branches(run.trained)).replace("/", "-")[:LONGEST_ARM] or "trained"


def _without_seeds(run: Run) -> str:
    """Everything that makes the arm, but its seeds."""
    made = [run.cluster, run.embed, *([run.model] if run.model else [])]
    sections = [{key: value for key, value in one.card.section.items() if key != "seed"} for one in made]
    for section in sections:
        if run.model and section.get("model") not in (*BASELINES, "pretrain", None):
            section["model"] = "earlier"
    return json.dumps([sections, run.cells.fingerprint], sort_keys=True)


def _seed_of(run: Run) -> int:
    made = (run.model, run.embed, run.cluster)
    return next((int(one.card.section["seed"]) for one in made if one and "seed" in one.card.section), 0)


def active_branches(model: Artifact) -> dict[str, Any]:
    """Branches that had a say in the loss, by name."""
    return {name: one for name, one in sorted(model.card.section["branches"].items()) if one["weight"] > 0}


def first_seeds(runs: list[Run]) -> list[Run]:
    """Of every arm the run that is shown where one must stand for all."""
    first: dict[str, Run] = {}
    for one in runs:
        first.setdefault(one.arm, one)
    return list(first.values())


def part_of(run: Run) -> str:
    """Which cells were clustered."""
    return run.cluster.card.section["part"] or ("test" if run.split is run.cells else "all")


def row_of(run: Run) -> Row:
    """All numbers of a run that have one value; None where a score is not defined."""
    card = run.cluster.card.metrics
    against = card["against"]
    label = against.get("label", {})
    shuffled = label.get("shuffled_ami", {})
    low, high = label.get("ami_interval", (None, None))
    cells = _clustered(run)
    row = {
        "arm": run.arm,
        "seed": run.seed,
        "baseline": run.is_baseline,
        "cells": card["cells"],
        "k": card["k"],
        "clusters_filled": cells["cluster"].nunique(),
        "classes": label.get("classes"),
        "ami": label.get("ami"),
        "ami_low": low,
        "ami_high": high,
        "ami_max": label.get("ami_max"),
        "shuffled": shuffled.get("mean"),
        "shuffled_sd": shuffled.get("sd"),
        "ami_plate": against.get("plate", {}).get("ami"),
        "ami_well": against.get("well", {}).get("ami"),
        "ami_density": against.get("density", {}).get("ami"),
        "ami_phenotype": against.get("true_phenotype", {}).get("ami"),
        **_among_controls(cells),
        "plates": cells["plate"].nunique(),
        "ceiling": card.get("ceiling_ami"),
        "silhouette": card["silhouette"],
    }
    return row | (_evaluated(run.evaluate.card.metrics) if run.evaluate else {})


def _clustered(run: Run) -> pd.DataFrame:
    """Cluster, plate, well and control of the clustered cells, a row a cell."""
    import pandas as pd

    known = {"Metadata_cell_id": "cell_id", "Metadata_Plate": "plate", "Metadata_Well": "well"}
    known["Metadata_control"] = "control"
    cells = pd.read_parquet(run.embed.file("embeddings.parquet"), columns=list(known))  # the vectors may be gigabytes
    assigned = read_table(run.cluster.file("assignments.parquet"))
    return assigned.merge(cells.rename(columns=known), on="cell_id", how="left", validate="one_to_one")


def _among_controls(cells: pd.DataFrame) -> Row:
    """AMI of clusters with plate and with well among control cells alone, where no treatment can be the cause.

    Wells of treated plates differ by what is in them, so over all cells an AMI with the well says little. That with the
    well is the mean over plates of two control wells or more, for one well a plate cannot be told from its plate.
    """
    controls = cells[cells["control"].fillna(False).astype(bool)]
    of_plates = [_agreement(plate, "well") for _, plate in controls.groupby("plate", sort=True)]
    known = [score for score in of_plates if score is not None]
    return {
        "ami_plate_in_controls": _agreement(controls, "plate"),
        "ami_well_in_controls": sum(known) / len(known) if known else None,
    }


def _agreement(cells: pd.DataFrame, column: str) -> float | None:
    """AMI of the clusters with a column; None where there is but one to follow."""
    from cellssl.profiling.cluster_scores import agreement

    names = cells[column].astype(str).tolist()
    score = agreement(names, cells["cluster"].to_numpy())["ami"] if len(set(names)) > 1 else math.nan
    return None if math.isnan(score) else score


def _evaluated(found: Mapping[str, Any]) -> Row:
    """Balanced accuracies by scheme (those of the split under the classifier's own name), NSC, NSCB, mAP."""
    row: Row = {}
    for scheme in SCHEMES:
        for classifier in CLASSIFIERS:
            if scheme in found and classifier in found[scheme]:
                name = classifier if scheme == "split" else f"{classifier}_{scheme}"
                row[name] = found[scheme][classifier]["balanced_accuracy"]
    for rule in ("nsc", "nscb"):
        if rule in found:
            row[rule] = found[rule]["accuracy"]
    for task in ("map_replicates", "map_mechanism"):
        if task in found:
            row[task] = found[task]["mean_average_precision"]
    return row
