"""cards: settings, inputs and external files of a result in, the card that names it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellssl.artifacts.card import Card, fingerprint
from cellssl.config.settings import SettingsModel


def card_for(
    kind: str,
    algorithm: int,
    settings: SettingsModel,
    inputs: dict[str, str],
    outside: dict[str, str],
    seed: int | None = None,
    identity: Mapping[str, Any] | None = None,
) -> Card:
    """The card of a result that is yet to be made; `identity` is what counts besides the settings."""
    more = {**({} if seed is None else {"seed": seed}), **(identity or {})}
    print_ = fingerprint(kind, algorithm, {**settings.non_default(), **more}, inputs, outside)
    return Card(kind, algorithm, print_, {**settings.all_values(), **more}, inputs, outside, files={})
