"""cards: what determines a result in, the card that names it out; and a found card compared with the planned one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from cellssl.artifacts.card import Card, fingerprint
from cellssl.artifacts.store import Artifact, Store
from cellssl.config.settings import FROM_CARD, SettingsModel, first_fault
from cellssl.errors import IntegrityError

FORCE = "--force sets the old one aside and makes it again with today's defaults"


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
    """Return the finished artifact of a planned card, or None.

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
    return found


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
        section = _with_uncounted(card.section, settings)
        then = type(settings).model_validate(section, context={FROM_CARD: True})
    except ValidationError as error:
        fault = first_fault(error)
        name = ".".join(map(str, fault.path))
        return [ChangedDefault(name, json.loads(_flat(card.section).get(name, "null")), None, fault.message)]
    touched = dict(_flat(then.non_default()).items() ^ _flat(settings.non_default()).items())
    before, after = _flat(then.all_values()), _flat(settings.all_values())
    return [
        ChangedDefault(name, json.loads(before.get(name, "null")), json.loads(after.get(name, "null")))
        for name in sorted(touched)
        if before.get(name) != after.get(name)
    ]


def _with_uncounted(section: Any, planned: Any) -> Any:
    """Return the section of a card with the plan's values of settings that cards do not hold, such as paths."""
    match planned:
        case SettingsModel() if isinstance(section, dict):
            fields = type(planned).model_fields
            nested = {
                name: _with_uncounted(section[name], getattr(planned, name)) for name in fields if name in section
            }
            return {**section, **nested, **planned.excluded()}
        case dict() if isinstance(section, dict):
            return {key: _with_uncounted(value, planned.get(key)) for key, value in section.items()}
        case _:
            return section


def _flat(values: Any, prefix: str = "") -> dict[str, str]:
    """Return nested values by their dotted paths, each as JSON text."""
    items: Iterable[tuple[Any, Any]] | None = None
    if isinstance(values, dict) and values:
        items = values.items()
    elif isinstance(values, list) and values:
        items = enumerate(values)
    if items is None:
        return {prefix: json.dumps(values, sort_keys=True)}
    flat: dict[str, str] = {}
    for key, value in items:
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
