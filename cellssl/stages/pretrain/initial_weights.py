"""initial_weights: a pretrain job in, its encoders with weights from a library, a file or an earlier training out."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, TypeAdapter, ValidationInfo

from cellssl.artifacts.card import FINGERPRINT, NAME
from cellssl.artifacts.contents import not_as_written
from cellssl.artifacts.hashing import sha256_of
from cellssl.artifacts.hub_names import hub_name, is_hub_name
from cellssl.artifacts.naming import no_artifact
from cellssl.artifacts.shared_models import encoder_file, source_words
from cellssl.artifacts.store import Artifact, Store
from cellssl.config.paths import InputPath
from cellssl.config.settings import FROM_CARD, Plugin, PluginField
from cellssl.engine.hub import hub_download
from cellssl.engine.weights_cache import FOLDER, Download, fetch_cached, file_download
from cellssl.errors import UsageError
from cellssl.events import Event, Note
from cellssl.files import write_text
from cellssl.learning.encoder import EncoderSettings, TensorNames
from cellssl.learning.pretrained import NOT_KNOWN, Licence, PretrainedSettings

if TYPE_CHECKING:
    from cellssl.engine.build import Job, RunContext
    from cellssl.learning.training.state import TrainState

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
"""Endings of weights files; any other name means an artifact."""
RECORD = "weights.json"
"""File beside the checkpoints of a training that holds the record of its first weights."""
FROM_SEED = "weights drawn from the seed"
"""What a card says of a training that started from nothing."""
OWN = Licence("your own", "that model was trained from weights drawn from the seed")
_ENCODERS = PluginField("cellssl.learning.encoders")


def _artifact_or_path(given: Any, info: ValidationInfo) -> Any:
    """Return a fingerprint and the name of a model on a hub as they are, and anything else as a path."""
    if isinstance(given, str) and FINGERPRINT.fullmatch(given):
        return str(given)
    if is_hub_name(given):
        return str(hub_name(given))
    return TypeAdapter(InputPath).validate_python(given, context=info.context)


ArtifactOrPath = Annotated[str | Path, BeforeValidator(_artifact_or_path)]


def names_weights_file(word: str) -> bool:
    """Return whether a word of a recipe is a file of weights, by its ending."""
    return word.endswith(SUFFIXES) and not is_hub_name(word)


def is_weights_file(given: str | Path | None) -> bool:
    """Return whether a weights file is named, rather than an artifact."""
    return isinstance(given, Path) and given.suffix in SUFFIXES


def with_published_weights(encoder: EncoderSettings) -> EncoderSettings:
    """Return the same encoder with published weights: those in its settings, else those of its library.

    Raises UsageError for a network that has no published weights.
    """
    if not isinstance(encoder, PretrainedSettings):
        raise UsageError(
            f'embed.model = "imagenet" needs published weights, and {encoder.plugin_name()} has none',
            hint='choose another network for that arm, such as pretrain.encoder = "resnet50"',
        )
    licence = encoder.licence if isinstance(encoder.weights, Path) else None  # it was that of init_from
    weights = encoder.weights or "imagenet"
    return encoder.model_copy(update={"weights": weights, "frozen_parts": 0, "licence": licence})


def with_weights_file(encoder: EncoderSettings, file: Path) -> EncoderSettings:
    """Return the same encoder with the weights of a file of the user, trained elsewhere.

    Raises UsageError for a network that comes from no library, and for a file in an artifact, whose card says more.
    """
    if (file.parent / NAME).is_file():
        raise UsageError(f"embed.model: {file} is part of an artifact", hint=f'set embed.model = "{file.parent}"')
    if not isinstance(encoder, PretrainedSettings):
        raise UsageError(
            f"embed.model: {encoder.plugin_name()} is not a network of a library, so {file} cannot hold its weights",
            hint='set pretrain.encoder to the network that the weights belong to, such as "resnet50"',
        )
    licence = encoder.licence if encoder.weights in (None, file) else None  # it is that of the other weights
    return encoder.model_copy(update={"weights": file, "frozen_parts": 0, "licence": licence})


def without_weights(encoder: EncoderSettings) -> EncoderSettings:
    """Return the same encoder with weights drawn from the seed."""
    if not isinstance(encoder, PretrainedSettings):
        return encoder
    return encoder.model_copy(update={"weights": None, "frozen_parts": 0, "licence": None})


def without_frozen_parts(encoder: EncoderSettings) -> EncoderSettings:
    """Return the same encoder without frozen parts."""
    return encoder.model_copy(update={"frozen_parts": 0}) if isinstance(encoder, PretrainedSettings) else encoder


def check_frozen_parts(encoder: EncoderSettings, init_from: str | Path | None) -> None:
    """Raise UsageError where the frozen parts would be random, or all that there are."""
    if not isinstance(encoder, PretrainedSettings) or not encoder.frozen_parts:
        return
    if encoder.weights is None and init_from is None:
        raise UsageError(
            f"encoder.frozen_parts = {encoder.frozen_parts} would keep weights that are drawn from the seed",
            hint='start from others, such as pretrain.encoder.weights = "imagenet" or pretrain.init_from, or leave '
            "frozen_parts out",
        )
    encoder.check_frozen_parts()


def check_licence(encoder: EncoderSettings, init_from: str | Path | None) -> None:
    """Raise UsageError where a licence is named and no file of weights."""
    if not isinstance(encoder, PretrainedSettings) or encoder.licence is None:
        return
    if not isinstance(encoder.weights, Path) and not is_weights_file(init_from):
        raise UsageError(
            f"encoder.licence = {encoder.licence!r} is that of a file of weights, and none is named",
            hint="name the file in pretrain.encoder.weights or pretrain.init_from, or leave licence out: that of "
            "published weights and of an earlier model is known",
        )


def external_files(encoder: EncoderSettings, init_from: str | Path | None) -> dict[str, Path]:
    """Return the user's weights files by their setting; raise UsageError where one does not exist."""
    named = {"encoder.weights": encoder.given_weights(), "init_from": init_from if is_weights_file(init_from) else None}
    files = {setting: path for setting, path in named.items() if isinstance(path, Path)}
    for setting, path in files.items():
        if not path.is_file():
            raise UsageError(f"{setting}: there is no weights file {path}", hint=f"correct pretrain.{setting}")
    return files


def earlier_artifact(init_from: str | Path | None) -> dict[str, tuple[str | Path, tuple[str, ...]]]:
    """Return the earlier artifact to start from, where one is named.

    Raises UsageError where `init_from` is neither an artifact nor a weights file.
    """
    if init_from is None or is_weights_file(init_from):
        return {}
    if isinstance(init_from, Path) and not (
        (init_from / NAME).is_file() or (init_from.is_file() and init_from.suffix == ".json")
    ):
        if init_from.is_dir() and (init_from / "config.json").is_file():
            raise no_artifact(init_from, ("pretrain",))
        raise UsageError(
            f"init_from: {init_from} is neither a pretrain artifact nor a weights file",
            hint="give an artifact's folder, card file or fingerprint, hf://OWNER/NAME, or a file of "
            f"{', '.join(SUFFIXES)}",
        )
    return {"init_from": (init_from, ("pretrain",))}


def describe_source(job: Job) -> str | None:
    """Return in words where the encoder's first weights come from; None where they are drawn from the seed."""
    encoder, artifact = job.settings.encoder, job.inputs.get("init_from")
    if job.settings.init_from is not None:
        return (source_words(artifact) or str(artifact.path)) if artifact else str(job.settings.init_from)
    if not isinstance(encoder, PretrainedSettings) or encoder.weights is None:
        return None
    if isinstance(encoder.weights, Path):
        return str(encoder.weights)
    return encoder.url() or f"the published weights of {encoder.display_name()}"


def load_initial_weights(job: Job, state: TrainState) -> Generator[Event, None, WeightsRecord | None]:
    """Load the weights that the settings name into both encoders; heads, queues and optimiser stay as they are.

    Returns what the card says of them; None where they are drawn from the seed.
    """
    encoder: Any = job.settings.encoder
    names: TensorNames = encoder.tensor_names(state.encoder)
    source = describe_source(job)
    if source is None:
        return None
    if job.settings.init_from is not None:
        tensors, record = _read_earlier(job, encoder)
        names = replace(
            names, first=()
        )  # an encoder of an artifact was trained on these same channels, or it does not fit
    else:
        tensors, record = yield from _read_published(job, encoder)
    from cellssl.learning.weight_files import load_weights, unwrap

    tensors = encoder.renamed(tensors) if isinstance(encoder, PretrainedSettings) else tensors
    found = unwrap(tensors, state.encoder.state_dict(), source)
    channels = "a file does not say on which channels it was trained" if is_weights_file(job.settings.init_from) else ""
    if words := "; ".join(filter(None, (found.words(), channels))):
        yield Note(f"{source}: {words}")
    load_weights(state.encoder, found.tensors, names, source=source, encoder_name=encoder.display_name())
    state.momentum_encoder.load_state_dict(state.encoder.state_dict())
    return record


@dataclass(frozen=True)
class WeightsRecord:
    """What a card says of weights that were not drawn from the seed."""

    source: str
    """An address, the name of a file, or an artifact; where it lay on this machine is in `run` of the card."""
    sha256: str | None
    """Of the file; None where a library does not say which file it took."""
    licence: Licence

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of the card."""
        named = {"licence": self.licence.name, "licence_source": self.licence.source}
        return {"source": self.source, "sha256": self.sha256, **named}

    @classmethod
    def of_file(cls, path: Path, encoder: EncoderSettings) -> WeightsRecord:
        """Return the record of a file of the user, whose licence only the user can know."""
        named = encoder.licence if isinstance(encoder, PretrainedSettings) else None
        return cls(path.name, sha256_of(path), Licence(named, "encoder.licence of the recipe") if named else NOT_KNOWN)


def write_record(scratch: Path, record: WeightsRecord) -> None:
    """Write a record beside the checkpoints, so that a resumed training has it, too."""
    write_text(scratch / RECORD, json.dumps(record.as_dict()))


def read_record(scratch: Path) -> dict[str, Any] | None:
    """Return the entry of the card; None where weights were drawn from the seed."""
    file = scratch / RECORD
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _read_earlier(job: Job, encoder: EncoderSettings) -> tuple[Mapping[str, Any], WeightsRecord]:
    from cellssl.learning.weight_files import read_tensors
    from cellssl.stages.shared.card_shapes import pretrain_metrics

    artifact = job.inputs.get("init_from")
    if artifact is None:
        path = job.settings.init_from
        return read_tensors(path), WeightsRecord.of_file(path, encoder)
    _check_same_input(artifact, encoder)
    path, before = artifact.file(encoder_file(artifact.card)), pretrain_metrics(artifact).weights
    licence = (
        Licence(before.licence, f"{before.source}, where that model began") if before else _without_record(artifact)
    )
    return read_tensors(path), WeightsRecord(_called(artifact), sha256_of(path), licence)


def _called(artifact: Artifact) -> str:
    """Return the name of an artifact on every machine."""
    return f"{artifact.card.kind}/{artifact.fingerprint}"


def _without_record(earlier: Artifact) -> Licence:
    """Return the licence of a model whose card has no record: it began with weights from the seed, or is older."""
    return OWN if earlier.card.run.get("started_from") == FROM_SEED else NOT_KNOWN


def check_same_channels(earlier: Artifact, channels: list[str] | None) -> None:
    """Raise UsageError where the encoder was trained on other channels; `channels` is None where they are not known."""
    from cellssl.stages.shared.card_shapes import pretrain_metrics

    trained = pretrain_metrics(earlier).channels
    if channels is not None and channels != trained:
        raise UsageError(
            f"init_from: the encoder of {earlier.path} was trained on the channels {', '.join(trained)}, but these "
            f"cells have {', '.join(channels)}",
            hint="use the same channels, with the same names and in the same order, in [fetch]; or, to start from "
            "other channels all the same, set pretrain.init_from to the file "
            f"{earlier.path / encoder_file(earlier.card)}",
        )


def _check_same_input(earlier: Artifact, encoder: EncoderSettings) -> None:
    """Raise UsageError where pixels enter in another way: the encoder would silently be another one."""
    try:
        trained = _ENCODERS.choose(earlier.card.section.get("encoder"), {FROM_CARD: True})
    except ValueError as error:
        raise not_as_written(earlier, NAME, f"section.encoder: {error}") from error
    before, now = _standardises(trained), _standardises(encoder)
    if before != now:
        raise UsageError(
            f"the encoder of {earlier.path} was trained on {'standardised' if before else 'unstandardised'} pixels",
            hint=f"set pretrain.encoder.standardise = {str(before).lower()}",
        )
    theirs, ours = (one.channels if isinstance(one, PretrainedSettings) else "together" for one in (trained, encoder))
    if theirs != ours:
        raise UsageError(
            f"the encoder of {earlier.path} gets its channels {theirs}, and this one {ours}",
            hint=f'set pretrain.encoder.channels = "{theirs}"',
        )


def _standardises(encoder: Plugin) -> bool:
    return isinstance(encoder, PretrainedSettings) and encoder.standardises()


def _read_published(
    job: Job, encoder: PretrainedSettings
) -> Generator[Event, None, tuple[Mapping[str, Any], WeightsRecord]]:
    from cellssl.learning.weight_files import read_tensors

    if isinstance(encoder.weights, Path):
        return read_tensors(encoder.weights), WeightsRecord.of_file(encoder.weights, encoder)
    url, source, licence = encoder.url(), describe_source(job) or "", encoder.published_licence()
    if url is not None:
        path = yield from fetch_cached(url, job.context)
        return read_tensors(path), WeightsRecord(source, sha256_of(path), licence)
    yield Note(f"getting the published weights of {encoder.display_name()}")
    folder = _weights_folder(encoder, job.context.store)
    tensors = encoder.download_weights(folder)
    file = encoder.cached_file(folder)
    return tensors, WeightsRecord(source, None if file is None else sha256_of(file), licence)


def downloads(encoder: EncoderSettings, init_from: str | Path | None) -> list[Download]:
    """Return the published weights or the model of a hub that training starts from; nothing for what lies here."""
    if is_hub_name(init_from):
        return [hub_download(str(init_from))]
    if init_from is not None or not isinstance(encoder, PretrainedSettings) or encoder.weights != "imagenet":
        return []
    what, url = f"the published weights of {encoder.display_name()}", encoder.url()
    if url is not None:
        return [file_download(what, url)]

    def is_there(store: Store) -> bool:
        return encoder.cached_file(_weights_folder(encoder, store)) is not None

    def download(context: RunContext) -> Generator[Event, None, None]:
        yield Note(f"getting {what}")
        encoder.download_weights(_weights_folder(encoder, context.store))

    return [Download(what, is_there, download)]


def _weights_folder(encoder: PretrainedSettings, store: Store) -> Path:
    """Return the folder for a library that downloads its weights itself."""
    folder = store.root / FOLDER / encoder.cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
