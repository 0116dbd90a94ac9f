"""model_folder: a trained model in; a folder that plain torch, a model hub and cellssl can open out.

The folder is complete when it has its card, artifact.json, which is written last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellssl.artifacts.card import NAME, SHARED_ENCODER, Card, FileEntry, read_card
from cellssl.artifacts.shared_models import encoder_file
from cellssl.artifacts.store import Artifact
from cellssl.disk import faults_explained
from cellssl.errors import CellsslError, UsageError
from cellssl.events import Event, Note, Progress
from cellssl.files import UNFINISHED, atomic_path, remove_unfinished
from cellssl.sharing.model_config import config, json_text, preprocessing, shared_card
from cellssl.sharing.request import Export
from cellssl.stages.shared.card_shapes import pretrain_metrics

if TYPE_CHECKING:
    from torch import nn

WEIGHTS, CONSTANTS, MODEL_CARD = SHARED_ENCODER, "constants.safetensors", "README.md"
ONNX = "model.onnx"
PROGRAMS = ("load_model.py", "preprocess.py")
NAMES = frozenset(
    {WEIGHTS, CONSTANTS, MODEL_CARD, ONNX, NAME, "config.json", "preprocessor_config.json", "network.py", *PROGRAMS}
    | {"load_onnx.py"}
)
"""Everything that a shared folder may hold of ours."""
OF_HUBS = (
    ".git",
    ".gitattributes",
    ".gitignore",
    ".cache",
    ".huggingface",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "__pycache__",
)
"""What hubs, their tools and Python put beside it, and a licence."""
README_SHA256 = "model_card_sha256"
"""Key in the run of a shared card: the hash of the model card as it was written, to see whether a person changed it."""


def export(job: Export) -> Iterator[Event]:
    """Write the folder; files that have their bytes already are left as they are.

    Raises UsageError where the folder holds other files, or a format needs a library that is missing.
    """
    with_onnx = "onnx" in job.formats
    if with_onnx:
        from cellssl.sharing.model_onnx import check_installed

        check_installed()
    before = _earlier_export(job.folder)
    if before is not None and before.fingerprint != job.artifact.fingerprint:
        yield Note(f"{job.folder} held the model {before.fingerprint}; it now gets {job.artifact.fingerprint}")
    yield Note(
        "the network is written as plain torch" + (" and as ONNX" if with_onnx else "") + "; it may take a minute"
    )
    contents = _contents(job, with_onnx=with_onnx)
    kept = _changed_by_hand(job.folder / MODEL_CARD, before)
    if kept:
        yield Note(f"{job.folder / MODEL_CARD} was changed by hand and is kept; delete it to get a new one")
        del contents[MODEL_CARD]
    with faults_explained(job.folder, "choose another folder"):
        yield from _write(job.folder, contents, before, _card(job.artifact, contents, before))


def _contents(job: Export, *, with_onnx: bool) -> dict[str, bytes]:
    """Return the bytes of all files but the card."""
    from safetensors.torch import save

    from cellssl.sharing.model_card import model_card
    from cellssl.sharing.model_network import plain_network
    from cellssl.stages.embed.models import load_encoder

    model, found = job.artifact, pretrain_metrics(job.artifact)
    network: nn.Module = load_encoder(model, "query").eval()
    features = int(network.out_dim)  # type: ignore[arg-type]
    plain = plain_network(network, len(found.channels), found.input_px, f"pretrain/{model.fingerprint}")
    contents = {
        WEIGHTS: _weights(model),
        "config.json": json_text(config(model, features)).encode(),
        "preprocessor_config.json": json_text(preprocessing(model, job.store)).encode(),
        "network.py": plain.text.encode(),
        **{name: _program(name) for name in PROGRAMS},
    }
    if plain.constants:
        contents[CONSTANTS] = save({name: one.contiguous() for name, one in plain.constants.items()})
    if with_onnx:
        from cellssl.sharing.model_onnx import onnx_bytes

        contents |= {ONNX: onnx_bytes(network, model), "load_onnx.py": _program("load_onnx.py")}
    contents[MODEL_CARD] = model_card(job, features, with_onnx=with_onnx).encode()
    return contents


def _weights(model: Artifact) -> bytes:
    """Return the file of the encoder as it is, so that its sha256 stays that of the artifact."""
    return model.file(encoder_file(model.card)).read_bytes()


def _program(name: str) -> bytes:
    return (files("cellssl.sharing") / "programs" / f"{name}.txt").read_bytes()


def _card(model: Artifact, contents: Mapping[str, bytes], before: Card | None) -> Card:
    """Return the card of the folder; the model card is no part of the result, because its owners write on in it."""
    entries = {name: _entry(content) for name, content in sorted(contents.items()) if name != MODEL_CARD}
    card = shared_card(model.card, entries, (MODEL_CARD,))
    written = contents.get(MODEL_CARD)
    sha256 = _entry(written).sha256 if written is not None else before.run.get(README_SHA256, "") if before else ""
    return Card(**{**vars(card), "run": {**card.run, README_SHA256: sha256}})


def _entry(content: bytes) -> FileEntry:
    return FileEntry(len(content), hashlib.sha256(content).hexdigest())


def _write(folder: Path, contents: Mapping[str, bytes], before: Card | None, card: Card) -> Iterator[Event]:
    """Write what differs; while files change the folder has no card, so that a half-made one is seen as such."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder)
    text = (card.text() + "\n").encode()
    changed = [name for name, content in contents.items() if not _has(folder / name, content)]
    former = [name for name in (before.files if before else ()) if name not in contents and name in NAMES]
    if not changed and not former and _has(folder / NAME, text):
        yield Note(f"{folder} is up to date")
        return
    (folder / NAME).unlink(missing_ok=True)
    for name in former:
        (folder / name).unlink(missing_ok=True)
    for number, name in enumerate(changed, 1):
        _write_bytes(folder / name, contents[name])
        yield Progress(number, len(changed) + 1, "files", name)
    _write_bytes(folder / NAME, text)
    yield Progress(len(changed) + 1, len(changed) + 1, "files", NAME)


def _write_bytes(target: Path, content: bytes) -> None:
    with atomic_path(target) as written:
        written.write_bytes(content)


def _has(path: Path, content: bytes) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != len(content):
        return False
    return path.read_bytes() == content


def _earlier_export(folder: Path) -> Card | None:
    """Return the card of the model that a folder holds; None where it holds none, or half of one.

    Raises UsageError where it holds anything else.
    """
    if not folder.is_dir():
        return None
    there = sorted(path.name for path in folder.iterdir())
    cure = "give a folder that is empty, new, or holds a model that was exported before"
    if NAME in there:
        try:
            card = read_card(folder)
        except CellsslError as error:
            raise UsageError(f"{folder} holds a file {NAME} that is no card of cellssl", hint=cure) from error
        if card.kind != "pretrain" or WEIGHTS not in card.files:
            raise UsageError(f"{folder} holds an artifact of {card.kind}, not an exported model", hint=cure)
        return card
    is_started = any(
        name in NAMES - {MODEL_CARD} or _is_unfinished(name) for name in there
    )  # killed before it was complete
    ours = {*OF_HUBS, *(NAMES if is_started else ())}
    strangers = [name for name in there if name not in ours and not _is_unfinished(name)]
    if strangers:
        raise UsageError(f"{folder} holds other files; first: {strangers[0]}", hint=cure)
    return None


def _is_unfinished(name: str) -> bool:
    return name.startswith(".") and name.endswith(UNFINISHED)


def _changed_by_hand(file: Path, before: Card | None) -> bool:
    """Return whether a person has written on in the model card of an earlier export."""
    known: Any = before.run.get(README_SHA256) if before else None
    return bool(known) and file.is_file() and _entry(file.read_bytes()).sha256 != known
