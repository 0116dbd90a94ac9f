"""weights_cache: the address of published weights in, their file in a store out: downloaded once, checked each time."""

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
"""Where a store keeps what was downloaded."""
HASH = re.compile(r"-([0-9a-f]{8,})\.\w+$")
"""In the names of published files: how the sha256 of their bytes begins."""


@dataclass(frozen=True)
class Download:
    """Weights that others publish for a network that a recipe names, and how to have them before they are needed."""

    what: str
    is_there: Callable[[Store], bool]
    bring: Callable[[RunContext], Generator[Event, None, object]]


def file_download(what: str, url: str, place: str | None = None) -> Download:
    """The download of one file to `place` below the store's `weights`; the file's own name where none is given."""
    place = place or name_of(url)
    return Download(what, lambda store: find_cached(place, store) is not None, partial(fetch_cached, url, place=place))


def name_of(url: str) -> str:
    """The last part of an address."""
    return url.rsplit("/", 1)[-1]


def find_cached(place: str, store: Store) -> Path | None:
    """The file at `place` below `weights`, in any of the stores that are read; IntegrityError where it is another."""
    for root in (store.root, *store.upstreams):
        if (root / FOLDER / place).is_file():
            return _as_named(root / FOLDER / place)
    return None


def fetch_cached(url: str, context: RunContext, place: str | None = None) -> Generator[Event, None, Path]:
    """The published file at an address, from the folder `weights` of a store; downloaded once, and checked each time.

    Raises NetworkError where it cannot be had, and IntegrityError where its bytes are not those that its name promises.
    """
    place = place or name_of(url)
    there = find_cached(place, context.store)
    if there is not None:
        return there
    target = context.store.root / FOLDER / place
    with hold_lock(target.with_name(f"{target.name}.lock"), wait=context.wait, waiting=context.waiting):
        if not target.is_file():
            yield from _bring(url, target)
    return _as_named(target)


def _bring(url: str, target: Path) -> Iterator[Event]:
    """Until it is known to be whole and right, the file has another name."""
    from cellssl.datasets.transfer.download import download
    from cellssl.datasets.transfer.http import RetryPolicy

    incoming = target.with_name(f"incoming-{target.name}")
    try:
        yield from download(url, incoming, RetryPolicy())
    except NetworkError as error:
        raise NetworkError(
            error.message,
            hint=f"run the same command again, or put the file at {target}, or name a file of yours as weights",
        ) from error
    if not _is_as_named(incoming):
        incoming.unlink()
        raise IntegrityError(f"{url} sent other bytes than its name promises", hint=f"put the right file at {target}")
    incoming.replace(target)


def _as_named(path: Path) -> Path:
    if not _is_as_named(path):
        raise IntegrityError(
            f"{path} is not the file that its name promises", hint="remove it, and run the same command again"
        )
    return path


def _is_as_named(path: Path) -> bool:
    promised = HASH.search(path.name)
    return promised is None or sha256_of(path).startswith(promised.group(1))
