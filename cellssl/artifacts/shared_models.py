"""shared_models: the folder of a model that someone shared in; which weights it has, and its copy in a store, out.

Such a folder is an artifact of pretrain with the encoder alone, and it may lie anywhere. A fingerprint names the
training, and only the training could prove it; so one store has one set of weights for a fingerprint.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cellssl.artifacts.card import ENCODER, NAME, SHARED_ENCODER, Card, is_shared_model, read_card
from cellssl.artifacts.hub_names import FOLDER as HUB_FOLDER
from cellssl.artifacts.hub_names import name_of_folder
from cellssl.artifacts.locks import LockHolder, hold_lock
from cellssl.artifacts.store import Artifact, Store
from cellssl.disk import faults_explained
from cellssl.errors import IntegrityError, UsageError
from cellssl.files import atomic_path, check_space

FOLDER = "weights/shared"
"""Folder of a store for the models of shared folders that results of the store stand on: FINGERPRINT."""


def encoder_file(card: Card) -> str:
    """Return the name of the file with the encoder's weights."""
    return SHARED_ENCODER if is_shared_model(card) else ENCODER


def find_model(store: Store, fingerprint: str) -> Artifact | None:
    """Return a model that something stands on: trained in one of the stores, or shared and kept there; else None."""
    return store.find("pretrain", fingerprint) or next(_kept(store, fingerprint), None)


def get_model(store: Store, fingerprint: str) -> Artifact:
    """Return the model as `find_model` does; UsageError where there is none."""
    return find_model(store, fingerprint) or store.get("pretrain", fingerprint)


def model_to_use(named: Artifact, store: Store) -> Artifact:
    """Return what is read where a user names a shared folder: the artifact itself where a store has it, which has more.

    Raises IntegrityError where a store has other weights under the same fingerprint.
    """
    own = store.find("pretrain", named.fingerprint)
    for other in (*([own] if own else []), *_kept(store, named.fingerprint)):
        if _sha256(other) != _sha256(named):
            raise IntegrityError(
                f"{named.path} has the fingerprint of {other.path} and other weights, so results of the two would "
                "have the same names",
                hint="it was trained on another machine, or is not what its card says; to use it, choose another "
                "--store for its results",
            )
    return own or named


def check_no_shared_one(fingerprint: str, store: Store) -> None:
    """Raise UsageError where a model is to be trained whose fingerprint a shared model of the store has.

    Another machine gives other last bits of the weights, and what stands on the shared model has the same name.
    """
    for kept in _kept(store, fingerprint):
        raise UsageError(
            f"{store.root} has results of the shared model {kept.path}, which has the fingerprint of this training",
            hint="choose another --store for this training, so that the results of the two stay apart",
        )


def keep(shared: Artifact, store: Store, *, wait: bool, waiting: Callable[[LockHolder], None]) -> Artifact:
    """Return a shared model as the store keeps it: card and weights are copied, so that results can be explained later.

    Raises IntegrityError where its bytes differ from its card.
    """
    if (known := model_to_use(shared, store)) is not shared:
        return known
    for kept in _kept(store, shared.fingerprint):
        return kept
    target = store.root / FOLDER / shared.fingerprint
    with (
        faults_explained(target.parent),
        hold_lock(target.with_name(f"{target.name}.lock"), wait=wait, waiting=waiting),
    ):
        if not (target / NAME).is_file():
            source = shared.file(SHARED_ENCODER)
            target.mkdir(parents=True, exist_ok=True)
            check_space(target, source.stat().st_size)
            with atomic_path(target / SHARED_ENCODER) as written:
                shutil.copyfile(source, written)
            write_card(shared.card, target)
    return Artifact(target, read_card(target), store.hashes)


def write_card(card: Card, folder: Path) -> None:
    """Write the card of a shared model whose folder here holds the weights alone, no programs of anyone."""
    weights = encoder_file(card)
    with atomic_path(folder / NAME) as written:
        text = replace(card, files={weights: card.files[weights]}, extras=()).text()
        written.write_text(text + "\n", encoding="utf-8")


def source_words(model: Artifact) -> str | None:
    """Return where a model of a hub came from, with its commit; None for any other."""
    name = name_of_folder(model.path)
    return None if name is None else str(name)


def _sha256(model: Artifact) -> str:
    name = encoder_file(model.card)
    if name not in model.card.files:
        raise IntegrityError(f"{model.path} has no file {name}", hint="ask for the whole folder")
    return model.card.files[name].sha256


def _kept(store: Store, fingerprint: str) -> Iterator[Artifact]:
    """Yield the shared models of a fingerprint that lie in the stores: copied from folders, and downloaded."""
    for root in (store.root, *store.upstreams):
        folders = [root / FOLDER / fingerprint, *sorted((root / HUB_FOLDER).glob("*/*"))]
        for folder in folders:
            if not (folder / NAME).is_file() or folder.name.startswith("incoming-"):
                continue
            with suppress(IntegrityError):  # of another model: who names that one is told
                card = read_card(folder)
                if (card.kind, card.fingerprint) == ("pretrain", fingerprint):
                    yield Artifact(folder, card, store.hashes)
