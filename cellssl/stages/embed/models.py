"""models: a pretrain artifact and the settings of embed in, its network up to the chosen layer out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellssl.artifacts.store import Artifact
from cellssl.config.plugins import did_you_mean
from cellssl.config.settings import FROM_CARD
from cellssl.errors import UsageError
from cellssl.stages.embed.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from cellssl.learning.methods.base import Objective


def load_network(model: Artifact, settings: Settings) -> nn.Module:
    """Return the network of a pretrain artifact, up to the layer in the settings."""
    from cellssl.learning import embedding_layers

    encoder = load_encoder(model, settings.network, settings.step)
    match settings.layer:
        case "flattened":
            return embedding_layers.flattened_encoder(_pretrain_settings(model).encoder, encoder)
        case "projector":
            return embedding_layers.ProjectedEncoder(
                encoder, load_projectors(model, encoder.out_dim, settings.branch, settings.step)
            )
    pooled: nn.Module = encoder
    return pooled


def load_encoder(model: Artifact, network: str, step: str = "lowest") -> Any:
    """Return the encoder of a pretrain artifact, with its weights.

    Raises UsageError where the momentum encoder is asked for and was not trained.
    """
    from safetensors.torch import load_file

    from cellssl.stages.pretrain.networks import uninitialised_encoder

    settings = _pretrain_settings(model)
    if network == "momentum" and settings.active() and settings.momentum() is None:
        raise UsageError(
            "no objective of this model trains a momentum encoder", hint='set embed.network = "query", or leave it out'
        )
    encoder = uninitialised_encoder(settings.encoder, len(model.card.metrics["channels"]))
    name = {"query": "encoder", "momentum": "momentum_encoder"}[network]
    encoder.load_state_dict(load_file(_weights_file(model, name, step)))
    return encoder


def load_projectors(model: Artifact, in_dim: int, branch: str | None, step: str = "lowest") -> list[Objective]:
    """Return the objectives with a projector, of the chosen branch or of all branches sorted by name.

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
    shape = TrainingShape(
        torch.arange(metrics["cells"]), section["batch"], len(metrics["channels"]), metrics["input_px"]
    )
    objectives = build_objectives(settings, shape, in_dim, seed=0)  # any seed: the weights are loaded
    objectives.load_state_dict(load_file(_weights_file(model, "heads", step)))
    chosen: list[Any] = [objectives[objective_module_name(name)] for name in ([branch] if branch else branches)]
    projecting = [objective for objective in chosen if objective.has_projector]
    if not projecting:
        raise UsageError(f"no objective of {model.path} has a projector", hint='set embed.layer = "pooled"')
    return projecting


def _weights_file(model: Artifact, name: str, step: str) -> Path:
    """Return the file of a network; the lowest and the last weights are one file where training ended at the lowest.

    Raises UsageError where the last weights are asked for and an earlier version of cellssl did not keep them.
    """
    last, lowest = f"{name}-last.safetensors", model.card.metrics.get("lowest_validation")
    if step == "last" and last in model.card.files:
        return model.file(last)
    if step == "last" and lowest and lowest["step"] != model.card.metrics["steps"]:
        raise UsageError(
            f"{model.path} was made before the last weights were kept beside the lowest",
            hint='train it again, or set embed.step = "lowest"',
        )
    return model.file(f"{name}.safetensors")


def _pretrain_settings(model: Artifact) -> Any:
    from cellssl.stages.pretrain.settings import Settings as PretrainSettings

    section = model.card.section
    used = {name: section[name] for name in ("encoder", "branches", "epochs") if name in section}
    return PretrainSettings.model_validate(used, context={FROM_CARD: True})
