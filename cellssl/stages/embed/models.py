"""models: a pretrain artifact in, its network up to the chosen layer out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellssl.artifacts.store import Artifact
from cellssl.config.plugins import did_you_mean
from cellssl.config.settings import FORMER_NAMES
from cellssl.errors import UsageError
from cellssl.stages.shared.scaled_crops import ScaledCrops

if TYPE_CHECKING:
    from torch import nn

    from cellssl.learning.methods.base import Objective
from cellssl.stages.embed.settings import Settings


def load_network(model: Artifact, settings: Settings) -> nn.Module:
    """The network of a pretrain artifact that ends at the layer which is asked for."""
    from cellssl.learning import embedding_layers

    encoder = load_encoder(model, settings.network)
    match settings.layer:
        case "flattened":
            return embedding_layers.flattened(_pretrain_settings(model).encoder, encoder)
        case "projector":
            return embedding_layers.Projected(encoder, load_projectors(model, encoder.out_dim, settings.branch))
    pooled: nn.Module = encoder
    return pooled


def load_encoder(model: Artifact, network: str) -> Any:
    """The encoder of a pretrain artifact, with its weights."""
    from safetensors.torch import load_file

    from cellssl.stages.pretrain.networks import uninitialised_encoder

    settings = _pretrain_settings(model)
    if network == "momentum" and settings.active() and settings.momentum() is None:
        raise UsageError(
            "no objective of this model trains a momentum encoder", hint='set embed.network = "query", or leave it out'
        )
    encoder = uninitialised_encoder(settings.encoder, len(model.card.metrics["channels"]))
    name = {"query": "encoder", "momentum": "momentum_encoder"}[network]
    encoder.load_state_dict(load_file(model.file(f"{name}.safetensors")))
    return encoder


def load_projectors(model: Artifact, in_dim: int, branch: str | None) -> list[Objective]:
    """The objectives of the chosen branch, or of all of them by name, that have a projector.

    Raises UsageError where there is none.
    """
    import torch
    from safetensors.torch import load_file

    from cellssl.stages.pretrain.networks import TrainingShape, build_objectives, objective_module_name

    section, metrics = model.card.section, model.card.metrics
    settings = _pretrain_settings(model)
    branches = tuple(settings.active()) if section["epochs"] > 0 else ()
    if not branches:
        raise UsageError(f"{model.path} was not trained, so it has no projector", hint='set embed.layer = "pooled"')
    if branch is not None and branch not in branches:
        raise UsageError(f"{model.path} has no branch {branch!r}", hint=did_you_mean(branch, branches))
    around = TrainingShape(
        torch.arange(metrics["cells"]), section["batch"], len(metrics["channels"]), metrics["input_px"]
    )
    objectives = build_objectives(settings, around, in_dim, seed=0)  # the weights are loaded
    objectives.load_state_dict(load_file(model.file("heads.safetensors")))
    chosen: list[Any] = [objectives[objective_module_name(name)] for name in ([branch] if branch else branches)]
    projecting = [objective for objective in chosen if objective.projects]
    if not projecting:
        raise UsageError(f"no objective of {model.path} has a projector to embed by", hint='set embed.layer = "pooled"')
    return projecting


def _pretrain_settings(model: Artifact) -> Any:
    from cellssl.stages.pretrain.settings import Settings as PretrainSettings

    section = model.card.section
    known = {name: section[name] for name in ("encoder", "branches", "epochs") if name in section}
    return PretrainSettings.model_validate(known, context={FORMER_NAMES: True})


def check_same_crops(model: Artifact, crops: ScaledCrops) -> None:
    """Raise UsageError where the cells differ from those that the model has learned on."""
    trained, here = model.card.metrics["channels"], crops.channels
    if trained != here:
        raise UsageError(
            f"the model was trained on the channels {', '.join(trained)}, but these cells have {', '.join(here)}",
            hint="give the same channels, named alike and in the same order, in [fetch]",
        )
    if model.card.metrics["crop_px"] != crops.shape[-1]:
        raise UsageError(
            f"the model was trained on crops of {model.card.metrics['crop_px']} px, but these are {crops.shape[-1]} px",
            hint=f"set segment.crop_px = {model.card.metrics['crop_px']}",
        )
