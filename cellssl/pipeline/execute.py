"""execute: a planned stage in, its artifact out: found in the store, or made from its inputs."""

from __future__ import annotations

from cellssl.artifacts.card import kind_of_input
from cellssl.artifacts.store import Artifact, Store
from cellssl.engine.build import Build, Job, RunContext, find_or_make
from cellssl.engine.cards import find_planned
from cellssl.engine.stage import stage_module
from cellssl.errors import UsageError
from cellssl.pipeline.plan import Planned


def make(planned: Planned, context: RunContext) -> Build:
    """Find or make the artifact of a planned stage; its inputs must be there.

    Raises UsageError, with the command to run first, where an input is missing.
    """
    inputs = {name: _upstream(planned, name, context.store) for name in planned.inputs}
    work = stage_module(planned.stage).run
    return (yield from find_or_make(planned.card, planned.settings, inputs, context, planned.seed, work))


def find_finished(planned: Planned, store: Store, checked: set[str]) -> Artifact | None:
    """Return the finished artifact of a planned stage, or None.

    Raises IntegrityError where it, or a stage that it stands on, was made with another value of a setting. Fingerprints
    in `checked` are not looked at; those that were are added.
    """
    found = find_planned(store, planned.card, planned.settings)
    if found is not None:
        checked.add(planned.fingerprint)
        for upstream in planned.upstream.values():
            if upstream.fingerprint not in checked:
                find_finished(upstream, store, checked)
                checked.add(upstream.fingerprint)
    return found


def assist(planned: Planned, context: RunContext) -> None:
    """Work as one of several processes on what the main process makes."""
    card = planned.card
    inputs = {name: _upstream(planned, name, context.store) for name in planned.inputs}
    draft = context.store.open_draft(card.kind, card.fingerprint)
    stage_module(planned.stage).assist(Job(card, planned.settings, inputs, draft, context, planned.seed))


def _upstream(planned: Planned, name: str, store: Store) -> Artifact:
    if name in planned.given:
        return planned.given[name]
    kind, fingerprint = kind_of_input(name), planned.inputs[name]
    if name in planned.upstream:
        found = find_planned(store, planned.upstream[name].card, planned.upstream[name].settings)
    else:
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
