"""runs: cluster, evaluate and hits artifacts in; one run per arm and seed, with all artifacts it depends on, out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

from cellssl.artifacts.card import is_shared_model, kind_of_input
from cellssl.artifacts.contents import built_of_metrics, input_of, metrics_of, read_json_lines, section_of
from cellssl.artifacts.shared_models import get_model
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import OF_CELLS, read_assignments, read_fields, read_table
from cellssl.errors import UsageError
from cellssl.learning.training.collapse import COLLAPSED_STEPS
from cellssl.stages.cluster.metrics import ClusterMetrics
from cellssl.stages.embed.block_settings import BASELINES
from cellssl.stages.evaluate.metrics import EvaluationMetrics
from cellssl.stages.hits.metrics import HitsMetrics
from cellssl.stages.report.block_scores import block_scores
from cellssl.stages.report.scores import Row, RunResults, score_row
from cellssl.stages.shared.card_shapes import (
    Branch,
    ClusterSection,
    EmbedMetrics,
    Seeded,
    embed_section,
    pretrain_section,
)
from cellssl.stages.shared.scaled_crops import upstream_segment

if TYPE_CHECKING:
    import pandas as pd

LONGEST_ARM = 60
"""Largest number of letters of an arm that is named after its branches; figures show the name."""
BESIDE_CLUSTERS = {"evaluate": "an evaluation", "hits": "a search for hits"}
"""Kinds of results of vectors that are shown beside the clusters of the same vectors, and what errors call them."""
EARLIER = "since/"
"""How the names of the inputs begin that a page compares its results with: since/ARM/SEED/STAGE."""


@dataclass(frozen=True)
class Part:
    """What makes the vectors of a run, or one block of them."""

    block: str
    """The name of the block; empty where vectors have no blocks."""
    embed: Artifact
    model: Artifact | None
    split: Artifact | None
    segment: Artifact
    fetch: Artifact | None
    is_learned: bool
    """Whether its model was trained on cells."""
    trained_on: tuple[Artifact, Artifact] | None = None
    """The split that its model was trained on, and its cells; None where these are not known, or of other images."""

    @property
    def cells(self) -> Artifact:
        """The artifact whose cells were embedded: the split, or else all segmented cells."""
        return self.split if embed_section(self.embed).cells == "split" and self.split else self.segment

    @property
    def trained(self) -> Artifact:
        """The model of a part that has learned."""
        assert self.model is not None
        return self.model

    def words(self, arm: str) -> str:
        """Return what sentences call it: the arm, and its block."""
        return f"“{arm}”, block “{self.block}”" if self.block else f"“{arm}”"

    def file_name(self, kind: str, arm: str) -> str:
        """Return the name of a figure of it."""
        return f"{kind}-{arm}-{self.block}" if self.block else f"{kind}-{arm}"

    def named(self, branch: str) -> str:
        """Return the name of a branch of its training, with the block."""
        return f"{self.block}: {branch}" if self.block else branch

    def chain(self) -> dict[str, Artifact]:
        """Return kind -> artifact for every artifact that it depends on, in the order of stages."""
        made = [self.fetch, self.segment, self.split, self.model, self.embed]
        return {one.card.kind: one for one in made if one is not None}


@dataclass(frozen=True)
class Run:
    """One arm with one seed: its cluster artifact, all artifacts it depends on, and its evaluation and hits, if any."""

    arm: str
    seed: int
    cluster: Artifact
    embed: Artifact
    model: Artifact | None
    split: Artifact | None
    segment: Artifact
    fetch: Artifact | None
    evaluate: Artifact | None
    blocks: tuple[Part, ...] = ()
    """What makes each block of the vectors, in the order of their columns; empty where they have none."""
    hits_artifact: Artifact | None = None
    """The treatments that changed the cells, with their tables, where they were searched for."""

    @property
    def is_baseline(self) -> bool:
        """Whether the arm learns nothing: a baseline, or a network with 0 epochs of training."""
        untrained = self.model is not None and pretrain_section(self.model).epochs == 0
        if blocks := metrics_of(self.embed, EmbedMetrics).blocks:
            return not any(block.learned for block in blocks)
        return untrained or embed_section(self.embed).model in BASELINES

    @property
    def cells(self) -> Artifact:
        """The artifact whose cells were embedded: the split, or else all segmented cells."""
        return self.split if embed_section(self.embed).cells == "split" and self.split else self.segment

    @property
    def parts(self) -> tuple[Part, ...]:
        """What makes each block of the vectors; of vectors without blocks the one part that they are."""
        is_learned = not self.is_baseline and self.model is not None
        trained_on = (self.split, self.segment) if self.split is not None else None
        whole = Part("", self.embed, self.model, self.split, self.segment, self.fetch, is_learned, trained_on)
        return self.blocks or (whole,)

    @property
    def trained(self) -> tuple[Part, ...]:
        """The parts whose model was trained, and is there; empty where nothing was trained."""
        return tuple(part for part in self.parts if part.is_learned and part.model is not None)

    @cached_property
    def clusters(self) -> ClusterMetrics:
        """The metrics of the clustering."""
        return built_of_metrics(self.cluster, ClusterMetrics.from_json, ClusterMetrics)

    @cached_property
    def evaluation(self) -> EvaluationMetrics | None:
        """The metrics of the evaluation, where there is one."""
        if self.evaluate is None:
            return None
        return built_of_metrics(self.evaluate, EvaluationMetrics.from_json, EvaluationMetrics)

    @cached_property
    def hits(self) -> HitsMetrics | None:
        """The metrics of the search for hits, where there is one."""
        if self.hits_artifact is None:
            return None
        return built_of_metrics(self.hits_artifact, HitsMetrics.from_json, HitsMetrics)

    @property
    def found_hits(self) -> Artifact:
        """The hits of a run that has some."""
        assert self.hits_artifact is not None
        return self.hits_artifact

    @cached_property
    def projection_spreads(self) -> dict[str, float]:
        """Branch -> spread of its projections over the last steps of training: 1 is even, 0 is all the same.

        Empty where nothing was trained, and for objectives without projections.
        """
        import pandas as pd

        found: dict[str, float] = {}
        for part in (one for one in self.trained if not is_shared_model(one.trained.card)):
            lines = read_json_lines(part.trained, "metrics.jsonl", dict[str, float | None])
            last = pd.DataFrame(lines).tail(COLLAPSED_STEPS).astype(float)
            spreads = last.filter(regex="/projection_spread$").mean().dropna()
            found |= {part.named(str(name).rpartition("/")[0]): float(value) for name, value in spreads.items()}
        return found

    def chain(self) -> dict[str, Artifact]:
        """Return kind -> artifact for every artifact that the run depends on, in the order of stages."""
        made = [self.fetch, self.segment, self.split, self.model, self.embed, self.cluster, self.evaluate]
        made.append(self.hits_artifact)
        return {one.card.kind: one for one in made if one is not None}


def collect(inputs: Mapping[str, Artifact], store: Store) -> list[Run]:
    """Return one run per arm and seed, in the order of the inputs, which are named ARM/SEED/STAGE."""
    runs = []
    for name, artifact in inputs.items():
        if kind_of_input(name) == "cluster" and not is_earlier(name):
            arm, seed, _ = name.split("/")
            beside = {kind: inputs.get(f"{arm}/{seed}/{kind}") for kind in BESIDE_CLUSTERS}
            runs.append(_run(arm, int(seed), artifact, beside, store))
    return runs


def collect_earlier(inputs: Mapping[str, Artifact], store: Store) -> list[Run]:
    """Return the runs that a page compares its own with; none where it was not asked to."""
    return collect({name.removeprefix(EARLIER): one for name, one in inputs.items() if is_earlier(name)}, store)


def is_earlier(name: str) -> bool:
    """Return whether an input of a report is what it compares its results with; an arm may be called "since", too."""
    return name.startswith(EARLIER) and name.count("/") == 3


def _run(arm: str, seed: int, cluster: Artifact, beside: Mapping[str, Artifact | None], store: Store) -> Run:
    around = store.with_store_of(cluster)
    embed = around.get("embed", input_of(cluster, "embed"))
    whole = _part("", embed, around, is_learned=True)
    blocks = tuple(_blocks_of(whole, around))
    made = (embed, whole.model, whole.split, whole.segment, whole.fetch)
    return Run(arm, seed, cluster, *made, beside.get("evaluate"), blocks, beside.get("hits"))


def _blocks_of(whole: Part, store: Store) -> Iterator[Part]:
    """Yield what makes each block of joined vectors, where its artifact is there.

    What an earlier artifact stands on may be in another store; then its model is not known.
    """
    for block in metrics_of(whole.embed, EmbedMetrics).blocks:
        fingerprint = whole.embed.card.inputs.get(f"{block.name}/embed")
        made = store.find("embed", fingerprint) if fingerprint else None
        if made is None:
            continue
        try:
            yield _part(block.name, made, store, block.learned)
        except UsageError:
            known = (whole.split, whole.segment, whole.fetch)
            yield Part(block.name, made, None, *known, block.learned)


def _part(block: str, embed: Artifact, store: Store, is_learned: bool) -> Part:
    around = store.with_store_of(embed)
    trained = embed.card.inputs.get("model") or embed.card.inputs.get("pretrain")
    model = get_model(around, trained) if trained else None
    kind = embed_section(embed).cells
    cells = around.get(kind, input_of(embed, kind))
    segment = upstream_segment(cells, around)
    source = segment.card.inputs.get("fetch")
    fetch = around.find("fetch", source) if source else None
    trained_on = _trained_on(model, fetch, around) if model is not None else None
    split = cells if kind == "split" else None
    return Part(block, embed, model, split, segment, fetch, is_learned, trained_on)


def _trained_on(model: Artifact, fetch: Artifact | None, store: Store) -> tuple[Artifact, Artifact] | None:
    """Return the split and the cells of a training; None where they are not known, or are not of these images."""
    of_model = model.card.inputs.get("split")
    split = store.find("split", of_model) if of_model else None
    segment = store.find("segment", input_of(split, "segment")) if split is not None else None
    if split is None or segment is None or fetch is None or segment.card.inputs.get("fetch") != fetch.fingerprint:
        return None
    return split, segment


def by_hand(artifacts: Iterable[Artifact], store: Store) -> dict[str, Artifact]:
    """Name the artifacts of a command line ARM/SEED/STAGE; those that differ in the seed only are one arm.

    Raises UsageError for an evaluation or hits whose vectors have no cluster artifact among them.
    """
    given = list({artifact.fingerprint: artifact for artifact in artifacts}.values())
    named: dict[str, Artifact] = {}
    arms: dict[str, list[str]] = {}
    places: dict[str, list[str]] = {}
    for cluster in (one for one in given if one.card.kind == "cluster"):
        run = _run("", 0, cluster, {}, store)
        same = arms.setdefault(arm_words(run), [])
        place = _free_name(_without_seeds(run), _seed_of(run), same, named, arm_words(run))
        named[f"{place}/cluster"] = cluster
        places.setdefault(run.embed.fingerprint, []).append(place)
    for result in (one for one in given if one.card.kind in BESIDE_CLUSTERS):
        found = places.get(result.card.inputs.get("embed", ""), [])
        if not found:
            raise _without_clusters(result)
        named |= {f"{place}/{result.card.kind}": result for place in found}
    return dict(sorted(named.items(), key=_arm_and_seed(named)))


def _without_clusters(result: Artifact) -> UsageError:
    """Return the error of a result whose vectors have no cluster artifact, or none in the store."""
    what = BESIDE_CLUSTERS[result.card.kind]
    if "embed" not in result.card.inputs:
        return UsageError(
            f"{result.path} is {what} of an external table, and the page shows results of cells of images",
            hint=f"read the tables in {result.path}",
        )
    return UsageError(
        f"{result.path} is {what}, but no cluster artifact of the same vectors is given",
        hint="also give a cluster artifact that was made from the same embed artifact",
    )


def _arm_and_seed(named: Mapping[str, Artifact]) -> Callable[[tuple[str, Artifact]], tuple[int, int]]:
    """Return a sorting key: arms in the order in which they were given, seeds by number."""
    arms = list(dict.fromkeys(name.partition("/")[0] for name in named))
    return lambda item: (arms.index(item[0].split("/")[0]), int(item[0].split("/")[1]))


def _free_name(content: str, seed: int, same: list[str], named: Mapping[str, Artifact], name: str) -> str:
    """Return a free ARM/SEED for this content; arms of the same words are numbered, as are runs of the same seed."""
    known = [content == other for other in same]
    for number, fits in enumerate(known):
        place = f"{name}{f'-{number + 1}' if number else ''}/{seed}"
        if fits and f"{place}/cluster" not in named:
            return place
    same.append(content)
    return f"{name}{f'-{len(same)}' if len(same) > 1 else ''}/{seed}"


def arm_words(run: Run) -> str:
    """Return what an arm is called by: its blocks, its branches, or the model of a baseline."""
    if blocks := metrics_of(run.embed, EmbedMetrics).blocks:
        return "+".join(block.name for block in blocks)[:LONGEST_ARM]
    if not run.trained:
        name = embed_section(run.embed).model
        return (name if name in BASELINES else "untrained").replace("/", "-")
    return "+".join(active_branches(run.trained[0].trained)).replace("/", "-")[:LONGEST_ARM] or "trained"


def _without_seeds(run: Run) -> str:
    """Return all settings that make the arm, without seeds, as text to compare."""
    made = [run.cluster, run.embed, *([run.model] if run.model else [])]
    sections = [{key: value for key, value in one.card.section.items() if key != "seed"} for one in made]
    for section in sections:
        if run.model and section.get("model") not in (*BASELINES, "pretrain", None):
            section["model"] = "earlier"
    return json.dumps([sections, run.cells.fingerprint], sort_keys=True)


def _seed_of(run: Run) -> int:
    made = (run.model, run.embed, run.cluster)
    return next((section_of(one, Seeded).seed for one in made if one and "seed" in one.card.section), 0)


def active_branches(model: Artifact) -> dict[str, Branch]:
    """Return name -> branch of the branches with a weight in the loss."""
    return {name: one for name, one in sorted(pretrain_section(model).branches.items()) if one.weight > 0}


def first_seeds(runs: list[Run]) -> list[Run]:
    """Return the first run of every arm, which figures and tables show where they have room for one seed."""
    first: dict[str, Run] = {}
    for one in runs:
        first.setdefault(one.arm, one)
    return list(first.values())


def part_of(run: Run) -> str:
    """Return the part of the split that was clustered, or "all"."""
    return section_of(run.cluster, ClusterSection).part or ("test" if run.split is run.cells else "all")


def drawn_of_kept(run: Run) -> str:
    """Return how many cells the wells are described by, of how many; empty for clusterings of earlier versions."""
    wells = run.clusters.wells
    if wells is None:
        return ""
    at_most = f", at most {embed_section(run.embed).cells_per_well:,} per well"
    return f"{wells.drawn:,} of {wells.kept:,} cells{at_most}"


def has_treatments(run: Run) -> bool:
    """Return whether any field has a control or a compound; else plates, wells and density have no meaning."""
    fields = read_fields(run.segment)
    return bool(fields["control"].any() or fields["compound"].notna().any())


def row_of(run: Run) -> Row:
    """Return all scores of a run; None where a score is not defined."""
    scores = score_row(results_of(run)) | block_scores(run.clusters, run.evaluation)
    return {"arm": run.arm, "seed": run.seed, "baseline": run.is_baseline, **scores}


def results_of(run: Run) -> RunResults:
    """Return what the scores of a run are computed from."""
    return RunResults(run.clusters, run.evaluation, partial(_clustered_cells, run), run.hits)


def _clustered_cells(run: Run) -> pd.DataFrame:
    """Return cluster, plate, well and control, one row per cell that the clusters are fitted and scored on."""
    from cellssl.stages.shared.cell_tables import check_cells_known

    known = {"Metadata_cell_id": "cell_id", "Metadata_Plate": "plate", "Metadata_Well": "well"}
    known["Metadata_control"] = "control"
    path = run.embed.file("embeddings.parquet")
    needed = {name: OF_CELLS[ours] for name, ours in known.items()}
    cells = read_table(path, needed, only=True).rename(columns=known)  # the vectors may be gigabytes
    assigned = scored_assignments(run.cluster)
    check_cells_known(assigned["cell_id"], cells["cell_id"], run.cluster, run.embed)
    return assigned.merge(cells, on="cell_id", how="left", validate="one_to_one")


def scored_assignments(cluster: Artifact) -> pd.DataFrame:
    """Return the rows of assignments.parquet of the cells that the clusters are fitted and scored on."""
    assigned = read_assignments(cluster)
    return assigned[assigned["scored"]].reset_index(drop=True) if "scored" in assigned else assigned
