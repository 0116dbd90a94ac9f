"""build: a planned stage in, its finished artifact out: found in the store, or made under a lock and renamed."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cellssl.artifacts.card import Card
from cellssl.artifacts.locks import Holder
from cellssl.artifacts.store import Artifact, Draft, Store
from cellssl.config.settings import Strict
from cellssl.engine.resources import LARGEST, Costs, Meter, summed
from cellssl.events import Event

Making = Generator[Event, None, Artifact]


Metrics = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """Where and how results are made; none of it changes a result."""

    store: Store
    device: str = "auto"
    wait: bool = True
    force: bool = False
    waiting: Callable[[Holder], None] = lambda _: None
    made: list[Artifact] = field(default_factory=list, repr=False)
    """What was made here so far, in order."""


@dataclass(frozen=True)
class Job:
    """What a stage gets to work with."""

    card: Card
    settings: Any
    inputs: Mapping[str, Artifact]
    draft: Draft
    bench: Bench
    seed: int | None
    ran: dict[str, Any] = field(default_factory=dict)


def make_part(
    bench: Bench,
    card: Card,
    settings: Strict,
    inputs: Mapping[str, Artifact],
    work: Callable[[Job], Generator[Event, None, Metrics]],
) -> Making:
    """One plate's part of a result: an artifact of its own, found or made."""
    return (yield from find_or_make(card, settings, inputs, bench, None, work))


def find_or_make(
    card: Card,
    settings: Strict,
    inputs: Mapping[str, Artifact],
    bench: Bench,
    seed: int | None,
    work: Callable[[Job], Generator[Event, None, Metrics]],
) -> Making:
    found = None if bench.force else bench.store.find(card.kind, card.fingerprint)
    if found is not None:
        return found
    with bench.store.drafting(card.kind, card.fingerprint, wait=bench.wait, waiting=bench.waiting) as draft:
        # another process may have made it while this one waited; what is made again may be damaged, so nobody looks
        found = None if bench.force else bench.store.find(card.kind, card.fingerprint)
        if found is not None:
            return found
        started, meter, made_before = time.time(), Meter(), len(bench.made)
        job = Job(card, settings, inputs, draft, bench, seed)
        metrics = yield from work(job)
        costs = _with_parts(meter.read(_device(job.ran)), bench.made[made_before:])
        run = {**_circumstances(started), **costs, "uncounted": settings.uncounted(), **job.ran}
        finished = draft.commit(replace(card, metrics=metrics, run=run))
        bench.made.append(finished)
        return finished


def _device(ran: Mapping[str, Any]) -> str:
    """What a stage says that it ran on, or its detector."""
    return str(ran.get("device") or ran.get("segmenter", {}).get("device") or "cpu")


def _with_parts(costs: Costs, parts: list[Artifact]) -> dict[str, Any]:
    """The costs of a whole hold those of the parts that were made meanwhile, and say which these are."""
    if not parts:
        return dict(costs)
    both = summed([costs, *(part.card.run for part in parts)])
    peaks = {name: both[name] for name in LARGEST if name in both}
    return {**costs, **peaks, "made_within": [part.fingerprint for part in parts]}


def _circumstances(started: float) -> dict[str, Any]:
    from importlib.metadata import version

    libraries = {name: version(name) for name in ("numpy", "torch", "torchvision", "scikit-image", "scikit-learn")}
    return {
        "cellssl": version("cellssl"),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "libraries": libraries,
    }
