"""execute: a planned stage in, its artifact out: found in the store, or made from its inputs."""

from __future__ import annotations

from pathlib import Path

from cellssl.artifacts.card import is_shared_model, kind_of_input
from cellssl.artifacts.shared_models import check_no_shared_one, find_model, keep
from cellssl.artifacts.store import Artifact, Store
from cellssl.engine.build import Build, Job, RunContext, find_or_make
from cellssl.engine.cards import DEFAULTS_CHANGED, FORCE, find_planned
from cellssl.engine.plate_parts import names_of_parts
from cellssl.engine.stage import stage_module
from cellssl.errors import IntegrityError, UsageError
from cellssl.pipeline.planned import Planned
from cellssl.stages.embed.models import check_weights


def make(planned: Planned, context: RunContext) -> Build:
    """Find or make the artifact of a planned stage; its inputs must be there.

    Raises UsageError, with the command to run first, where an input is missing.
    """
    inputs = {name: _upstream(planned, name, context.store) for name in planned.inputs}
    planned.check_inputs(inputs)
    if planned.stage == "pretrain":
        check_no_shared_one(planned.fingerprint, context.store)
    for name, artifact in inputs.items():
        if is_shared_model(artifact.card):
            inputs[name] = keep(artifact, context.store, check_weights, wait=context.wait, waiting=context.waiting)
    work = stage_module(planned.stage).run
    return (yield from find_or_make(planned.card, planned.settings, inputs, context, planned.seed, work))


def find_finished(planned: Planned, store: Store, checked: set[str], changes: dict[str, str]) -> Artifact | None:
    """Return the finished artifact of a planned stage, or None.

    Raises IntegrityError where it, or a stage that it stands on, was made with another value of a setting, or where
    such a stage was made again since. Fingerprints in `checked` are not looked at; those that were are added.
    `changes` keeps the results of `newest_change`.
    """
    found = find_planned(store, planned.card, planned.settings)
    if found is None:
        return None
    checked.add(planned.fingerprint)
    for upstream in planned.upstream.values():
        if upstream.fingerprint not in checked:
            find_finished(upstream, store, checked, changes)
            checked.add(upstream.fingerprint)
    if older := made_before_change(found, planned, store, changes):
        raise IntegrityError(
            f"{found.path} was made before its {older} was made again with today's defaults", hint=FORCE
        )
    return found


def not_compared(found: Artifact, store: Store) -> list[Path]:
    """Return the files of a finished artifact and of its parts that were not read since they came here or changed.

    Reads no large file. Raises IntegrityError where a file is missing or has another size, UsageError where a part is
    in no known store.
    """
    files = found.not_compared()
    around = store.with_store_of(found)
    for part in names_of_parts(found):
        files += around.get(found.card.kind, part).not_compared()
    return files


def made_before_change(found: Artifact, planned: Planned, store: Store, changes: dict[str, str]) -> str:
    """Return the input that has other defaults since an artifact was made, or stands on one that has; "" if none."""
    made = str(found.card.run.get("started", ""))
    late = (one.stage for one in planned.upstream.values() if newest_change(one, store, changes) > made)
    return next(late, "")


def newest_change(planned: Planned, store: Store, changes: dict[str, str]) -> str:
    """Return when a stage or one that it stands on was last made again with other defaults; "" where none was."""
    if planned.fingerprint not in changes:
        found = store.find(planned.stage, planned.fingerprint)
        own = "" if found is None else str(found.card.run.get(DEFAULTS_CHANGED, ""))
        changes[planned.fingerprint] = max(
            [own, *(newest_change(one, store, changes) for one in planned.upstream.values())]
        )
    return changes[planned.fingerprint]


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
        found = find_model(store, fingerprint) if kind == "pretrain" else store.find(kind, fingerprint)
    if found is None:
        source = planned.upstream.get(name, planned)
        flags = f" --arm {source.arm}" + (f" --seed {source.asked_seed}" if source.asked_seed is not None else "")
        raise UsageError(
            f"{planned.stage} needs the {kind} artifact {fingerprint}, which is not in {store.root}",
            hint=f"cellssl run {planned.recipe} --to {kind}{flags}",
        )
    return found
