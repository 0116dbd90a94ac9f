"""usage: the stages of a recipe in, the time, memory and bytes that making them took out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cellssl.artifacts.store import Artifact, Store
from cellssl.engine.plate_parts import NUCLEI_OF_PLATE, names_of_parts
from cellssl.engine.resources import Usage, sum_usage


def spent(store: Store, rows: list[dict[str, Any]]) -> Usage:
    """Return what the finished artifacts of `rows` and the parts that they gather took to make, each counted once."""
    wholes = [store.find(row["stage"], row["fingerprint"]) for row in rows if row["state"] == "done"]
    runs = {}
    for whole in wholes:
        if whole is not None:
            runs[whole.fingerprint] = whole.card.run
            runs |= {part.fingerprint: part.card.run for part in _made_before(whole, store)}
    return sum_usage(runs.values())


def _made_before(whole: Artifact, store: Store) -> Iterator[Artifact]:
    """Yield the parts, and their own parts, whose usage is not included in that of the gathered artifact."""
    around = store.with_store_of(whole)
    for part in (around.find(whole.card.kind, fingerprint) for fingerprint in names_of_parts(whole)):
        if part is None:
            continue
        if part.fingerprint not in whole.card.run.get("made_within", ()):
            yield part
        nuclei = part.card.inputs.get(NUCLEI_OF_PLATE)
        found = around.find(whole.card.kind, nuclei) if nuclei else None
        if found is not None and not any(nuclei in one.card.run.get("made_within", ()) for one in (whole, part)):
            yield found
