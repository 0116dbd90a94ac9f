"""weights_cache: the URL of published weights in, their file in a store out, downloaded once, checked each time."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cellssl.artifacts.hashing import sha256_of
from cellssl.artifacts.locks import hold_lock
from cellssl.artifacts.store import Store
from cellssl.engine.build import RunContext
from cellssl.errors import IntegrityError, NetworkError
from cellssl.events import Event

FOLDER = "weights"
"""Folder of a store for downloaded weights."""
HASH = re.compile(r"-([0-9a-f]{8,})\.\w+$")
"""Part of the names of published files: the first digits of their sha256."""


@dataclass(frozen=True)
class Download:
    """Published weights of a network that a recipe names, and how to download them before they are needed."""

    what: str
    is_cached: Callable[[Store], bool]
    fetch: Callable[[RunContext], Generator[Event, None, object]]
    is_model: bool = False
    """Whether it is a model with a card: no stage that needs it can be planned before it is there, and `doctor
    --download` takes its newest version."""


def file_download(what: str, url: str, place: str | None = None) -> Download:
    """Return the download of one file to `place` below the folder `weights` of a store; by default its own name."""
    place = place or file_name(url)
    return Download(what, lambda store: find_cached(place, store) is not None, partial(fetch_cached, url, place=place))


def file_name(url: str) -> str:
    """Return the last part of a URL."""
    return url.rsplit("/", 1)[-1]


def find_cached(place: str, store: Store) -> Path | None:
    """Return the file at `place` below `weights` in any of the stores that are read, or None.

    Raises IntegrityError where its bytes do not have the hash in its name.
    """
    for root in (store.root, *store.upstreams):
        if (root / FOLDER / place).is_file():
            return _checked(root / FOLDER / place)
    return None


def fetch_cached(url: str, context: RunContext, place: str | None = None) -> Generator[Event, None, Path]:
    """Return the published file of a URL in the folder `weights` of a store; downloaded once, and checked each time.

    Raises NetworkError where it cannot be downloaded, and IntegrityError where its bytes do not have the hash in its
    name.
    """
    place = place or file_name(url)
    cached = find_cached(place, context.store)
    if cached is not None:
        return cached
    target = context.store.root / FOLDER / place
    with hold_lock(target.with_name(f"{target.name}.lock"), wait=context.wait, waiting=context.waiting):
        if not target.is_file():
            yield from _download(url, target)
    return _checked(target)


def _download(url: str, target: Path) -> Iterator[Event]:
    """Download to `target`; the file has another name until it is complete and its hash is checked."""
    from cellssl.datasets.transfer.download import download
    from cellssl.datasets.transfer.http import RetryPolicy

    incoming = target.with_name(f"incoming-{target.name}")
    try:
        yield from download(url, incoming, RetryPolicy())
    except NetworkError as error:
        raise NetworkError(
            error.message,
            hint=f"run the same command again, put the file at {target}, or give a file of your own as weights",
        ) from error
    if not _has_named_hash(incoming):
        incoming.unlink()
        raise IntegrityError(
            f"{url} sent a file whose sha256 is not the one in its name", hint=f"put the right file at {target}"
        )
    incoming.replace(target)


def _checked(path: Path) -> Path:
    if not _has_named_hash(path):
        raise IntegrityError(
            f"{path} does not have the sha256 in its name", hint="remove it, and run the same command again"
        )
    return path


def _has_named_hash(path: Path) -> bool:
    promised = HASH.search(path.name)
    return promised is None or sha256_of(path).startswith(promised.group(1))
