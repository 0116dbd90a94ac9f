"""report: cluster artifacts of all arms and seeds in, one self-contained HTML page with its figures and table out."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from cellssl.artifacts.card import kind_of_input
from cellssl.artifacts.store import Artifact, Store
from cellssl.events import Event, Progress
from cellssl.settings import Strict
from cellssl.stages._cells import scaled_crops, segment_below
from cellssl.stages._make import Job, Metrics
from cellssl.stages.embed import BASELINES, chosen_cells, read_embeddings

if TYPE_CHECKING:
    from cellssl.reporting.page import Block, Section

ALGORITHM = 1
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


class Settings(Strict):
    """One page of what came out."""

    title: str | None = None
    """Over the page; the recipe's name where nothing is given."""
    paper_ami: dict[str, str] = Field(default_factory=dict)
    """What a paper gives for an arm, shown beside ours: arm -> text such as "0.51 ± 0.02"."""
    view_cells: int = Field(3, ge=1)
    """Cells whose views are shown."""
    view_draws: int = Field(4, ge=1)
    """Draws of every branch's view."""


@dataclass(frozen=True)
class Run:
    """One arm with one seed: its cluster artifact, what it stands on, and its accuracies where there are any."""

    arm: str
    seed: int
    cluster: Artifact
    embed: Artifact
    cells: Artifact
    model: Artifact | None
    evaluate: Artifact | None

    @property
    def is_baseline(self) -> bool:
        """Whether nothing was learned."""
        untrained = self.model is not None and self.model.card.section["epochs"] == 0
        return untrained or self.embed.card.section["model"] in BASELINES


def inputs(settings: Settings) -> tuple[str, ...]:
    """What a report stands on depends on arms and seeds, so the command line plans it."""
    return ()


def seeded(settings: Settings) -> bool:
    """It aggregates over seeds."""
    return False


def outside(settings: Settings) -> list[Path]:
    """No files of the user."""
    return []


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Collect scores, draw, and write the page."""
    from cellssl.reporting.page import Page, render

    runs = collect(job.inputs, job.bench.store)
    rows = [scores_of(one) for one in runs]
    title = job.settings.title or job.card.section["recipe"]
    sections = []
    parts = (_results, _clusters, _views, _training, _cells, _provenance)
    for done, part in enumerate(parts):
        yield Progress(done, len(parts), "sections", part.__name__.strip("_"))
        sections += part(job, runs, rows)
    header, table = result_table(rows, job.settings.paper_ami)
    _write_json(job, "table.json", {"header": header, "rows": table})
    _write_json(job, "scores.json", rows)
    page = render(Page(title, lead(runs, rows), sections))
    job.draft.file("report.html").write_text(page, encoding="utf-8")
    return {"runs": len(runs), "arms": len({one.arm for one in runs}), "table": [header, *table]}


def collect(inputs: Mapping[str, Artifact], store: Store) -> list[Run]:
    """Every arm and seed with all that its clusters stand on, in the order of the inputs."""
    runs = []
    for name, artifact in inputs.items():
        if kind_of_input(name) != "cluster":
            continue
        arm, seed, _ = name.split("/")
        around = store.beside(artifact)
        embed = around.get("embed", artifact.card.inputs["embed"])
        kind = embed.card.section["cells"]
        trained = embed.card.inputs.get("model") or embed.card.inputs.get("pretrain")
        model = around.get("pretrain", trained) if trained else None
        cells = around.get(kind, embed.card.inputs[kind])
        runs.append(Run(arm, int(seed), artifact, embed, cells, model, inputs.get(f"{arm}/{seed}/evaluate")))
    return runs


def scores_of(one: Run) -> dict[str, Any]:
    """One row of numbers; None where a score is not defined."""
    card = one.cluster.card.metrics
    against = card["against"]
    row = {
        "arm": one.arm,
        "seed": one.seed,
        "baseline": one.is_baseline,
        "ami": against.get("label", {}).get("ami"),
        "ami_max": against.get("label", {}).get("ami_max"),
        "shuffled": card.get("shuffled_ami", {}).get("mean"),
        "ami_plate": against.get("plate", {}).get("ami"),
        "ami_density": against.get("density", {}).get("ami"),
        "ami_phenotype": against.get("true_phenotype", {}).get("ami"),
        "ceiling": card.get("ceiling_ami"),
        "silhouette": card["silhouette"],
    }
    if one.evaluate is not None:
        accuracy = one.evaluate.card.metrics
        row |= {name: accuracy[name]["balanced_accuracy"] for name in ("knn", "linear") if name in accuracy}
    return row


def result_table(rows: list[dict[str, Any]], paper: Mapping[str, str]) -> tuple[list[str], list[list[str]]]:
    """A row an arm: mean and standard deviation over seeds; the paper's number where it gives one."""
    from cellssl.reporting.summary import aggregate, score_table

    shown = {name: head for name, head in COLUMNS.items() if any(row.get(name) is not None for row in rows)}
    header, table = score_table(aggregate(rows, list(shown)), shown)
    if paper:
        header = [*header, "AMI in the paper"]
        table = [[*row, paper.get(row[0], "–")] for row in table]
    return header, table


def lead(runs: list[Run], rows: list[dict[str, Any]]) -> list[str]:
    """What was compared and what came out, in plain words."""
    from cellssl.reporting import summary

    trained = list(dict.fromkeys(row["arm"] for row in rows if not row["baseline"]))
    baselines = list(dict.fromkeys(row["arm"] for row in rows if row["baseline"]))
    spreads = {scored.arm: scored.spreads for scored in summary.aggregate(rows, list(COLUMNS))}
    words = [_what_was_compared(runs)]
    for arm in trained:
        nuisances = {name: spreads[arm][f"ami_{name}"] for name in ("plate", "density")}
        what = f"with “{arm}”, treated and untreated cells"
        words.append(summary.separation(what, spreads[arm]["ami"], spreads[arm]["shuffled"], nuisances))
    if any(row["ami"] is not None for row in rows):
        words.append(summary.best_against_baselines(rows, baselines, "ami"))
    ceilings = [row["ceiling"] for row in rows if row["ceiling"] is not None]
    if ceilings:
        words.append(
            f"Perfect eyes would reach an AMI of {np.mean(ceilings):.2f} on these simulated cells, "
            "because many treated cells look untreated."
        )
    return words


def _what_was_compared(runs: list[Run]) -> str:
    first = runs[0]
    arms = len({one.arm for one in runs})
    cells = first.cluster.card.metrics["cells"]
    part = first.cluster.card.section["part"] or ("test" if first.cells.card.kind == "split" else "all")
    k = first.cluster.card.metrics["k"]
    return (
        f"{arms} arms with {len({one.seed for one in runs})} seeds each; {cells:,} cells of the part “{part}” "
        f"in {k} clusters. AMI is 0 for chance and 1 for full agreement; ± is the standard deviation over seeds."
    )


def _results(job: Job, runs: list[Run], rows: list[dict[str, Any]]) -> list[Section]:
    from cellssl.reporting import figures
    from cellssl.reporting.page import Section, Table

    header, table = result_table(rows, job.settings.paper_ami)
    blocks: list[Block] = [Table(header, table, "Every arm: mean ± standard deviation over seeds.")]
    scored = [row for row in rows if row["ami"] is not None]
    if scored:
        bars = [
            figures.Bar(arm, [row["ami"] for row in scored if row["arm"] == arm], arm in _baselines(rows))
            for arm in dict.fromkeys(row["arm"] for row in scored)
        ]
        shuffled = float(np.mean([row["shuffled"] for row in scored]))
        figure = figures.bars(bars, "AMI between clusters and label", shuffled)
        caption = "One point a seed, the bar is their mean. The dashed line is what shuffled labels give."
        blocks.append(_picture(job, "ami.png", figure, caption))
    names = ["arm", "seed", *[name for name in COLUMNS if any(row.get(name) is not None for row in rows)]]
    blocks.append(Table(names, [[row.get(name) for name in names] for row in rows], "Every run."))
    return [Section("What came out", blocks)]


def _clusters(job: Job, runs: list[Run], rows: list[dict[str, Any]]) -> list[Section]:
    """Of the first seed of every arm: the cells nearest each centroid, and the plane of the embeddings."""
    from cellssl.reporting.page import Paragraph, Picture, Section

    sections = []
    for one in _first_seeds(runs):
        montage = one.cluster.file("montage.png").read_bytes()
        caption = "The cells nearest each centroid, the nearest first."
        blocks: list[Block] = [Picture(montage, caption, f"cells of every cluster of {one.arm}")]
        blocks.append(_scatter(job, one))
        doses = _doses(job, one)
        blocks += [doses] if doses else []
        sections.append(Section(f"Clusters of “{one.arm}”, seed {one.seed}", blocks))
    if not sections:
        sections.append(Section("Clusters", [Paragraph("There are none.")]))
    return sections


def _scatter(job: Job, one: Run) -> Block:
    import pandas as pd

    from cellssl.artifacts.tables import read_table
    from cellssl.profiling.plane import principal_plane
    from cellssl.reporting import figures

    cells, vectors = read_embeddings(one.embed)
    assigned = read_table(one.cluster.file("assignments.parquet")).set_index("cell_id")["cluster"]
    here = cells["cell_id"].isin(assigned.index).to_numpy()
    cells, vectors = cells[here], vectors[here]
    plane = principal_plane(vectors)
    colourings: dict[str, Any] = {"cluster": assigned.loc[cells["cell_id"]].to_numpy()}
    for name in ("label", "plate", "true_phenotype"):
        if name in cells and cells[name].nunique() > 1:
            colourings[name.replace("_", " ")] = [None if pd.isna(value) else value for value in cells[name]]
    names = tuple(f"component {i + 1} ({share:.0%})" for i, share in enumerate(plane.explained))
    figure = figures.scatter(plane.points, colourings, (names[0], names[1]))
    caption = "The embeddings on their two principal components, the same points in every panel."
    return _picture(job, f"plane-{one.arm}.png", figure, caption)


def _doses(job: Job, one: Run) -> Block | None:
    import pandas as pd

    from cellssl.reporting import figures

    wells = pd.read_csv(one.cluster.file("wells.csv"), dtype={"compound": "string"})
    if wells.get("dose_micromolar") is None or wells["dose_micromolar"].nunique() < 3:
        return None
    shares = wells[[name for name in wells.columns if name.startswith("share_of_cluster_")]].to_numpy(float)
    compound = [None if pd.isna(name) else str(name) for name in wells["compound"]]
    control = wells["control"].to_numpy(bool)
    figure = figures.dose_curves(wells["dose_micromolar"].to_numpy(float), shares, compound, control)
    return _picture(job, f"doses-{one.arm}.png", figure, "Share of every cluster against dose, one point a well.")


def _views(job: Job, runs: list[Run], rows: list[dict[str, Any]]) -> list[Section]:
    """What each branch of the arms asks the model to ignore."""
    from cellssl.reporting.page import Paragraph, Section

    blocks: list[Block] = []
    seen: set[str] = set()
    for one in _first_seeds(runs):
        if one.model is None or one.model.card.section["epochs"] == 0:
            continue
        branches = {name: b for name, b in one.model.card.section["branches"].items() if b["weight"] > 0}
        key = json.dumps([b.get("view") or b.get("views") for b in branches.values()], sort_keys=True)
        if key not in seen:
            seen.add(key)
            blocks.append(_view_montage(job, one))
    if not blocks:
        return []
    words = (
        "Each row is one cell: as it is, then as the branches show it. "
        "Whatever differs within a row, the model learns to ignore."
    )
    return [Section("Views", [Paragraph(words), *blocks])]


def _view_montage(job: Job, one: Run) -> Block:
    import torch

    from cellssl.imaging.colour import named_colours, to_rgb
    from cellssl.learning.view import View
    from cellssl.randomness import Keys, cell_keys
    from cellssl.reporting import figures
    from cellssl.stages.pretrain import Settings as PretrainSettings

    assert one.model is not None
    model = one.model.card
    settings = PretrainSettings.model_validate({"branches": model.section["branches"]})
    segment = segment_below(one.cells, job.bench.store)
    chosen = chosen_cells(one.cells, segment)
    chosen = chosen.iloc[:: max(1, len(chosen) // job.settings.view_cells)].head(job.settings.view_cells)
    crops = scaled_crops(segment, job.bench.store, chosen)
    pixels = crops.read(np.arange(len(crops)))
    keys, colours = Keys(torch.from_numpy(cell_keys(chosen["cell_id"]))), named_colours(crops.channels)
    draws = {}
    for name, branch in settings.active().items():
        view = View(branch.drawn(1)[0])
        drawn = [
            to_rgb(_bytes(view.render(torch.from_numpy(pixels), keys.fold(name, draw), crops.shape[-1])), colours)
            for draw in range(job.settings.view_draws)
        ]
        draws[f"{name} (weight {branch.weight:g})"] = np.stack(drawn, axis=1)
    figure = figures.views(to_rgb(pixels, colours), draws, _pixel_um(chosen))
    return _picture(job, f"views-{one.arm}.png", figure, f"Views of the arm “{one.arm}”.")


def _training(job: Job, runs: list[Run], rows: list[dict[str, Any]]) -> list[Section]:
    """Losses and gauges of the first seed of every trained arm."""
    from cellssl.reporting.page import Section
    from cellssl.stages._curves import training_curves

    blocks: list[Block] = []
    for one in _first_seeds(runs):
        if one.model is None or one.model.card.section["epochs"] == 0:
            continue
        figure = training_curves(one.model.file("metrics.jsonl"))
        caption = f"Training of “{one.arm}”, seed {one.seed}: every branch on its own."
        blocks.append(_picture(job, f"curves-{one.arm}.png", figure, caption))
    return [Section("Training", blocks)] if blocks else []


def _cells(job: Job, runs: list[Run], rows: list[dict[str, Any]]) -> list[Section]:
    """Counts that balance, and what the cells look like."""
    from cellssl.reporting.page import Bullets, Picture, Section, Table

    one = runs[0]
    segment = segment_below(one.cells, job.bench.store)
    counts = [[name, value] for name, value in segment.card.metrics.items()]
    blocks: list[Block] = [Table(["count", "number"], counts, "detected = kept + every other reason.")]
    if one.cells.card.kind == "split":
        split = one.cells.card.metrics
        parts = [[name, value] for name, value in split["counts"].items()]
        blocks.append(Table(["part / label", "cells"], parts, "The split."))
        blocks.append(Bullets([f"{name.replace('_', ' ')}: {value}" for name, value in split["leaks"].items()]))
    sheet = segment.file("contact-sheet.png").read_bytes()
    blocks.append(Picture(sheet, "Cells from all plates, as every model sees them.", "a sheet of 64 cells"))
    return [Section("Cells", blocks)]


def _provenance(job: Job, runs: list[Run], rows: list[dict[str, Any]]) -> list[Section]:
    """Which artifacts the numbers come from, and the settings in full."""
    from cellssl.reporting.page import Details, Section, Table

    header = ["arm", "seed", "cells", "model", "embed", "cluster"]
    table = [
        [
            one.arm,
            one.seed,
            f"{one.cells.card.kind} {one.cells.fingerprint}",
            one.model.fingerprint if one.model else one.embed.card.section["model"],
            one.embed.fingerprint,
            one.cluster.fingerprint,
        ]
        for one in runs
    ]
    blocks: list[Block] = [Table(header, table, "Fingerprints; cellssl verify checks their bytes.")]
    for one in _first_seeds(runs):
        chain = [one.cells, *([one.model] if one.model else []), one.embed, one.cluster]
        text = "\n".join(f"[{a.card.kind}] {json.dumps(a.card.section, indent=1, sort_keys=True)}" for a in chain)
        blocks.append(Details(f"All settings of “{one.arm}”", text))
    return [Section("Where it comes from", blocks)]


def _first_seeds(runs: list[Run]) -> list[Run]:
    first: dict[str, Run] = {}
    for one in runs:
        first.setdefault(one.arm, one)
    return list(first.values())


def _baselines(rows: list[dict[str, Any]]) -> set[str]:
    return {row["arm"] for row in rows if row["baseline"]}


def _bytes(views: Any) -> np.ndarray:
    shown: np.ndarray = (views.clamp(0, 1) * 255).round().byte().numpy()
    return shown


def _pixel_um(cells: Any) -> float | None:
    size = cells["pixel_um"].iloc[0]
    return None if np.isnan(size) else float(size)


def _picture(job: Job, name: str, figure: Any, caption: str) -> Block:
    from cellssl.reporting import style
    from cellssl.reporting.page import Picture

    png = style.png(figure)
    job.draft.file(name).write_bytes(png)
    return Picture(png, caption, caption)


def _write_json(job: Job, name: str, content: Any) -> None:
    job.draft.file(name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
