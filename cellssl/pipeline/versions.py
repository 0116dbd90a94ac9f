"""versions: finished stages in, the libraries that have another version today than when these were made, out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cellssl.artifacts.store import Store


@dataclass(frozen=True)
class OtherVersion:
    """A library, its version in the cards of these stages, and its version today ("none" where it is not there)."""

    library: str
    then: str
    today: str
    stages: tuple[str, ...]


def other_versions(store: Store, rows: Iterable[Mapping[str, Any]]) -> list[OtherVersion]:
    """Return what differs from today in the cards of the finished stages among `rows` (those of `Session.states`).

    A version is no part of a fingerprint: such a result stays what it is, and is not made again.
    """
    stages: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        done = row["state"] == "done" or row["state"].startswith("outdated")
        found = store.find(row["stage"], row["fingerprint"]) if done else None
        for library, then in _versions(found.card.run if found else {}).items():
            stages.setdefault((library, then), {})[row["stage"]] = None
    today = {library: _today(library) for library, _ in stages}
    return [
        OtherVersion(library, then, today[library], tuple(of_stages))
        for (library, then), of_stages in sorted(stages.items())
        if then != today[library]
    ]


def _versions(run: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions in the `run` of a card: of this package and of its libraries."""
    found = {"cellssl": run.get("cellssl"), **(run.get("libraries") or {})}
    return {str(library): str(then) for library, then in found.items() if then is not None}


def _today(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"
