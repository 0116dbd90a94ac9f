"""explain: the command `cellssl explain`: every knob with its default and meaning, from the settings models."""

from __future__ import annotations

import importlib
import json as json_
from typing import Annotated, Any

import typer

from cellssl.cli import options as o

ROOMS = {
    "datasets": "cellssl.datasets",
    "segmenters": "cellssl.imaging.segmenters",
    "views": "cellssl.learning.transforms",
    "encoders": "cellssl.learning.encoders",
    "objectives": "cellssl.learning.objectives",
    "clusterers": "cellssl.profiling.clusterers",
}
What = Annotated[
    str, typer.Argument(help="A stage, sweep, or views, objectives, encoders, segmenters, datasets, clusterers.")
]
Name = Annotated[str | None, typer.Argument(help="One part of the room, such as affine.")]


def command(what: What, name: Name = None, json: o.JsonOption = False) -> None:
    """List every knob: its default, unit and meaning.

    Example: cellssl explain views color_jitter
    """
    from cellssl.cli.console import Console

    models = _models(what, name)
    console = Console(as_json=json)
    details = {title: _knobs(model) for title, model in models.items()}
    console.result("\n\n".join(_text(title, model) for title, model in models.items()), details)


def _models(what: str, name: str | None) -> dict[str, Any]:
    from cellssl.config import plugins
    from cellssl.config.recipe import CHAIN
    from cellssl.errors import UsageError

    sections = {**{stage: f"cellssl.stages.{stage}.settings" for stage in CHAIN}, "sweep": "cellssl.config.sweep"}
    if what in sections:
        if name is not None:
            raise UsageError(
                f"a section has no part {name!r}", hint=f"cellssl explain {what}, or a room: {', '.join(ROOMS)}"
            )
        module = importlib.import_module(sections[what])
        nested = getattr(module, "EXPLAINED", {})
        return {f"[{what}]": module.Settings, **{f"[{what}.{key}]": model for key, model in nested.items()}}
    if what in ROOMS:
        room = ROOMS[what]
        return {part: plugins.load(room, part).Settings for part in ((name,) if name else plugins.names(room))}
    raise UsageError(
        f"there is nothing called {what!r} to explain", hint=plugins.did_you_mean(what, (*sections, *ROOMS))
    )


def _knobs(model: Any) -> list[dict[str, str]]:
    """A part's own knobs first, then those that it shares with its family."""
    fields = sorted(model.model_fields.items(), key=lambda item: item[0] not in model.__annotations__)
    return [
        {
            "knob": field.alias or name,
            "default": _default(field),
            "meaning": " ".join((field.description or "").split()),
        }
        for name, field in fields
    ]


def _text(title: str, model: Any) -> str:
    lines = [title, f"  {' '.join((model.__doc__ or '').split())}"]
    for knob in _knobs(model):
        lines += [f"  {knob['knob']} = {knob['default']}", f"      {knob['meaning']}"]
    return "\n".join(lines)


def _default(field: Any) -> str:
    from cellssl.config.settings import Plugin, json_ready

    if field.is_required():
        return "(required)"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Plugin):
        return json_.dumps(value.plugin_name())
    return "(not given)" if value is None else json_.dumps(json_ready(value))
