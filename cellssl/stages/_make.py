"""_make: a planned stage in, its finished artifact out: found in the store, or made under a lock and renamed."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cellssl.artifacts.card import Card, kind_of_input
from cellssl.artifacts.locks import Holder
from cellssl.artifacts.store import Artifact, Draft, Store
from cellssl.errors import UsageError
from cellssl.events import Event
from cellssl.settings import Strict
from cellssl.stages._costs import LARGEST, Costs, Meter, summed
from cellssl.stages._plan import Planned, module_of

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
    return (yield from _found_or_made(card, settings, inputs, bench, None, work))


def make(planned: Planned, bench: Bench, given: Mapping[str, Artifact] | None = None) -> Making:
    """The artifact of a planned stage; its inputs must be there.

    Raises UsageError, with the command to run first, where an input is missing.
    """
    inputs = {name: _upstream(planned, name, bench.store, given or {}) for name in planned.inputs}
    work = module_of(planned.stage).run
    return (yield from _found_or_made(planned.card, planned.settings, inputs, bench, planned.seed, work))


def assist(planned: Planned, bench: Bench, given: Mapping[str, Artifact] | None = None) -> None:
    """Take part in what the first of several processes makes."""
    card = planned.card
    inputs = {name: _upstream(planned, name, bench.store, given or {}) for name in planned.inputs}
    draft = bench.store.visiting(card.kind, card.fingerprint)
    module_of(planned.stage).assist(Job(card, planned.settings, inputs, draft, bench, planned.seed))


def _found_or_made(
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


def _upstream(planned: Planned, name: str, store: Store, given: Mapping[str, Artifact]) -> Artifact:
    if name in given:
        return given[name]
    kind, fingerprint = kind_of_input(name), planned.inputs[name]
    found = store.find(kind, fingerprint)
    if found is None:
        arm, _, rest = name.partition("/")
        seed = rest.partition("/")[0] if rest else planned.asked_seed
        flags = f" --arm {arm if rest else planned.arm}" + (f" --seed {seed}" if seed is not None else "")
        raise UsageError(
            f"{planned.stage} needs the {kind} artifact {fingerprint}, which is not in {store.root}",
            hint=f"cellssl run {planned.recipe} --to {kind}{flags}",
        )
    return found


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
