"""models: a pretrain artifact and the settings of embed in, its network up to the chosen layer out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from cellssl.artifacts.card import SHARED_ENCODER, is_shared_model
from cellssl.artifacts.contents import not_as_written
from cellssl.artifacts.store import Artifact
from cellssl.config.plugins import did_you_mean
from cellssl.errors import IntegrityError, UsageError
from cellssl.stages.embed.settings import Settings
from cellssl.stages.pretrain.card_settings import pretrain_settings
from cellssl.stages.shared.card_shapes import pretrain_metrics, pretrain_section

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from cellssl.learning.methods.base import Objective

Network = TypeVar("Network", bound="nn.Module")
BUILT_FROM = ("encoder", "branches", "epochs")
"""Settings of a training from which its networks are built again."""


def check_is_there(model: Artifact, settings: Settings) -> None:
    """Raise UsageError where a shared model is asked for what its folder does not hold: it has the encoder alone."""
    if not is_shared_model(model.card):
        return
    metrics = pretrain_metrics(model)
    lowest = metrics.lowest_validation
    missing = {
        "network": settings.network == "momentum" and "has no momentum encoder",
        "layer": settings.layer == "projector" and "has no projectors",
        "step": settings.step == "last" and lowest and lowest.step != metrics.steps and "has not the last weights",
    }
    for setting, words in missing.items():
        if words:
            raise UsageError(
                f"the shared model {model.path} {words}: it holds the encoder alone",
                hint=f"leave embed.{setting} out, or ask for the whole pretrain artifact {model.fingerprint}",
            )


def load_network(model: Artifact, settings: Settings) -> nn.Module:
    """Return the network of a pretrain artifact, up to the layer in the settings."""
    from cellssl.learning import embedding_layers

    encoder = load_encoder(model, settings.network, settings.step)
    match settings.layer:
        case "flattened":
            return embedding_layers.flattened_encoder(pretrain_settings(model, *BUILT_FROM).encoder, encoder)
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
    from cellssl.stages.pretrain.networks import uninitialised_encoder

    settings = pretrain_settings(model, *BUILT_FROM)
    if network == "momentum" and settings.active() and settings.momentum() is None:
        raise UsageError(
            "no objective of this model trains a momentum encoder", hint='set embed.network = "query", or leave it out'
        )
    channels = len(pretrain_metrics(model).channels)
    name = {"query": "encoder", "momentum": "momentum_encoder"}[network]
    return _with_weights(
        model, _weights_file(model, name, step), lambda: uninitialised_encoder(settings.encoder, channels)
    )


def _with_weights(model: Artifact, path: Path, build: Callable[[], Network]) -> Network:
    """Build a network, and load its weights from `path`, a file of its artifact."""
    tensors = _fitting_tensors(model, path, build)
    network = build()
    network.load_state_dict(tensors)
    return network


def check_weights(model: Artifact) -> None:
    """Raise IntegrityError where the file of a shared model does not hold the weights of the network in its card."""
    from cellssl.stages.pretrain.networks import uninitialised_encoder

    encoder, channels = pretrain_settings(model, *BUILT_FROM).encoder, len(pretrain_metrics(model).channels)
    _fitting_tensors(model, model.file(SHARED_ENCODER), lambda: uninitialised_encoder(encoder, channels))


def _fitting_tensors(model: Artifact, path: Path, build: Callable[[], nn.Module]) -> dict[str, Any]:
    """Return the tensors in a file of an artifact.

    Raises IntegrityError where they are not exactly those of the network. That is found before the network takes any
    memory: the card says how large it is, and anyone may have written it.
    """
    import torch

    from cellssl.learning.weight_files import mismatches, read_tensors

    try:
        tensors = read_tensors(path)
    except IntegrityError as error:
        raise not_as_written(model, path.name, error.message) from error
    with torch.device("meta"):  # shapes without numbers
        expected = build().state_dict()
    faults = mismatches(tensors, expected)
    faults += [
        f"{tensor} is {tensors[tensor].dtype} in place of {numbers.dtype}"
        for tensor, numbers in expected.items()
        if tensor in tensors and tensors[tensor].dtype != numbers.dtype
    ]
    if faults:
        raise not_as_written(model, path.name, f"it does not fit the settings in its card: {'; '.join(faults[:3])}")
    return tensors


def load_projectors(model: Artifact, in_dim: int, branch: str | None, step: str = "lowest") -> list[Objective]:
    """Return the objectives with a projector, of the chosen branch or of all branches sorted by name.

    Raises UsageError where there is none.
    """
    import torch

    from cellssl.stages.pretrain.networks import TrainingShape, build_objectives, objective_module_name

    section, metrics = pretrain_section(model), pretrain_metrics(model)
    settings = pretrain_settings(model, *BUILT_FROM)
    branches = tuple(settings.active()) if section.epochs > 0 else ()
    if not branches:
        raise UsageError(f"{model.path} was not trained, so it has no projector", hint='set embed.layer = "pooled"')
    if branch is not None and branch not in branches:
        raise UsageError(f"{model.path} has no branch {branch!r}", hint=did_you_mean(branch, branches))

    def build() -> nn.ModuleDict:
        cells = torch.arange(metrics.cells)
        shape = TrainingShape(cells, section.batch, len(metrics.channels), metrics.input_px)
        return build_objectives(settings, shape, in_dim, seed=0)  # any seed: the weights are loaded

    objectives = _with_weights(model, _weights_file(model, "heads", step), build)
    chosen: list[Any] = [objectives[objective_module_name(name)] for name in ([branch] if branch else branches)]
    projecting = [objective for objective in chosen if objective.has_projector]
    if not projecting:
        raise UsageError(f"no objective of {model.path} has a projector", hint='set embed.layer = "pooled"')
    return projecting


def _weights_file(model: Artifact, name: str, step: str) -> Path:
    """Return the file of a network; the lowest and the last weights are one file where training ended at the lowest.

    Raises UsageError where the last weights are asked for and an earlier version of cellssl did not keep them.
    """
    last, lowest = f"{name}-last.safetensors", pretrain_metrics(model).lowest_validation
    if is_shared_model(model.card):
        return model.file(SHARED_ENCODER)
    if step == "last" and last in model.card.files:
        return model.file(last)
    if step == "last" and lowest and lowest.step != pretrain_metrics(model).steps:
        raise UsageError(
            f"{model.path} was made before the last weights were kept beside the lowest",
            hint='train it again, or set embed.step = "lowest"',
        )
    return model.file(f"{name}.safetensors")
