"""explain: the command `cellssl explain`: a word or the path of a setting in, what it means out, from the models."""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellssl.cli import options as o
from cellssl.cli.columns import width_of_stdout

if TYPE_CHECKING:
    from cellssl.cli.explained import Setting
    from cellssl.config.settings import SettingsModel

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
MOST_PLACES = 3
"""Places of a setting that are explained in full; more are listed."""
What = Annotated[
    str | None,
    typer.Argument(
        help="A stage, a plugin such as moco, a folder of plugins such as transforms, or a setting such as "
        "pretrain.epochs; without it, all that can be asked for."
    ),
]
More = Annotated[
    list[str] | None,
    typer.Argument(help="The rest of a path, such as one setting of a stage; or more words, each to be explained."),
]


@dataclass(frozen=True)
class Explained:
    """A model or one of its settings, under its title."""

    title: str
    model: type[SettingsModel]
    setting: Setting | None = None
    """None where the whole model is explained."""

    def settings(self) -> list[Setting]:
        """Return the settings that are explained."""
        from cellssl.cli.explained import settings_of

        return settings_of(self.model) if self.setting is None else [self.setting]

    def lines(self) -> list[str]:
        """Return it in lines that fit the terminal."""
        if self.setting is not None:
            return [*_wrapped(f"{self.title} = {self.setting.default}", ""), *_detail(self.setting, "  ")]
        lines = [self.title, *_wrapped(" ".join((self.model.__doc__ or "").split()), "  ")]
        for one in self.settings():
            lines += [*_wrapped(f"{one.name} = {one.default}", "  "), *_detail(one, "      ")]
        return lines


SchemaOption = Annotated[bool, typer.Option("--schema", help="The JSON Schema of recipes, for editors; see the docs.")]


def command(what: What = None, more: More = None, json: o.JsonOption = False, schema: SchemaOption = False) -> None:
    """Explain settings: default, type, unit, bounds, choices and meaning.

    Example: cellssl explain pretrain.epochs
    """
    from cellssl.cli.console import Console

    console = Console(as_json=json)
    if schema:
        console.content(_schema(what))
        return
    if what is None:
        every = _all_words()
        console.result("\n".join(_overview(every)), every)
        return
    found = _found_in([what, *(more or [])])
    text = "\n\n".join(_text(word, those) for word, those in found.items())
    all_found = [one for those in found.values() for one in those]
    console.result(text, {one.title: [setting.as_json() for setting in one.settings()] for one in all_found})


def _schema(what: str | None) -> str:
    """Return the JSON Schema of recipes, which is one for all settings."""
    from cellssl.cli.recipe_schema import schema_text
    from cellssl.errors import UsageError

    if what is not None:
        raise UsageError(
            f"--schema prints the schema of whole recipes, and not of {what!r}",
            hint=f"cellssl explain --schema, or cellssl explain {what} --json",
        )
    return schema_text()


def _text(word: str, found: Sequence[Explained]) -> str:
    """Return what a word stands for; the places alone where they are many."""
    if len(found) > MOST_PLACES and all(one.setting is not None for one in found):
        lines = [f"{word} is a setting of {len(found)} places:", *(f"  cellssl explain {one.title}" for one in found)]
        return "\n".join(lines)
    return "\n\n".join("\n".join(one.lines()) for one in found)


def _found_in(words: Sequence[str]) -> dict[str, list[Explained]]:
    """Return what words stand for: one path in parts, or else each word by itself."""
    from cellssl.errors import UsageError

    path = ".".join(words)
    try:
        return {path: _found(path)}
    except UsageError:
        if len(words) == 1 or not _is_known(words[1]):
            raise  # its last part may be misspelled
    return {word: _found(word) for word in words}


def _is_known(word: str) -> bool:
    from cellssl.errors import UsageError

    try:
        return bool(_found(word))
    except UsageError:
        return False


def _sections() -> dict[str, str]:
    """Return section of a recipe -> the module of its settings."""
    from cellssl.config.recipe import CHAIN

    return {**{stage: f"cellssl.stages.{stage}.settings" for stage in CHAIN}, "sweep": "cellssl.config.sweep"}


def _found(what: str) -> list[Explained]:
    """Return what a word or path stands for; UsageError with the nearest known word where that is nothing."""
    from cellssl.config import plugins
    from cellssl.errors import UsageError

    first, *rest = what.split(".")
    first, sections = ALIASES.get(first, first), _sections()
    if first in sections:
        return _in_section(first, rest)
    if first in PLUGIN_FOLDERS:
        folder = PLUGIN_FOLDERS[first]
        if not rest:
            return [Explained(one, plugins.load(folder, one).Settings) for one in plugins.names(folder)]
        return _within(Explained(rest[0], plugins.load(folder, rest[0]).Settings), rest[1:])
    owners = [folder for folder, place in PLUGIN_FOLDERS.items() if first in plugins.names(place)]
    if owners:
        wholes = [_plugin(folder, first, is_alone=len(owners) == 1) for folder in owners]
        return [one for whole in wholes for one in _within(whole, rest)]
    places = [] if rest else list(_places_of(first))
    if places:
        return places
    words = tuple(dict.fromkeys((*sections, *PLUGIN_FOLDERS, *ALIASES, *_plugin_names())))
    hint = plugins.did_you_mean(first, words)
    if not hint.startswith("did you"):
        hint = plugins.did_you_mean(first, tuple(dict.fromkeys(_setting_names())))
    if not hint.startswith("did you"):
        hint = "cellssl explain, without a word, lists what there is"
    raise UsageError(f"there is nothing called {first!r} to explain", hint=hint)


def _in_section(section: str, rest: Sequence[str]) -> list[Explained]:
    """Return a whole section with the tables in it, or one of its settings."""
    module = importlib.import_module(_sections()[section])
    if rest:
        return _within(Explained(section, module.Settings), rest)
    nested = getattr(module, "EXPLAINED", {})
    whole = Explained(f"[{section}]", module.Settings)
    return [whole, *(Explained(f"[{section}.{key}]", model) for key, model in nested.items())]


def _plugin(folder: str, name: str, *, is_alone: bool) -> Explained:
    """Return a plugin under its name, with its folder where another one has a plugin of that name, too."""
    from cellssl.config import plugins

    title = name if is_alone else f"{folder}.{name}"
    return Explained(title, plugins.load(PLUGIN_FOLDERS[folder], name).Settings)


def _within(whole: Explained, path: Sequence[str]) -> list[Explained]:
    """Follow the path of a setting through tables and plugins; UsageError where it leads nowhere."""
    from cellssl.config import plugins
    from cellssl.errors import UsageError

    at = [whole]
    for place, word in enumerate(path):
        below = [one for each in at for one in _step(each, word)]
        if not below:
            known = tuple(dict.fromkeys(one.name for each in at for one in _choices_at(each)))
            title = ".".join([whole.title, *path[:place]])
            hint = plugins.did_you_mean(word, known)
            raise UsageError(
                f"{title} has no setting {word!r}", hint=f"{hint}; cellssl explain {whole.title.strip('[]')}"
            )
        at = below
    return [one for each in at for one in _with_contents(each)] if path else at


def _step(at: Explained, word: str) -> list[Explained]:
    """Return what a word names in a model, or in what a setting holds; a name of the user's stands for itself."""
    if at.setting is None:
        return [Explained(f"{at.title}.{word}", at.model, one) for one in at.settings() if one.name == word]
    held = _held(at)
    named = [one for one in held if one.title == word]
    if named:
        return named
    inner = [found for one in held for found in _step(one, word)]
    title = f"{at.title}.NAME" if at.setting.is_named else at.title
    if inner:
        return [one if at.setting.folder else Explained(f"{title}.{word}", one.model, one.setting) for one in inner]
    return [Explained(f"{at.title}.{word}", one.model) for one in held] if at.setting.is_named else []


def _held(at: Explained) -> list[Explained]:
    """Return the models that a setting holds: tables under the path, plugins under their names."""
    from cellssl.config import plugins

    if at.setting is None:
        return []
    if at.setting.folder:
        names = plugins.names(at.setting.folder)
        return [Explained(name, plugins.load(at.setting.folder, name).Settings) for name in names]
    title = f"{at.title}.NAME" if at.setting.is_named else at.title
    return [Explained(title, model) for model in at.setting.models]


def _choices_at(at: Explained) -> list[Setting]:
    """Return the settings that may come next in a path."""
    if at.setting is None:
        return at.settings()
    return [one for held in _held(at) for one in held.settings()]


def _with_contents(at: Explained) -> list[Explained]:
    """Return a setting, and the tables that it holds; plugins are named in its choices."""
    if at.setting is None or at.setting.folder:
        return [at]
    return [at, *(Explained(f"[{one.title}]", one.model) for one in _held(at))]


def _everything() -> Iterator[Explained]:
    """Yield all sections, the tables in them, and all plugins, each whole."""
    from cellssl.config import plugins

    for section in _sections():
        for one in _in_section(section, []):
            yield Explained(one.title.strip("[]"), one.model)
    names = _plugin_names()
    for folder, place in PLUGIN_FOLDERS.items():
        for name in plugins.names(place):
            yield _plugin(folder, name, is_alone=names.count(name) == 1)


def _places_of(name: str) -> Iterator[Explained]:
    """Yield every setting of this name."""
    for whole in _everything():
        yield from _step(whole, name)


def _plugin_names() -> list[str]:
    from cellssl.config import plugins

    return [name for folder in PLUGIN_FOLDERS.values() for name in plugins.names(folder)]


def _setting_names() -> list[str]:
    return [one.name for whole in _everything() for one in whole.settings()]


def _all_words() -> dict[str, Any]:
    """Return what can be asked for."""
    from cellssl.config import plugins

    folders = {name: list(plugins.names(folder)) for name, folder in PLUGIN_FOLDERS.items()}
    return {"sections": list(_sections()), "plugins": folders}


def _overview(words: dict[str, Any]) -> list[str]:
    """Return what can be asked for, in lines."""
    lines = ["sections of a recipe, such as cellssl explain hits:", *_wrapped(", ".join(words["sections"]), "  ")]
    lines += ["plugins, by their folder or by their own name, such as cellssl explain moco:"]
    for folder, names in words["plugins"].items():
        lines += _wrapped(f"{folder}: {', '.join(names)}", "  ", "    ")
    return [*lines, "one setting, by its path or name, such as cellssl explain pretrain.epochs"]


def _detail(setting: Setting, indent: str) -> list[str]:
    """Return type, unit, bounds and choices, then the meaning."""
    folder = next((name for name, place in PLUGIN_FOLDERS.items() if place == setting.folder), "")
    more = f" (cellssl explain {folder})" if folder else ""
    kind = setting.kind()
    return [*(_wrapped(f"{kind}{more}", indent) if kind else []), *_wrapped(setting.meaning, indent)]


def _wrapped(text: str, indent: str, later: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        width_of_stdout(),
        initial_indent=indent,
        subsequent_indent=later if later is not None else indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
