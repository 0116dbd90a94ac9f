"""shared_models: the folder of a model that someone shared in; which weights it has, and its copy in a store, out.

Such a folder is an artifact of pretrain with the encoder alone, and it may lie anywhere. A fingerprint names the
training, and only the training could prove it; so one store has one set of weights, and one card, for a fingerprint.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from cellssl.artifacts.card import ENCODER, NAME, SHARED_ENCODER, Card, is_shared_model, read_card
from cellssl.artifacts.hub_names import SHARED, is_kept, name_of_folder
from cellssl.artifacts.locks import LockHolder, hold_lock
from cellssl.artifacts.store import Artifact, Store, cure_of_shared
from cellssl.bounded import read_json
from cellssl.disk import faults_explained
from cellssl.errors import IntegrityError, UsageError
from cellssl.files import atomic_path, check_space

SOURCE = "hub"
"""Key in the run of a kept card: the model of a hub, with its commit, that it was copied from."""


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

    Raises IntegrityError where a store has other weights, or another card, under the same fingerprint.
    """
    own = store.find("pretrain", named.fingerprint)
    for other in (*([own] if own else []), *_kept(store, named.fingerprint)):
        if _sha256(other) != _sha256(named):
            raise _not_the_same(named, other, store, "other weights", "it was trained on another machine, or is")
        if differing := _differing(other.card, named.card):
            words = f"another card (it differs in {differing})"
            raise _not_the_same(named, other, store, words, "one of the two cards was changed, and it may be")
    return own or named


def _not_the_same(named: Artifact, other: Artifact, store: Store, what: str, why: str) -> IntegrityError:
    cure = f"{why} not what its card says; to use it, choose another --store for its results"
    if source := source_words(other):
        cure += f"; to go on with the weights of before, name {source}"
    if is_shared_model(other.card) and not _has_results(other, store):
        cure += f"; or, as nothing there stands on the other one, remove {other.path}"
    return IntegrityError(
        f"{source_words(named) or named.path} has the fingerprint of {other.path} and {what}, so results of the two "
        "would have the same names",
        hint=cure,
    )


def _differing(one: Card, other: Card) -> str:
    """Return which parts of two cards differ of those that decide vectors; a path counts by its last part."""
    first, second = _parts(one), _parts(other)
    return ", ".join(name for name in sorted({*first, *second}) if first.get(name) != second.get(name))


def _parts(card: Card) -> dict[str, Any]:
    """Return the parts of a card that are compared, by their names."""
    parts: dict[str, Any] = {"algorithm": card.algorithm}
    for name, part in (("section", card.section), ("metrics", card.metrics)):
        parts |= {f"{name}.{key}": _without_places(value) for key, value in part.items()}
    return parts


def _without_places(value: Any) -> Any:
    """Return a value of a card with the last part of every path: a shared card does not say where files lay."""
    match value:
        case dict():
            return {name: _without_places(one) for name, one in value.items()}
        case list():
            return [_without_places(one) for one in value]
        case str():
            return value.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return value


def _has_results(kept: Artifact, store: Store) -> bool:
    """Return whether a result in one of the stores was made with a kept model."""
    roots = {kept.path.parents[2], store.root, *store.upstreams}
    for file in (file for root in roots for file in root.glob(f"*/*/{NAME}")):
        with suppress(OSError, ValueError, AttributeError):
            if kept.fingerprint in read_json(file).get("inputs", {}).values():
                return True
    return False


def check_no_shared_one(fingerprint: str, store: Store) -> None:
    """Raise UsageError where a model is to be trained whose fingerprint a shared model of the store has.

    Another machine gives other last bits of the weights, and what stands on the shared model has the same name.
    """
    for kept in _kept(store, fingerprint):
        raise UsageError(
            f"{store.root} has results of the shared model {kept.path}, which has the fingerprint of this training",
            hint="choose another --store for this training, so that the results of the two stay apart",
        )


def keep(
    shared: Artifact,
    store: Store,
    check: Callable[[Artifact], None],
    *,
    wait: bool,
    waiting: Callable[[LockHolder], None],
) -> Artifact:
    """Return a shared model as the store keeps it: card and weights are copied, so that results can be explained later.

    `check` raises where its weights are not those of the network in its card: then nothing is kept. Raises
    IntegrityError where its bytes differ from its card.
    """
    if (known := model_to_use(shared, store)) is not shared:
        return known
    for kept in _kept(store, shared.fingerprint):
        return kept
    target = store.root / SHARED / shared.fingerprint
    with (
        faults_explained(target.parent),
        hold_lock(target.with_name(f"{target.name}.lock"), wait=wait, waiting=waiting),
    ):
        model_to_use(shared, store)  # another process may have kept one meanwhile
        if not (target / NAME).is_file():
            source = shared.file(SHARED_ENCODER)
            check(shared)
            target.mkdir(parents=True, exist_ok=True)
            check_space(target, source.stat().st_size)
            with atomic_path(target / SHARED_ENCODER) as written:
                shutil.copyfile(source, written)
            run = {**shared.card.run, SOURCE: source_words(shared)}
            write_card(replace(shared.card, run=run), target)
    return Artifact(target, read_card(target), store.hashes)


def write_card(card: Card, folder: Path) -> None:
    """Write the card of a shared model whose folder here holds the weights alone, no programs of anyone."""
    weights = encoder_file(card)
    with atomic_path(folder / NAME) as written:
        text = replace(card, files={weights: card.files[weights]}, extras=()).text()
        written.write_text(text + "\n", encoding="utf-8")


def source_words(model: Artifact) -> str | None:
    """Return where a model of a hub came from, with its commit; None for any other."""
    if name := name_of_folder(model.path):
        return str(name)
    found = model.card.run.get(SOURCE) if is_kept(model.path) else None
    return None if found is None else str(found)


def _sha256(model: Artifact) -> str:
    name = encoder_file(model.card)
    if name not in model.card.files:
        raise IntegrityError(f"{model.path} has no file {name}", hint="ask for the whole folder")
    return model.card.files[name].sha256


def _kept(store: Store, fingerprint: str) -> Iterator[Artifact]:
    """Yield the shared models of a fingerprint that the stores keep; what was only downloaded is not among them."""
    for root in (store.root, *store.upstreams):
        folder = root / SHARED / fingerprint
        if (folder / NAME).is_file():
            try:
                card = read_card(folder)
            except IntegrityError as error:
                raise IntegrityError(error.message, hint=cure_of_shared(folder)) from error
            if not is_shared_model(card) or card.fingerprint != fingerprint:
                words = f"{folder} holds the card of the {card.kind} artifact {card.fingerprint}"
                raise IntegrityError(words, hint=cure_of_shared(folder))
            yield Artifact(folder, card, store.hashes)
