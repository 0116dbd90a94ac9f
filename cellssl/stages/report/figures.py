"""figures: runs in, the figures of the page out: bars, confusions, maps, montages, doses, views and trainings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cellssl.artifacts.tables import read_cells, read_table
from cellssl.engine.build import Job
from cellssl.reporting import theme
from cellssl.reporting.figures import cells, confusion, dose_response, score_bars
from cellssl.reporting.html import Block, Folded, Heading, Paragraph, Picture, Section
from cellssl.reporting.natural_sort import natural_key
from cellssl.stages.cluster.map import MAP_CELLS
from cellssl.stages.report.runs import SCHEMES, Row, Run, active_branches, first_seeds
from cellssl.stages.shared.cell_tables import chosen_cells
from cellssl.stages.shared.scaled_crops import common_pixel_um, scaled_crops

FILES = {"montage.png": theme.photo, "map.png": theme.drawing, "doses.png": theme.drawing}
"""Figures of a cluster artifact, and how they are made small."""
PLACES = {
    "pca": "their first two principal components",
    "tsne": "a t-SNE of their vectors",
    "umap": "a UMAP of their vectors",
}
"""What a map is, by `cluster.map`."""


def ami_bars(job: Job, rows: list[Row]) -> list[Block]:
    """AMI with the label, a bar an arm."""
    scored = [row for row in rows if row["ami"] is not None]
    if not scored:
        return []
    baselines = {row["arm"] for row in rows if row["baseline"]}
    bars = [
        score_bars.Bar(arm, [row["ami"] for row in scored if row["arm"] == arm], arm in baselines)
        for arm in dict.fromkeys(row["arm"] for row in scored)
    ]
    shuffled = float(np.mean([row["shuffled"] for row in scored]))
    figure = score_bars.bars(bars, "AMI between clusters and label", shuffled)
    caption = "One point a seed; the bar is their mean, the whisker their standard deviation. Dashed: shuffled labels."
    return [drawn(job, "ami.png", figure, caption, theme.drawing)]


def confusions(job: Job, runs: list[Run]) -> list[Block]:
    """What the linear probe takes for what, in the hardest scheme that there is; first seed of every arm."""
    tables = {}
    schemes = set()
    for one in first_seeds([each for each in runs if each.evaluate]):
        found = one.evaluate.card.metrics if one.evaluate else {}
        scheme = next((name for name in (*SCHEMES[1:], SCHEMES[0]) if name in found), None)
        if scheme is not None:
            told = found[scheme]["linear"]
            tables[one.arm] = _in_order(told["classes"], np.array(told["confusion"]))
            schemes.add(scheme.replace("_", " "))
    if not tables:
        return []
    caption = (
        f"Cells by their label and by what the linear probe told ({' or '.join(sorted(schemes))}, first seed); shares "
        "are of the true class."
    )
    return [drawn(job, "confusions.png", confusion.confusions(tables), caption, theme.drawing)]


def _in_order(classes: Sequence[str], counts: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Class 2 before class 10."""
    order = sorted(range(len(classes)), key=lambda place: natural_key(classes[place]))
    return [classes[place] for place in order], counts[np.ix_(order, order)]


def clusters(runs: list[Run]) -> list[Section]:
    """Of the first seed of every arm the pictures of its cluster artifact; those of baselines are folded."""
    shown: list[Block] = []
    for one in first_seeds(runs):
        pictures = [_of_cluster(one, name) for name in FILES if name in one.cluster.card.files]
        title = f"“{one.arm}”, seed {one.seed}"
        shown.append(Folded(f"Baseline {title}", pictures) if one.is_baseline else Heading(title))
        shown += [] if one.is_baseline else pictures
    words = (
        "Clusters are numbered by size, in every arm and seed anew. On a map neighbourhoods mean something; sizes of "
        "groups and distances between them do not always."
    )
    return [Section("Clusters", [Paragraph(words), *shown])]


def _of_cluster(run: Run, name: str) -> Block:
    alt = f"{name.removesuffix('.png')} of the arm {run.arm}, seed {run.seed}"
    caption = f"“{run.arm}”: {_caption(run, name)}"
    return _picture(run.cluster.file(name).read_bytes(), caption, alt, FILES[name])


def _caption(run: Run, name: str) -> str:
    """What a figure of a cluster artifact shows."""
    found = run.cluster.card.metrics
    match name:
        case "montage.png":
            return f"The cells nearest each centroid, the nearest first. Channels: {_colours(run)}."
        case "map.png":
            of = f"{MAP_CELLS:,} of {found['cells']:,} cells, drawn by lot," if found["cells"] > MAP_CELLS else "Cells"
            return (
                f"{of} on {PLACES[run.cluster.card.section['map']]}: a point each, at the same place in every panel, "
                "coloured by its cluster and by what is known of it."
            )
    which = "Share of every cluster against dose"
    if found["k"] > len(theme.COLOURS):
        which = (
            f"Share of cells against dose: with each compound the {dose_response.CURVES_SHOWN} clusters of {found['k']} that "
            "move most (wells.csv has all)"
        )
    return f"{which}; one point a well, at the left the control wells with their spread."


def views(job: Job, runs: list[Run]) -> list[Section]:
    """What each branch of the arms asks the model to ignore; branches that look alike are shown once."""
    blocks: list[Block] = []
    seen: set[str] = set()
    for one in first_seeds(runs):
        branches = active_branches(one.trained) if one.trained else {}
        looks = {name: json.dumps(branch.get("view") or branch.get("views")) for name, branch in branches.items()}
        new = [name for name, look in looks.items() if look not in seen]
        if new:
            seen |= set(looks.values())
            blocks.append(_view_montage(job, one, new))
    if not blocks:
        return []
    words = (
        "Each row is one cell: as it is, then as the branches show it to the network. "
        "Whatever differs within a row, the model learns to ignore."
    )
    return [Section("Views", [Paragraph(words), *blocks])]


def _view_montage(job: Job, one: Run, names: list[str]) -> Block:
    import torch

    from cellssl.imaging.colour import named_colours, to_rgb
    from cellssl.learning.view import View
    from cellssl.randomness import Keys, cell_keys
    from cellssl.stages.pretrain.settings import Settings as PretrainSettings

    assert one.trained is not None
    settings = PretrainSettings.model_validate({"branches": one.trained.card.section["branches"]})
    chosen = chosen_cells(one.cells, one.segment)
    chosen = chosen.iloc[:: max(1, len(chosen) // job.settings.view_cells)].head(job.settings.view_cells)
    crops = scaled_crops(one.segment, job.context.store, chosen)
    pixels = crops.read(np.arange(len(crops)))
    keys, colours = Keys(torch.from_numpy(cell_keys(chosen["cell_id"]))), named_colours(crops.channels)
    draws = {}
    for name in names:
        branch = settings.active()[name]
        view = View(branch.view_transforms(1)[0])
        looks = [
            to_rgb(_bytes(view.render(torch.from_numpy(pixels), keys.fold(name, draw), crops.shape[-1])), colours)
            for draw in range(job.settings.view_draws)
        ]
        draws[f"{name} (weight {branch.weight:g})"] = np.stack(looks, axis=1)
    figure = cells.views(to_rgb(pixels, colours), draws, common_pixel_um(chosen))
    return drawn(job, f"views-{one.arm}.png", figure, f"Views of “{one.arm}”: {', '.join(names)}.", theme.photo)


def training(job: Job, runs: list[Run]) -> list[Section]:
    """Losses and gauges of the first seed of every trained arm."""
    from cellssl.stages.pretrain.curves import training_curves

    blocks: list[Block] = []
    for one in first_seeds(runs):
        if one.trained is None:
            continue
        figure = training_curves(one.trained.file("metrics.jsonl"))
        caption = f"Training of “{one.arm}”, seed {one.seed}: every branch on its own."
        blocks.append(drawn(job, f"curves-{one.arm}.png", figure, caption, theme.drawing))
    if not blocks:
        return []
    words = (
        "The loss should fall below the dashed line, which is that of whoever does not look; a spread of projections "
        "or an effective rank that falls towards 0 or 1 says that the network sees all cells alike."
    )
    return [Section("Training", [Paragraph(words), *blocks])]


def sheet(job: Job, run: Run) -> list[Block]:
    """What the cells look like."""
    name = "contact-sheet.png"
    if name not in run.segment.card.files:
        return []
    picture = theme.photo(run.segment.file(name).read_bytes())
    caption = f"Cells from all plates, as every model sees them. Channels: {_colours(run)}.{_side(job, run)}"
    return [Picture([picture], caption, "a sheet of cells")]


def _side(job: Job, run: Run) -> str:
    """How wide a square of the sheet is, as it has no scale bar."""
    cells = read_cells(run.segment)
    pixel_um = common_pixel_um(cells)
    if pixel_um is None:
        return ""
    side_px = scaled_crops(run.segment, job.context.store, cells.head(1)).shape[-1]
    return f" Each square is {pixel_um * side_px:.3g} µm wide."


def drawn(job: Job, name: str, figure: Any, caption: str, small: Callable[[bytes], bytes]) -> Block:
    """The figure as a file of the artifact, and a smaller copy for the page."""
    png = theme.png(figure)
    job.draft.file(name).write_bytes(png)
    return _picture(png, caption, caption, small)


def _picture(png: bytes, caption: str, alt: str, small: Callable[[bytes], bytes]) -> Picture:
    return Picture([small(strip) for strip in theme.strips(png)], caption, alt, theme.page_share(png))


def _colours(run: Run) -> str:
    """The colour that every channel is shown in."""
    from cellssl.imaging.colour import colour_words

    channels = read_table(run.segment.file("scale.parquet"))["channel"]
    return colour_words(list(dict.fromkeys(channels.astype(str))))


def _bytes(views: Any) -> np.ndarray:
    shown: np.ndarray = (views.clamp(0, 1) * 255).round().byte().numpy()
    return shown
