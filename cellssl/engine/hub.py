"""hub: the name of a model on a hub in, its folder in the store out: card and weights, compared with the card.

huggingface_hub asks the hub which commit a name stands for, how large a file is, and whether one may have it. The bytes
come by our own transfer, which can be stopped and resumed at any time and writes nothing into the home directory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from cellssl.artifacts.card import NAME, SHARED_ENCODER, Card, is_shared_model, read_card
from cellssl.artifacts.hashing import sha256_of
from cellssl.artifacts.hub_names import COMMIT, PINS, HubName, downloaded, hub_name, pins
from cellssl.artifacts.locks import hold_lock
from cellssl.artifacts.naming import of_another_program
from cellssl.artifacts.shared_models import model_to_use, write_card
from cellssl.artifacts.store import Artifact, Store
from cellssl.disk import faults_explained
from cellssl.engine.build import RunContext
from cellssl.engine.weights_cache import Download
from cellssl.errors import IntegrityError, NetworkError, UsageError
from cellssl.events import Event, Note
from cellssl.files import write_text

if TYPE_CHECKING:
    from cellssl.datasets.transfer.http import RetryPolicy

Answer = TypeVar("Answer")
LARGEST_CARD = 16_000_000
"""Bytes; a longer card of a model was not written by cellssl."""
RUN_AGAIN = "check the connection and $HF_ENDPOINT, and run the same command again; what has been downloaded is kept"
TOKEN = "set HF_TOKEN to a token of an account that may read it"


def hub_download(text: str) -> Download:
    """Return the download of the model that a recipe names as hf://OWNER/NAME[@REVISION]."""
    name = hub_name(text)
    return Download(f"the weights of {name}", partial(_is_there, name), partial(fetch_model, name), is_model=True)


def _is_there(name: HubName, store: Store) -> bool:
    return downloaded(name, (store.root, *store.upstreams)) is not None


def fetch_model(name: HubName, context: RunContext) -> Generator[Event, None, Path]:
    """Return the folder of the newest commit of a model, downloaded once, and note that its name stands for it.

    Raises UsageError where the hub has no such model or does not give it, or where it was not shared by cellssl;
    NetworkError where the hub cannot be reached; IntegrityError where other bytes come than its card lists.
    """
    root, folder = context.store.root, name.folder(context.store.root)
    lock = folder.with_name(f"{folder.name}.lock")
    with faults_explained(folder.parent), hold_lock(lock, wait=context.wait, waiting=context.waiting):
        if name.is_commit and (found := downloaded(name, (root, *context.store.upstreams))):
            return found
        hub = Hub.of(name)
        commit = yield from hub.commit()
        target = folder / commit
        if not (target / NAME).is_file():
            yield Note(f"downloading {name.at(commit)}")
            yield from _download(hub, name.at(commit), target, context.store)
        else:
            model_to_use(Artifact(target, read_card(target)), context.store)
            if not name.is_commit:
                yield Note(f"{name} is {name.at(commit)}, which is there")
        if not name.is_commit:
            write_text(folder / PINS, json.dumps({**pins(name, root), name.revision: commit}, sort_keys=True) + "\n")
    return target


def _download(hub: Hub, name: HubName, target: Path, store: Store) -> Generator[Event, None, None]:
    """Download the card and the weights to `target`, which appears when both are there and compared.

    Whether results of the store stand on other weights of the same fingerprint is known from the card.
    """
    incoming = target.with_name(f"incoming-{target.name}")
    incoming.mkdir(parents=True, exist_ok=True)
    size = yield from hub.size(name, NAME)
    if size is not None and size > LARGEST_CARD:
        raise IntegrityError(f"the card of {name} is {size:,} bytes long, which no card is", hint="name another model")
    (incoming / NAME).unlink(missing_ok=True)
    yield from hub.download(name, NAME, incoming / NAME)
    card = _read_card(name, incoming)
    try:
        model_to_use(Artifact(target, card), store)
    except IntegrityError:
        shutil.rmtree(incoming, ignore_errors=True)
        raise
    weights, entry = SHARED_ENCODER, card.files[SHARED_ENCODER]
    file = incoming / weights
    if not (file.is_file() and sha256_of(file) == entry.sha256):
        file.unlink(missing_ok=True)
        size = yield from hub.size(name, weights)
        if size is not None and size != entry.bytes:
            raise _other_bytes(name, weights, f"is {size:,} bytes long, not {entry.bytes:,}")
        yield from hub.download(name, weights, file)
    if file.stat().st_size != entry.bytes or sha256_of(file) != entry.sha256:
        file.unlink()
        raise _other_bytes(name, weights, "does not have the bytes that its card lists")
    write_card(card, incoming)
    incoming.rename(target)


def _other_bytes(name: HubName, file: str, words: str) -> IntegrityError:
    return IntegrityError(
        f"{file} of {name} {words}; it was removed", hint="run the same command again, or tell the owner of the model"
    )


def _read_card(name: HubName, folder: Path) -> Card:
    """Return the card of a model; UsageError where it is that of something else."""
    try:
        card = read_card(folder)
    except IntegrityError as error:
        (folder / NAME).unlink()
        raise IntegrityError(
            f"{name}: {error.message}", hint=error.hint if "later version" in error.message else "tell its owner"
        ) from error
    if not is_shared_model(card):
        raise UsageError(
            f"{name} is an artifact of {card.kind} and no shared model",
            hint="name one that cellssl export MODEL DIR has made",
        )
    return card


@dataclass(frozen=True)
class Hub:
    """One model on the hub that $HF_ENDPOINT names; each question is asked several times where the hub is busy."""

    name: HubName
    endpoint: str
    token: str | None
    policy: RetryPolicy

    @classmethod
    def of(cls, name: HubName) -> Hub:
        """Return the hub; UsageError where the library is missing, or the user wants no connection."""
        if find_spec("huggingface_hub") is None:
            raise UsageError(f"{name} needs the library huggingface_hub", hint='pip install "cellssl[hub]"')
        from huggingface_hub import constants, get_token

        from cellssl.datasets.transfer.http import RetryPolicy

        constants.HF_HUB_DISABLE_TELEMETRY = True  # it would also write a file into the home directory
        if constants.HF_HUB_OFFLINE:
            raise UsageError(
                f"{name} cannot be looked up: HF_HUB_OFFLINE forbids it",
                hint="unset HF_HUB_OFFLINE, or name a store that has the model with one more --store",
            )
        return cls(name, constants.ENDPOINT, get_token(), RetryPolicy())

    def commit(self) -> Generator[Event, None, str]:
        """Return the commit that the revision stands for now."""
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.endpoint, token=self.token or False)
        ask = partial(api.model_info, self.name.id, revision=self.name.revision, timeout=self.policy.timeout_s)
        info = yield from self._asked(ask)
        if not COMMIT.fullmatch(str(info.sha)):  # it becomes the name of a folder
            raise NetworkError(f"{self.endpoint} names no commit of {self.name}", hint=RUN_AGAIN)
        return str(info.sha)

    def size(self, name: HubName, file: str) -> Generator[Event, None, int | None]:
        """Return the bytes of a file, where the hub says them; UsageError where the model has no such file."""
        from huggingface_hub import get_hf_file_metadata

        ask = partial(get_hf_file_metadata, self._url(name, file), token=self.token or False, endpoint=self.endpoint)
        found: Any = yield from self._asked(partial(ask, timeout=self.policy.timeout_s))
        size: int | None = found.size
        return size

    def download(self, name: HubName, file: str, target: Path) -> Generator[Event, None, None]:
        """Download a file; its bytes are compared by the caller."""
        from cellssl.datasets.transfer.download import download
        from cellssl.datasets.transfer.http import RefusedError

        url = self._url(name, file)
        try:
            yield from download(url, target, self.policy, verified_by_caller=True, token=self.token)
        except RefusedError as error:
            raise NetworkError(error.message, hint=RUN_AGAIN) from error

    def _url(self, name: HubName, file: str) -> str:
        return f"{self.endpoint}/{name.id}/resolve/{quote(name.revision, safe='')}/{file}"

    def _asked(self, ask: Callable[[], Answer]) -> Generator[Event, None, Answer]:
        """Return what the hub answers, asked again while it is busy."""
        from cellssl.datasets.transfer.threads import run_in_thread

        for number in range(1, self.policy.tries + 1):
            try:
                return (yield from run_in_thread(partial(self._explained, ask)))
            except NetworkError:
                if number == self.policy.tries:
                    raise
                yield from run_in_thread(partial(self.policy.wait, number))
        raise AssertionError

    def _explained(self, ask: Callable[[], Answer]) -> Answer:
        """Ask; raise UsageError or NetworkError, with a cure, for all that the library raises."""
        from huggingface_hub import errors

        place = f"{self.name.id} at {self.endpoint}"
        try:
            return ask()
        except errors.GatedRepoError as error:
            raise UsageError(f"{place} may be read only with the permission of its owner", hint=TOKEN) from error
        except errors.RevisionNotFoundError as error:
            raise UsageError(
                f"{place} has no revision {self.name.revision}", hint="name a branch, a tag or a whole commit of it"
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise UsageError(
                f"there is no model {place}, or it is private", hint=f"correct the name; if it is private, {TOKEN}"
            ) from error
        except errors.EntryNotFoundError as error:
            raise of_another_program(str(self.name)) from error
        except errors.HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in (401, 403):
                raise UsageError(f"{self.endpoint} refuses {self.name.id} (status {status})", hint=TOKEN) from error
            raise NetworkError(f"{self.endpoint} answered {status} for {self.name}", hint=RUN_AGAIN) from error
        except (OSError, _http_error()) as error:
            raise NetworkError(f"{self.endpoint} cannot be reached: {error}", hint=RUN_AGAIN) from error
        except (ValueError, TypeError, KeyError) as error:
            raise NetworkError(f"{self.endpoint} does not answer as a hub does", hint=RUN_AGAIN) from error


def _http_error() -> type[Exception]:
    """Return the error from which those of the library that huggingface_hub asks with are made: httpx or requests."""
    from huggingface_hub import errors

    return next(one for one in errors.HfHubHTTPError.__mro__[1:] if issubclass(one, Exception))
