"""cards: what determines a result in, the card that names it out; and a found card compared with the planned one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cellssl.artifacts.card import Card, fingerprint
from cellssl.artifacts.store import Artifact, Store
from cellssl.config.settings import FROM_CARD, SettingsModel, first_fault, is_counted
from cellssl.engine.plate_parts import names_of_parts
from cellssl.errors import IntegrityError

FORCE = "--force sets the old one aside and makes it again with today's defaults"

DEFAULTS_CHANGED = "defaults_changed"
"""Key of a card's `run`: since when the artifact has other defaults than an earlier one of the same name."""


def card_for(
    kind: str,
    algorithm: int,
    settings: SettingsModel,
    inputs: dict[str, str],
    external: dict[str, str],
    seed: int | None = None,
    identity: Mapping[str, Any] | None = None,
) -> Card:
    """Return the card of a result that is yet to be made.

    `external` is the sha256 of every external file by its role; `identity` is what counts besides the settings.
    """
    more = {**({} if seed is None else {"seed": seed}), **(identity or {})}
    print_ = fingerprint(kind, algorithm, {**settings.fingerprint_values(), **more}, inputs, external)
    return Card(kind, algorithm, print_, {**settings.all_values(), **more}, inputs, external, files={})


def find_planned(store: Store, planned: Card, settings: SettingsModel) -> Artifact | None:
    """Return the finished artifact of a planned card, or None where it, or a part of it, is not complete.

    Raises IntegrityError where it was made with another value of a setting: a default has changed since, and defaults
    do not enter the fingerprint.
    """
    found = store.find(planned.kind, planned.fingerprint)
    if found is not None and (changes := changed_defaults(found.card, settings)):
        more = f", and {len(changes) - 1} more settings differ" if len(changes) > 1 else ""
        raise IntegrityError(
            f"{found.path} was made with {planned.kind}.{changes[0]}{more}",
            hint=f"{FORCE}; or write the former value into the recipe",
        )
    return None if found is not None and lost_files(found, store) else found


def lost_files(found: Artifact, store: Store) -> list[Path]:
    """Return the files that have gone from a finished artifact or from its parts, as a purge of old files leaves it."""
    lost = [found.path / name for name in found.lost_files()]
    if lost:
        return lost
    for name in names_of_parts(found):
        part = store.find(found.card.kind, name)
        lost += [found.path.with_name(name)] if part is None else [part.path / file for file in part.lost_files()]
    return lost


@dataclass(frozen=True)
class ChangedDefault:
    """A setting in which a finished card differs from the plan of the same name."""

    name: str
    then: Any
    """The value in the card."""
    now: Any
    """The value in the plan."""
    fault: str = ""
    """Why the card's value is no longer valid, where it is not."""

    def __str__(self) -> str:
        if self.fault:
            return f"{self.name} = {self.then!r}, which is no longer valid: {self.fault}"
        return f"{self.name} = {self.then!r}, and the default is now {self.now!r}"


def changed_defaults(card: Card, settings: SettingsModel) -> list[ChangedDefault]:
    """Return the settings in which a finished card differs from the plan of the same name.

    Both are compared on the settings that both have. Former names of settings are translated, settings without effect
    are left out, and a setting that only the plan has counts as equal.
    """
    try:
        then = type(settings).model_validate(_with_excluded(card.section, settings), context={FROM_CARD: True})
    except ValidationError as error:
        fault = first_fault(error)
        name = ".".join(map(str, fault.path))
        return [ChangedDefault(name, json.loads(_flat(card.section).get(name, "null")), None, fault.message)]
    touched = dict(_flat(then.non_default()).items() ^ _flat(settings.non_default()).items())
    before, after = (dict(_nodes(one.all_values())) for one in (then, settings))
    return [
        ChangedDefault(name, before.get(name), after.get(name))
        for name in sorted(touched)
        if before.get(name) != after.get(name)
    ]


def _nodes(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every nested value with its dotted path, tables and lists too."""
    if prefix:
        yield prefix, values
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        yield from _nodes(value, f"{prefix}.{key}" if prefix else str(key))


def _with_excluded(section: Any, planned: Any) -> Any:
    """Return a card's values with the planned ones that do not count, such as the path of a table: no card has them."""
    match section, planned:
        case dict(), SettingsModel():
            fields = type(planned).model_fields
            uncounted = {name: getattr(planned, name) for name in fields if not is_counted(fields[name])}
            below = {name: _with_excluded(section[name], getattr(planned, name)) for name in fields if name in section}
            return {**section, **below, **uncounted}
        case dict(), dict():
            return {key: _with_excluded(value, planned.get(key)) for key, value in section.items()}
        case list(), tuple() | list() if len(section) == len(planned):
            return [_with_excluded(value, planned[place]) for place, value in enumerate(section)]
    return section


def _flat(values: Any) -> dict[str, str]:
    """Return nested values by their dotted paths, each as JSON text; tables and lists only where they are empty."""
    return {
        name: json.dumps(value, sort_keys=True)
        for name, value in _nodes(values)
        if not (isinstance(value, dict | list) and value)
    }
