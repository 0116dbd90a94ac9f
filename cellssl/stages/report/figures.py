"""figures: runs in; the figures of the page (bars, confusion, maps, montages, doses, views, training) out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.card import is_shared_model
from cellssl.artifacts.contents import not_as_written, read_json_lines
from cellssl.artifacts.tables import read_cells
from cellssl.counting import counted
from cellssl.engine.build import Job
from cellssl.reporting import theme
from cellssl.reporting.figures import cells, confusion, score_bars
from cellssl.reporting.html import Block, Paragraph, Section
from cellssl.reporting.natural_sort import natural_key
from cellssl.stages.evaluate.metrics import SCHEMES
from cellssl.stages.pretrain.card_settings import pretrain_settings
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.cluster_figures import channel_colours
from cellssl.stages.report.figure_files import write_figure, write_picture
from cellssl.stages.report.runs import Part, Run, active_branches, first_seeds
from cellssl.stages.segment.contact_sheet import SHEET, shown_cells, shows_fields
from cellssl.stages.shared.cell_tables import chosen_cells
from cellssl.stages.shared.scaled_crops import common_pixel_um, scaled_crops

if TYPE_CHECKING:
    import pandas as pd


def ami_bars(job: Job, scores: ScoresByArm) -> list[Block]:
    """Return the figure of the AMI with the label, one bar per arm."""
    import pandas as pd

    scored = [row for row in scores.rows if row["ami"] is not None]
    if not scored:
        return []
    drawn = pd.DataFrame(scored)[["arm", "seed", "baseline", "ami", "shuffled"]]
    bars = [
        score_bars.Bar(arm, [row["ami"] for row in scored if row["arm"] == arm], arm in scores.baselines)
        for arm in dict.fromkeys(row["arm"] for row in scored)
    ]
    shuffled = float(np.mean([row["shuffled"] for row in scored]))
    figure = score_bars.bars(bars, "AMI of clusters and label", shuffled)
    caption = "One point per seed; bar: mean; whisker: standard deviation. Dashed line: shuffled labels."
    return [write_figure(job, "ami", figure, caption, theme.drawing, drawn)]


def confusions(job: Job, runs: list[Run]) -> list[Block]:
    """Return confusion matrices of the linear probe in the hardest scheme that there is; first seed of every arm."""
    tables = {}
    schemes = {}
    for run in first_seeds([each for each in runs if each.evaluate]):
        found = run.evaluation.schemes if run.evaluation else {}
        scheme = next((name for name in (*SCHEMES[1:], SCHEMES[0]) if name in found), None)
        if scheme is not None:
            linear = found[scheme].classifiers["linear"]
            tables[run.arm] = _in_order(linear.classes, np.array(linear.confusion))
            schemes[run.arm] = scheme.replace("_", " ")
    if not tables:
        return []
    used = sorted(set(schemes.values()))
    caption = (
        f"Predictions of a linear classifier ({' or '.join(used)}, first seed). Rows: true label; columns: predicted; "
        "each row adds up to 100 %."
    )
    figure, drawn = confusion.confusions(tables), _squares_drawn(tables, schemes)
    return [write_figure(job, "confusions", figure, caption, theme.drawing, drawn)]


def _squares_drawn(tables: Mapping[str, tuple[list[str], np.ndarray]], schemes: Mapping[str, str]) -> pd.DataFrame:
    """Return one row per square of confusion matrices."""
    import pandas as pd

    rows = [
        (arm, schemes[arm], label, predicted, int(counts[row, column]), counts[row, column] / max(1, counts[row].sum()))
        for arm, (classes, counts) in tables.items()
        for row, label in enumerate(classes)
        for column, predicted in enumerate(classes)
    ]
    return pd.DataFrame(rows, columns=["arm", "scheme", "label", "prediction", "cells", "share_of_label"])


def _in_order(classes: Sequence[str], counts: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Return classes and counts in natural order: class 2 before class 10."""
    order = sorted(range(len(classes)), key=lambda place: natural_key(classes[place]))
    return [classes[place] for place in order], counts[np.ix_(order, order)]


def views(job: Job, runs: list[Run], vectors: Sequence[str]) -> list[Section]:
    """Return the section on which differences each branch makes the model ignore; equal views are shown once.

    Figures of the arms in `vectors` are SVG and PDF too, here and below.
    """
    blocks: list[Block] = []
    seen: set[str] = set()
    for run in first_seeds(runs):
        for part in run.trained:
            branches = active_branches(part.trained)
            settings = {name: json.dumps(branch.view or branch.views) for name, branch in branches.items()}
            new = [name for name, view in settings.items() if view not in seen]
            if new:
                seen |= set(settings.values())
                blocks.append(_view_montage(job, run.arm, part, new, vectors=run.arm in vectors))
    if not blocks:
        return []
    text = (
        "Each row is one cell: unchanged, then as each branch shows it to the network. "
        "The model learns to ignore whatever differs within a row."
    )
    return [Section("Views", [Paragraph(text), *blocks], anchor="views", is_appendix=True)]


def _view_montage(job: Job, arm: str, part: Part, names: list[str], *, vectors: bool) -> Block:
    """Return the figure of a few cells with random views of some branches."""
    import torch

    from cellssl.imaging.colour import colour_words, named_colours, to_rgb
    from cellssl.learning.view import View
    from cellssl.randomness import Keys, cell_keys

    settings = pretrain_settings(part.trained, "branches")
    chosen = chosen_cells(part.cells, part.segment)
    chosen = chosen.iloc[:: max(1, len(chosen) // job.settings.view_cells)].head(job.settings.view_cells)
    crops = scaled_crops(part.segment, job.context.store, chosen)
    pixels = crops.read(np.arange(len(crops)))
    keys, colours = Keys(torch.from_numpy(cell_keys(chosen["cell_id"]))), named_colours(crops.channels)
    draws = {}
    for name in names:
        branch = settings.active()[name]
        view = View(branch.view_transforms(1)[0])
        rendered = [
            to_rgb(_bytes(view.render(torch.from_numpy(pixels), keys.fold(name, draw), crops.shape[-1])), colours)
            for draw in range(job.settings.view_draws)
        ]
        draws[f"{name} (weight {branch.weight:g})"] = np.stack(rendered, axis=1)
    figure = cells.views(to_rgb(pixels, colours), draws, common_pixel_um(chosen))
    caption = (
        f"Views of {part.words(arm)}: n = {len(chosen)} cells (one per row), {job.settings.view_draws} random views of "
        f"each by {', '.join(names)}. Channels: {colour_words(crops.channels)}."
    )
    drawn = _views_drawn(chosen, {name: settings.active()[name].weight for name in names}, job.settings.view_draws)
    return write_figure(job, part.file_name("views", arm), figure, caption, theme.photo, drawn, vectors=vectors)


def _views_drawn(chosen: pd.DataFrame, weights: Mapping[str, float], draws: int) -> pd.DataFrame:
    """Return one row per picture of a figure of views, row by row; draw 0 is the unchanged cell."""
    import pandas as pd

    each = [("", None, 0), *((name, weight, draw + 1) for name, weight in weights.items() for draw in range(draws))]
    shown = pd.DataFrame(each, columns=["branch", "weight", "draw"])
    return _known_of(chosen).merge(shown, how="cross")


def training(job: Job, runs: list[Run], vectors: Sequence[str]) -> list[Section]:
    """Return the section with losses and diagnostics of the first seed of every trained arm."""
    by_model: dict[str, list[tuple[Run, Part]]] = {}
    for run in first_seeds(runs):
        for part in run.trained:
            by_model.setdefault(part.trained.fingerprint, []).append((run, part))
    blocks = [_curves(job, shared, vectors) for shared in by_model.values()]
    if not blocks:
        return []
    text = (
        "The loss should fall below the dashed line, that of a network that ignores its input. If the curve “spread of "
        "projections” falls to 0, or “effective rank” to 1, the network gives all cells nearly the same vector."
    )
    return [Section("Training", [Paragraph(text), *blocks], anchor="training", is_appendix=True)]


def _curves(job: Job, shared: Sequence[tuple[Run, Part]], vectors: Sequence[str]) -> Block:
    """Return the figure of the losses and diagnostics of a training, which arms may share."""
    from cellssl.reporting.figures.training import running_mean_steps
    from cellssl.stages.pretrain.curves import drawn_metrics, training_curves

    run, part = shared[0]
    model = part.trained
    if is_shared_model(model.card):
        arms = " and ".join(part.words(run.arm) for run, part in shared)
        return Paragraph(f"The curves of {arms} are not known: a shared model comes without the log of its training.")
    lines = read_json_lines(model, "metrics.jsonl", dict[str, float | None])
    try:
        figure = training_curves(lines)
    except KeyError as error:
        raise not_as_written(model, "metrics.jsonl", f"no line has {error}") from error
    arms = " and ".join(part.words(run.arm) for run, part in shared)
    window = running_mean_steps(len(lines))
    smooth = f"; pale: every step, dark: the running mean of {window} steps" if window > 1 else ""
    caption = f"Training of {arms}, seed {run.seed}: one line per branch; n = {counted(len(lines), 'step')}{smooth}."
    name = part.file_name("curves", run.arm)
    is_vector = any(one.arm in vectors for one, _ in shared)
    return write_figure(job, name, figure, caption, theme.drawing, drawn_metrics(lines), vectors=is_vector)


def sheet(job: Job, run: Run, name: str = "cells") -> list[Block]:
    """Return the contact sheet: whole fields with what became of their nuclei, and what the cells look like.

    `name` is that of its files.
    """
    if SHEET not in run.segment.card.files:
        return []
    png = run.segment.file(SHEET).read_bytes()
    drawn, cells = _known_of(shown_cells(run.segment)), channels_and_side(job, run)
    if not shows_fields(run.segment):
        caption = f"Cells from all plates, as the models get them. {cells}"
        return [write_picture(job, name, png, caption, "a sheet of cells", drawn)]
    caption = (
        "Fields with an outline around every nucleus that was found. Its colour says whether it became a cell, or why "
        "it was dropped; the numbers beside the colours are those of all fields. Where nuclei are small, the part "
        f"within the white frame is shown larger beside the field. Below: kept cells, chosen at random. {cells}"
    )
    alt = "whole fields with outlines of nuclei, and a sheet of cells"
    return [write_picture(job, name, png, caption, alt, drawn)]


def _known_of(cells: pd.DataFrame) -> pd.DataFrame:
    """Return what says which cells are shown."""
    return cells[[name for name in ("cell_id", "plate", "well", "compound", "dose_micromolar") if name in cells]]


def channels_and_side(job: Job, run: Run) -> str:
    """Return the colour of every channel, and how wide the picture of a cell is."""
    return f"Channels: {channel_colours(run)}.{_side(job, run)}"


def _side(job: Job, run: Run) -> str:
    """Return how wide a square of the sheet is; it has no scale bar."""
    cells = read_cells(run.segment)
    pixel_um = common_pixel_um(cells)
    if pixel_um is None:
        return ""
    side_px = scaled_crops(run.segment, job.context.store, cells.head(1)).shape[-1]
    return f" Each square is {pixel_um * side_px:.3g} µm wide."


def _bytes(views: Any) -> np.ndarray:
    shown: np.ndarray = (views.clamp(0, 1) * 255).round().byte().numpy()
    return shown
