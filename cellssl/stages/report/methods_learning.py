"""methods_learning: a run in; what a paper says on its training and on the vectors of cells out, from its cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cellssl.artifacts.contents import metrics_of
from cellssl.artifacts.store import Artifact
from cellssl.config import plugins
from cellssl.config.settings import FROM_CARD
from cellssl.counting import counted
from cellssl.stages.embed.block_settings import BASELINES
from cellssl.stages.report.card_settings import complete_section
from cellssl.stages.report.method_words import (
    NAMED,
    OBJECTIVES,
    OPTIMIZERS,
    OPTIONS,
    called,
    differing,
    encoder_words,
    joined,
    listed,
    value_text,
)
from cellssl.stages.report.references import cite
from cellssl.stages.report.runs import Part, Run, active_branches
from cellssl.stages.report.vector_words import MEASURED
from cellssl.stages.shared.card_shapes import EmbedMetrics, embed_section, pretrain_metrics, pretrain_section

TRANSFORMS, OBJECTIVE_FOLDER = "cellssl.learning.transforms", "cellssl.learning.objectives"
DETAILS = ("fill", "interpolation", "beyond", "shear_y")
"""Settings of transforms that a paper names only where they are not the defaults."""
LAYERS = {
    "pooled": "the average of the last map of the encoder",
    "flattened": "the last map of the encoder in full",
    "projector": "the output of the trained projectors",
}


def branch_words(trained: Mapping[str, Part]) -> list[str]:
    """Return one sentence per different branch of the trainings: its objective, and the views that it compares."""
    found: dict[tuple[str, str], list[str]] = {}
    for arm, part in trained.items():
        for name in active_branches(part.trained):
            words = _branch(part.trained, part.trained.card.section["branches"][name])
            found.setdefault((name, words), []).append(arm)
    several = [name for name, _ in found]
    sentences = []
    for (name, words), arms in found.items():
        of = f" of {joined(dict.fromkeys(arms))}" if several.count(name) > 1 else ""
        sentences.append(f"Branch “{name}”{of}: {words}.")
    return sentences


def _branch(model: Artifact, branch: Mapping[str, Any]) -> str:
    """Return the objective of a branch and its views, with the settings that a paper names or that were changed."""
    objective = dict(branch.get("objective") or {})
    name = str(objective.pop("name", "moco"))
    changed = differing(OBJECTIVE_FOLDER, name, objective)
    shown = {key: value for key, value in objective.items() if key in NAMED or key in changed}
    if "queue" in shown:
        shown["queue"] = _queue(model, name, objective)
    options = [OPTIONS[key] for key in changed if key in OPTIONS]
    words = f"{called(OBJECTIVES, name)}{cite(*options)}{f' ({listed(shown)})' if shown else ''}"
    view, views = branch.get("view"), branch.get("views")
    if isinstance(views, dict):
        query, key = (_transforms(views.get(side) or []) for side in ("query", "key"))
        words += f"; the first view of a cell was made by {query}, the others by {key}"
    else:
        words += f"; views of a cell were made by {_transforms(view or [])}"
    if isinstance(positives := branch.get("positives"), dict):
        words += f"; positives were also other cells ({listed(positives)})"
    return words


def _queue(model: Artifact, name: str, objective: Mapping[str, Any]) -> Any:
    """Return the length of the queue that was used: with few cells it is shorter than the default on the card."""
    settings = plugins.load(OBJECTIVE_FOLDER, name).Settings.model_validate(dict(objective), context={FROM_CARD: True})
    fitted = getattr(settings, "fitted_queue", None)
    if fitted is None:
        return objective["queue"]
    return fitted(pretrain_metrics(model).cells, pretrain_section(model).batch)


def _transforms(transforms: Sequence[Any]) -> str:
    """Return the transforms of a view, each with its settings."""
    each = []
    for transform in transforms:
        settings = dict(transform) if isinstance(transform, dict) else {"name": transform}
        name = str(settings.pop("name"))
        changed = differing(TRANSFORMS, name, settings)
        shown = listed({key: value for key, value in settings.items() if key not in DETAILS or key in changed})
        each.append(f"{name.replace('_', ' ')}{f' ({shown})' if shown else ''}")
    return joined(each) if each else "no transform"


def loss_words(part: Part) -> str:
    """Return which sum of branches a network minimised."""
    branches = active_branches(part.trained)
    if len(branches) == 1 and next(iter(branches.values())).weight == 1:
        return f"the loss was that of branch “{next(iter(branches))}”"
    return "the loss was " + " + ".join(f"{branch.weight:g} × “{name}”" for name, branch in branches.items())


def network_words(part: Part) -> str:
    """Return the encoder, its input and its first weights."""
    assert part.model is not None
    encoder = dict(part.model.card.section["encoder"])
    name = str(encoder.pop("name"))
    found = pretrain_metrics(part.model)
    start = "drawn from the seed" if found.weights is None else f"from {found.weights.source}"
    side, channels = found.input_px, joined(f"“{channel}”" for channel in found.channels)
    size = f"inputs of {side} × {side} pixels of the channels {channels}"
    return f"the encoder was {encoder_words(name, encoder)}, with {size}; its first weights were {start}"


def optimisation_words(part: Part) -> str:
    """Return how long and how a network was trained."""
    model = part.trained
    section, found = complete_section(model), pretrain_metrics(model)
    decay = f", with a weight decay of {value_text(section.get('weight_decay'))}"
    rate = value_text(section.get("learning_rate"))
    optimiser = called(OPTIMIZERS, str(section.get("optimizer")))
    schedule = "a cosine schedule" + cite("cosine") if section.get("schedule") == "cosine" else "a constant schedule"
    text = (
        f"it was trained on {found.cells:,} cells for {_epochs(section['epochs'])} ({counted(found.steps, 'step')}) in "
        f"batches of {counted(section['batch'], 'cell')} by {optimiser}, with a learning rate of {rate} at its peak "
        f"and {schedule} after a linear warm-up of {_epochs(section['warmup_epochs'])} or a tenth of the training, "
        f"whichever is shorter{decay}"
    )
    if section.get("clip_norm"):
        text += f", gradients clipped to a norm of {value_text(section['clip_norm'])}"
    if precision := model.card.run.get("precision"):
        text += f", in {precision}"
    if isinstance(stopping := section.get("early_stopping"), dict):
        text += f", with early stopping on the validation cells ({listed(stopping)})"
    return text


def _epochs(number: float) -> str:
    return f"{number:g} epoch{'' if number == 1 else 's'}"


def vector_words(run: Run) -> str:
    """Return what the vector of a cell is, and how many numbers it has."""
    section, found = complete_section(run.embed), metrics_of(run.embed, EmbedMetrics)
    dim = run.embed.card.metrics.get("dim")
    size = f" ({dim:,} numbers)" if isinstance(dim, int) else ""
    if found.blocks:
        blocks = joined(f"“{one.name}” ({one.dim:,} numbers, weight {one.weight:g})" for one in found.blocks)
        return f"the vector of a cell joins the blocks {blocks}{size}"
    model = embed_section(run.embed).model
    if model in MEASURED:
        words = cite("cellprofiler") if model == "cellprofiler" else ""
        return f"the vector of a cell is {MEASURED[model]}{words}{size}; nothing was learned"
    text = f"the vector of a cell is {LAYERS.get(str(section.get('layer')), section.get('layer'))}{size}"
    if not run.trained:
        return f"{text}, of the encoder {_untrained(model)}"
    text += " of the momentum encoder" if section.get("network") == "momentum" else ""
    if isinstance(run.trained[0].trained.card.section.get("early_stopping"), dict):
        step = "lowest validation loss" if section.get("step") == "lowest" else "last step"
        text += f", with the weights of the {step}"
    if section.get("view"):
        text += f", averaged over {section.get('draws')} draws of {_transforms(section['view'])}"
    return text


def _untrained(model: str) -> str:
    if model == "imagenet":
        return f"with weights learned on ImageNet{cite('imagenet')}, not trained on these cells"
    return "without training" if model in (*BASELINES, "pretrain") else "with other weights, not trained on these cells"
