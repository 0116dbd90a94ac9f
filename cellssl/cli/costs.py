"""costs: the stages of a recipe in, what making them took out, in numbers and in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cellssl.artifacts.store import Artifact, Store
from cellssl.cli.console import in_words
from cellssl.engine.resources import Usage, sum_usage


def spent(store: Store, rows: list[dict[str, Any]]) -> Usage:
    """What the artifacts of `rows` that are there took to make, and the parts that they gather, each once."""
    wholes = [store.find(row["stage"], row["fingerprint"]) for row in rows if row["state"] == "done"]
    runs = {}
    for whole in wholes:
        if whole is not None:
            runs[whole.fingerprint] = whole.card.run
            runs |= {part.fingerprint: part.card.run for part in _made_before(whole, store)}
    return sum_usage(runs.values())


def _made_before(whole: Artifact, store: Store) -> Iterator[Artifact]:
    """Parts whose costs are not among those of the whole."""
    if "parts.json" not in whole.card.files:
        return
    around = store.beside(whole)
    for fingerprint in json.loads(whole.file("parts.json").read_text(encoding="utf-8")).values():
        part = around.find(whole.card.kind, fingerprint)
        if part is not None and fingerprint not in whole.card.run.get("made_within", ()):
            yield part


def said(costs: Usage) -> str:
    """One line for a person."""
    if not costs:
        return "nothing is done yet"
    words = [in_words(costs.get("seconds", 0)), f"{in_words(costs.get('cpu_s', 0))} of processors"]
    if "gpu_s" in costs:
        words.append(f"{in_words(costs['gpu_s'])} holding a GPU")
    words.append(f"at most {costs.get('peak_memory_mb', 0):,.0f} MB of memory")
    if "bytes_read" in costs:
        read, written = (costs[name] / 1e9 for name in ("bytes_read", "bytes_written"))
        words.append(f"{read:,.2f} GB read and {written:,.2f} GB written")
    return f"what is done took {', '.join(words)}"
