"""card_settings: the card of an artifact in; its settings, with the defaults of what it lacks or without any, out."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

from pydantic import ValidationError

from cellssl.artifacts.store import Artifact
from cellssl.config import plugins
from cellssl.config.settings import FROM_CARD, PluginField, SettingsModel, json_ready
from cellssl.errors import UsageError


def complete_section(artifact: Artifact) -> dict[str, Any]:
    """Return all settings of an artifact; those that its card lacks have the defaults of this version."""
    model = _model(artifact.card.kind)
    defaults = _defaults(model)
    found = {model.RENAMED.get(name, name): value for name, value in artifact.card.section.items()}
    tables = {
        name: {**defaults[name], **value}
        for name, value in found.items()
        if isinstance(value, dict) and isinstance(defaults.get(name), dict) and "name" not in value
    }
    return {**defaults, **found, **tables}


def changed_section(artifact: Artifact) -> dict[str, Any]:
    """Return the settings of an artifact that are not the defaults of this version."""
    return _changed(_model(artifact.card.kind), artifact.card.section)


def _model(kind: str) -> type[SettingsModel]:
    return cast("type[SettingsModel]", importlib.import_module(f"cellssl.stages.{kind}.settings").Settings)


def _defaults(model: type[SettingsModel]) -> dict[str, Any]:
    fields = model.model_fields.items()
    return {
        name: json_ready(field.get_default(call_default_factory=True), full=True)
        for name, field in fields
        if not field.is_required()
    }


def _changed(model: type[SettingsModel], section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are not the defaults.

    Where the section is not valid, each is compared by itself: cards lack the files of a user, which may be required.
    """
    try:
        return model.model_validate(dict(section), context={FROM_CARD: True}).non_default()
    except (UsageError, ValidationError):
        return _changed_one_by_one(model, section)


def _changed_one_by_one(model: type[SettingsModel], section: Mapping[str, Any]) -> dict[str, Any]:
    defaults = _defaults(model)
    found = {}
    for former, value in section.items():
        name = model.RENAMED.get(former, former)
        if name not in defaults or value != defaults[name]:
            found[name] = _of_plugin(model, name, value)
    return found


def _of_plugin(model: type[SettingsModel], name: str, value: Any) -> Any:
    """Return the settings of a plugin that are not its defaults, beside its name; any other value as it is."""
    field = model.model_fields.get(name)
    folder = next((one.folder for one in field.metadata if isinstance(one, PluginField)), None) if field else None
    if folder is None or not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return value
    try:
        chosen = plugins.load(folder, value["name"]).Settings
    except UsageError:
        return value
    rest = {key: one for key, one in value.items() if key != "name"}
    return {"name": value["name"], **_changed(chosen, rest)}
