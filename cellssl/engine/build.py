"""build: a planned stage in, its finished artifact out: found in the store, or made under a lock and renamed."""

from __future__ import annotations

import platform
import socket
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cellssl.artifacts.card import Card
from cellssl.artifacts.locks import LockHolder
from cellssl.artifacts.store import Artifact, Draft, Store
from cellssl.config.settings import SettingsModel
from cellssl.device import allowed_cores
from cellssl.engine.cards import DEFAULTS_CHANGED, changed_defaults, find_planned
from cellssl.engine.resources import LARGEST, Usage, UsageMeter, sum_usage
from cellssl.errors import IntegrityError
from cellssl.events import Event

Build = Generator[Event, None, Artifact]
"""Work that yields events and returns the finished artifact."""
Metrics = dict[str, Any]


@dataclass(frozen=True)
class RunContext:
    """Where and how results are made; of a result it changes the last bits at most."""

    store: Store
    device: str = "auto"
    threads: int | None = None
    """Threads of networks that a user asked for; None where the network decides."""
    wait: bool = True
    force: bool = False
    waiting: Callable[[LockHolder], None] = lambda _: None
    finished: Callable[[Artifact], None] = lambda _: None
    """Called with every artifact that is made, while its lock is still held."""
    refused: Mapping[str, str] | None = None
    """Plates that the check before refused to make, each with the reason; None where no check was made and shown."""
    made: list[Artifact] = field(default_factory=list, repr=False)
    """What was made in this context so far, in order."""


@dataclass(frozen=True)
class Job:
    """What a stage gets: its card, settings and inputs, and the draft that it writes to."""

    card: Card
    settings: Any
    inputs: Mapping[str, Artifact]
    draft: Draft
    context: RunContext
    seed: int | None
    ran: dict[str, Any] = field(default_factory=dict)


def build_part(
    context: RunContext,
    card: Card,
    settings: SettingsModel,
    inputs: Mapping[str, Artifact],
    work: Callable[[Job], Generator[Event, None, Metrics]],
) -> Build:
    """Find or make one plate's part of a result; it is an artifact of its own."""
    return (yield from find_or_make(card, settings, inputs, context, None, work))


def find_or_make(
    card: Card,
    settings: SettingsModel,
    inputs: Mapping[str, Artifact],
    context: RunContext,
    seed: int | None,
    work: Callable[[Job], Generator[Event, None, Metrics]],
) -> Build:
    """Return the artifact of a card: found in the store, or made by `work` under a lock.

    Raises IntegrityError where the one that is there was made with another default.
    """
    found = None if context.force else find_planned(context.store, card, settings)
    if found is not None:
        return found
    with context.store.drafting(card.kind, card.fingerprint, wait=context.wait, waiting=context.waiting) as draft:
        # another process may have made it while this one waited; what --force makes again may be damaged: do not look
        found = None if context.force else find_planned(context.store, card, settings)
        if found is not None:
            return found
        for artifact in inputs.values():
            artifact.check_still_there()  # from here on, the lock keeps them from `cellssl gc`
        changed = _when_defaults_changed(context.store, card, settings)
        started, meter, made_before = time.time(), UsageMeter(), len(context.made)
        job = Job(card, settings, inputs, draft, context, seed)
        metrics = yield from work(job)
        usage = _with_parts(meter.read(_device(job.ran)), context.made[made_before:])
        run = {**_run_details(started), **usage, "uncounted": settings.excluded(), **changed, **job.ran}
        finished = draft.commit(replace(card, metrics=metrics, run=run))
        context.made.append(finished)
        context.finished(finished)
        return finished


def _when_defaults_changed(store: Store, card: Card, settings: SettingsModel) -> dict[str, str]:
    """Return the time from which an artifact that is made again has other defaults than before; {} where it has not.

    What was made of it earlier has the same name as before and would look finished; `newest_change` compares the times.
    """
    try:
        former = store.find(card.kind, card.fingerprint)
    except IntegrityError:  # it is damaged: that is why it is made again
        return {}
    if former is not None and changed_defaults(former.card, settings):
        return {DEFAULTS_CHANGED: _time_text(time.time())}
    before = former.card.run.get(DEFAULTS_CHANGED) if former is not None else None
    return {} if before is None else {DEFAULTS_CHANGED: before}


def _time_text(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _device(ran: Mapping[str, Any]) -> str:
    """Return the device that a stage, or its detector, reports; "cpu" where it reports none."""
    return str(ran.get("device") or ran.get("segmenter", {}).get("device") or "cpu")


def _with_parts(usage: Usage, parts: list[Artifact]) -> dict[str, Any]:
    """Return the usage of a gathered artifact, including and naming the parts that were made within it."""
    if not parts:
        return dict(usage)
    both = sum_usage([usage, *(part.card.run for part in parts)])
    peaks = {name: both[name] for name in LARGEST if name in both}
    return {**usage, **peaks, "made_within": [part.fingerprint for part in parts]}


def _run_details(started: float) -> dict[str, Any]:
    from importlib.metadata import version

    libraries = {name: version(name) for name in ("numpy", "torch", "torchvision", "scikit-image", "scikit-learn")}
    return {
        "cellssl": version("cellssl"),
        "started": _time_text(started),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": allowed_cores(),
        "libraries": libraries,
    }
