"""initial_weights: a pretrain job in, encoders out that start from weights made elsewhere: published, in a file, earlier."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, TypeAdapter, ValidationInfo

from cellssl.artifacts.card import NAME
from cellssl.artifacts.store import FINGERPRINT, Artifact, Store
from cellssl.config.paths import InputPath
from cellssl.config.settings import Plugin, PluginField
from cellssl.engine.weights_cache import FOLDER, Download, fetch_cached, file_download
from cellssl.errors import UsageError
from cellssl.events import Event, Note
from cellssl.learning.encoder import EncoderSettings, Names
from cellssl.learning.pretrained import PublishedSettings

if TYPE_CHECKING:
    from cellssl.engine.build import Job, RunContext
    from cellssl.learning.training.state import TrainState

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
"""Files of weights; anything else that is named is an artifact."""
_ENCODERS = PluginField("cellssl.learning.encoders")


def _artifact_or_path(given: Any, info: ValidationInfo) -> Any:
    """A fingerprint as it is; anything else is a path."""
    if isinstance(given, str) and FINGERPRINT.fullmatch(given):
        return str(given)
    return TypeAdapter(InputPath).validate_python(given, context=info.context)


ArtifactOrPath = Annotated[str | Path, BeforeValidator(_artifact_or_path)]


def is_weights_file(given: str | Path | None) -> bool:
    """Whether a file is meant, rather than an artifact."""
    return isinstance(given, Path) and given.suffix in SUFFIXES


def with_published_weights(encoder: Plugin) -> Plugin:
    """The same encoder with weights from elsewhere: those that it names, else those that its library publishes."""
    if not isinstance(encoder, PublishedSettings):
        raise UsageError(
            f'embed.model = "imagenet" needs published weights, and {encoder.plugin_name()} has none',
            hint='choose another network for that arm, such as pretrain.encoder = "resnet50"',
        )
    return encoder.model_copy(update={"weights": encoder.weights or "imagenet"})


def with_weights_file(encoder: Plugin, file: Path) -> Plugin:
    """The same encoder with the weights in a file of the user, which others have trained.

    Raises UsageError for a network that nobody else has, and for a file of our own: its artifact knows more about it.
    """
    if (file.parent / NAME).is_file():
        raise UsageError(f"embed.model: {file} is part of an artifact", hint=f'set embed.model = "{file.parent}"')
    if not isinstance(encoder, PublishedSettings):
        raise UsageError(
            f"embed.model: {encoder.plugin_name()} is no network of a library, so {file} cannot be weights for it",
            hint='say in pretrain.encoder what the weights are of, such as "resnet50"',
        )
    return encoder.model_copy(update={"weights": file})


def without_weights(encoder: Plugin) -> Plugin:
    """The same encoder with weights drawn from the seed."""
    return encoder.model_copy(update={"weights": None}) if isinstance(encoder, PublishedSettings) else encoder


def external_files(settings: Any) -> list[Path]:
    """The user's files of weights; UsageError where there is no such file."""
    named = {"encoder.weights": getattr(settings.encoder, "weights", None), "init_from": settings.init_from}
    files = {knob: path for knob, path in named.items() if isinstance(path, Path)}
    if not is_weights_file(settings.init_from):
        files.pop("init_from", None)
    for knob, path in files.items():
        if not path.is_file():
            raise UsageError(f"{knob}: there is no file of weights {path}", hint=f"correct pretrain.{knob}")
    return list(files.values())


def earlier_artifact(settings: Any) -> dict[str, tuple[str | Path, tuple[str, ...]]]:
    """The earlier artifact to start from, where one is named; UsageError where it is neither artifact nor file."""
    given = settings.init_from
    if given is None or is_weights_file(given):
        return {}
    if isinstance(given, Path) and not ((given / NAME).is_file() or (given.is_file() and given.suffix == ".json")):
        raise UsageError(
            f"init_from: {given} is neither a pretrain artifact nor a file of weights",
            hint=f"give an artifact's folder, card file or fingerprint, or a file of {', '.join(SUFFIXES)}",
        )
    return {"init_from": (given, ("pretrain",))}


def describe_source(job: Job) -> str | None:
    """Where the encoder's first weights come from, in words; None where they are drawn from the seed."""
    encoder, earlier_one = job.settings.encoder, job.inputs.get("init_from")
    if job.settings.init_from is not None:
        return str(earlier_one.path if earlier_one else job.settings.init_from)
    if not isinstance(encoder, PublishedSettings) or encoder.weights is None:
        return None
    if isinstance(encoder.weights, Path):
        return str(encoder.weights)
    return encoder.url() or f"the published weights of {encoder.called()}"


def load_initial_weights(job: Job, state: TrainState) -> Generator[Event, None, None]:
    """Let both encoders start from the weights that the settings name; heads, queues and optimiser begin anew."""
    encoder: Any = job.settings.encoder
    names: Names = encoder.names(state.encoder)
    source = describe_source(job)
    if source is None:
        return
    if job.settings.init_from is not None:
        tensors = _read_earlier(job, encoder)
        names = replace(names, first=())  # an encoder of ours has learned on these very channels, or it does not fit
    else:
        tensors = yield from _read_published(job, encoder)
    from cellssl.learning.weight_files import start_from

    start_from(state.encoder, tensors, names, source=source, whose=encoder.called())
    state.momentum_encoder.load_state_dict(state.encoder.state_dict())


def _read_earlier(job: Job, encoder: EncoderSettings) -> Mapping[str, Any]:
    from cellssl.learning.weight_files import encoder_in, read

    artifact = job.inputs.get("init_from")
    if artifact is None:
        return encoder_in(read(job.settings.init_from))
    _check_same_pixels(artifact, encoder)
    return read(artifact.file("encoder.safetensors"))


def _check_same_pixels(earlier: Artifact, encoder: EncoderSettings) -> None:
    """Equal weights over other pixels would be another encoder, and nothing would show it."""
    before, here = (_standardises(one) for one in (_ENCODERS.choose(earlier.card.section["encoder"]), encoder))
    if before != here:
        raise UsageError(
            f"the encoder of {earlier.path} has {'standardised pixels' if before else 'pixels as they are'}",
            hint=f"set pretrain.encoder.standardise = {str(before).lower()}",
        )


def _standardises(encoder: Plugin) -> bool:
    return isinstance(encoder, PublishedSettings) and encoder.standardises()


def _read_published(job: Job, encoder: PublishedSettings) -> Generator[Event, None, Mapping[str, Any]]:
    from cellssl.learning.weight_files import read

    if isinstance(encoder.weights, Path):
        return read(encoder.weights)
    url = encoder.url()
    if url is not None:
        return read((yield from fetch_cached(url, job.context)))
    yield Note(f"getting the published weights of {encoder.called()}")
    return encoder.published(_weights_folder(encoder, job.context.store))


def downloads(settings: Any) -> list[Download]:
    """The published weights that training starts from; none where it starts from others."""
    encoder = settings.encoder
    if settings.init_from is not None or not isinstance(encoder, PublishedSettings) or encoder.weights != "imagenet":
        return []
    what, url = f"the published weights of {encoder.called()}", encoder.url()
    if url is not None:
        return [file_download(what, url)]

    def is_there(store: Store) -> bool:
        return encoder.has_published(_weights_folder(encoder, store))

    def bring(context: RunContext) -> Generator[Event, None, None]:
        yield Note(f"getting {what}")
        encoder.published(_weights_folder(encoder, context.store))

    return [Download(what, is_there, bring)]


def _weights_folder(encoder: PublishedSettings, store: Store) -> Path:
    """Where a library that brings its weights itself keeps them."""
    folder = store.root / FOLDER / encoder.plugin_name()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
