"""explain: the command `cellssl explain`: every setting with its default and meaning, from the settings models."""

from __future__ import annotations

import importlib
import json as json_
from typing import Annotated, Any

import typer

from cellssl.cli import options as o

PLUGIN_FOLDERS = {
    "datasets": "cellssl.datasets",
    "segmenters": "cellssl.imaging.segmenters",
    "cell_segmenters": "cellssl.imaging.cell_segmenters",
    "transforms": "cellssl.learning.transforms",
    "encoders": "cellssl.learning.encoders",
    "objectives": "cellssl.learning.objectives",
    "clusterers": "cellssl.profiling.clusterers",
    "normalisers": "cellssl.profiling.normalisers",
}
ALIASES = {"views": "transforms"}
"""Other words for a plugin folder."""
What = Annotated[
    str,
    typer.Argument(
        help="A stage, sweep, or transforms, objectives, encoders, segmenters, cell_segmenters, datasets, ..."
    ),
]
Name = Annotated[str | None, typer.Argument(help="One plugin of the folder, such as affine.")]


def command(what: What, name: Name = None, json: o.JsonOption = False) -> None:
    """List every setting: its default, unit and meaning.

    Example: cellssl explain transforms color_jitter
    """
    from cellssl.cli.console import Console

    models = _models(what, name)
    console = Console(as_json=json)
    details = {title: _settings(model) for title, model in models.items()}
    console.result("\n\n".join(_text(title, model) for title, model in models.items()), details)


def _models(what: str, name: str | None) -> dict[str, Any]:
    from cellssl.config import plugins
    from cellssl.config.recipe import CHAIN
    from cellssl.errors import UsageError

    what = ALIASES.get(what, what)
    sections = {**{stage: f"cellssl.stages.{stage}.settings" for stage in CHAIN}, "sweep": "cellssl.config.sweep"}
    if what in sections:
        if name is not None:
            raise UsageError(
                f"a section has no plugin {name!r}",
                hint=f"cellssl explain {what}, or a plugin folder: {', '.join(PLUGIN_FOLDERS)}",
            )
        module = importlib.import_module(sections[what])
        nested = getattr(module, "EXPLAINED", {})
        return {f"[{what}]": module.Settings, **{f"[{what}.{key}]": model for key, model in nested.items()}}
    if what in PLUGIN_FOLDERS:
        folder = PLUGIN_FOLDERS[what]
        return {one: plugins.load(folder, one).Settings for one in ((name,) if name else plugins.names(folder))}
    raise UsageError(
        f"there is nothing called {what!r} to explain",
        hint=plugins.did_you_mean(what, (*sections, *PLUGIN_FOLDERS, *ALIASES)),
    )


def _settings(model: Any) -> list[dict[str, str]]:
    """Return the settings of a model, its own before those that it shares with related plugins."""
    descriptions = model.descriptions()
    fields = sorted(model.model_fields.items(), key=lambda item: item[0] not in model.__annotations__)
    return [
        {
            "knob": field.alias or name,
            "default": _default(field),
            "meaning": " ".join(descriptions[name].split()),
        }
        for name, field in fields
    ]


def _text(title: str, model: Any) -> str:
    lines = [title, f"  {' '.join((model.__doc__ or '').split())}"]
    for setting in _settings(model):
        lines += [f"  {setting['knob']} = {setting['default']}", f"      {setting['meaning']}"]
    return "\n".join(lines)


def _default(field: Any) -> str:
    from cellssl.config.settings import Plugin, json_ready

    if field.is_required():
        return "(required)"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Plugin):
        return json_.dumps(value.plugin_name())
    if isinstance(value, tuple) and any(isinstance(one, Plugin) for one in value):
        return json_.dumps([one.plugin_name() if not one.non_default() else json_ready(one) for one in value])
    return "(not given)" if value is None else json_.dumps(json_ready(value))
