"""diff: the command `cellssl diff`: two artifacts in; what they are and what differs, in words, out."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellssl.cli import options as o
from cellssl.cli.columns import width_of_stdout
from cellssl.counting import counted

if TYPE_CHECKING:
    from cellssl.artifacts.diff import Change
    from cellssl.artifacts.store import Artifact, Store
    from cellssl.pipeline.comparison import Comparison, InputChange

Reference = Annotated[str, typer.Argument(help="Folder, card file or (KIND/)fingerprint.", metavar="ARTIFACT")]
FilesOption = Annotated[bool, typer.Option("--files", help="List every file that differs, with size and sha256.")]
SAME = "no differences in what determines the results, or in their files"
IN_ANSWER = 3
"""Scores in the first line."""
MOST_INPUTS = 8
"""Inputs that are listed one by one; a report has three for each arm and seed."""


def command(
    first: Reference,
    second: Reference,
    store: o.StoreOption = None,
    files: FilesOption = False,
    json: o.JsonOption = False,
) -> None:
    """Say what two artifacts are, and what differs: scores, settings, inputs and why, versions, files.

    Example: cellssl diff 3f9a2c71d0e4 9b20f1aa7c3d
    """
    from cellssl.artifacts.diff import differences
    from cellssl.artifacts.store import Store
    from cellssl.cli.console import Console
    from cellssl.config.recipe import CHAIN
    from cellssl.pipeline.comparison import compare

    shelf = Store(*o.Common(store=store).stores())
    pair = [shelf.resolve(reference, CHAIN) for reference in (first, second)]
    found = compare(pair[0], pair[1], shelf)
    text = SAME if found.is_same else "\n".join(_lines(found, _owners(pair, shelf), pair, files=files))
    details = {"differences": differences(pair[0].card, pair[1].card), **_as_json(found)}
    Console(as_json=json).result(text, details)


def _as_json(found: Comparison) -> dict[str, Any]:
    return {name: value for name, value in asdict(found).items() if name != "number_of_files"}


def _owners(pair: Sequence[Artifact], store: Store) -> list[str]:
    """Return the arms whose results the two are, as far as pointers of the store say it."""
    from cellssl.pipeline.inventory import pointers_to

    pointed = [pointers_to(one) for one in pair]
    recipes = {recipe for those in pointed for recipe, _, _ in those}
    arms = [list(dict.fromkeys(arm for _, arm, _ in those)) for those in pointed]
    if not all(arms):
        return []
    names = [one[0] if len(one) == 1 else f"{one[0]} and {len(one) - 1} more arms" for one in arms]
    if names[0] != names[1]:
        return names
    seeds = [{seed for _, _, seed in those} for those in pointed]
    if all(len(one) == 1 for one in seeds) and seeds[0] != seeds[1]:
        return [f"{name} seed {one.pop()}" for name, one in zip(names, seeds, strict=True)]
    if len(recipes) > 1:
        return [f"{name} of {those[0][0]}" for name, those in zip(names, pointed, strict=True)]
    return []


def _lines(found: Comparison, owners: list[str], pair: Sequence[Artifact], *, files: bool) -> list[str]:
    """Return all that differs: the answer first, causes next, files last."""
    names = owners or ["the first", "the second"]
    places = [f"{one.card.kind}/{one.fingerprint}" for one in pair]
    is_report = found.kinds[0] == "report"
    differing = [one for one in found.scores if one.first != one.second and (not is_report or ": " in one.what)]
    lines = [
        f"{names[0]} against {names[1]}: {_answer(found, differing)}",
        *(f"  {place}: {name}" for place, name in zip(places, found.names, strict=True)),
        *(_scores_by_arm(differing) if is_report else _block("other scores that differ", differing[IN_ANSWER:])),
        *_block("settings", found.settings),
        *_only_in_one(found.inputs),
        *_input_lines([one for one in found.inputs if one.first and one.second]),
        *_block("made with", found.versions),
        *_file_lines(found, files=files),
    ]
    return [part for line in lines for part in _wrapped(line)]


def _answer(found: Comparison, differing: Sequence[Change]) -> str:
    """Return the scores that differ first, or that none does."""
    if found.kinds[0] != found.kinds[1]:
        return "results of different stages"
    if found.kinds[0] == "report" and differing:
        return f"the scores of {counted(len({_arm_of(one) for one in differing}), 'arm')} differ"
    if differing:
        return ", ".join(f"{one.what} {one.first} against {one.second}" for one in differing[:IN_ANSWER])
    if found.scores:
        same = ", ".join(f"{one.what} {one.first}" for one in found.scores[:IN_ANSWER])
        return f"the same scores ({same})"
    return "other files" if found.files else "the same files"


def _arm_of(change: Change) -> str:
    """Return the arm whose score it is; its name may hold a colon, the name of a score does not."""
    return change.what.rpartition(": ")[0]


def _scores_by_arm(changes: Sequence[Change]) -> list[str]:
    """Return one line per arm of two reports."""
    arms = dict.fromkeys(_arm_of(one) for one in changes)
    of_arm = {arm: [one for one in changes if _arm_of(one) == arm] for arm in arms}
    return [
        f"  {arm}: " + "; ".join(f"{one.what.rpartition(': ')[2]} {one.first} against {one.second}" for one in those)
        for arm, those in of_arm.items()
    ]


def _only_in_one(inputs: Sequence[InputChange]) -> list[str]:
    """Return the inputs that only one of the two has; those of a report by arm and seed."""
    lines = []
    for which, missing in (("first", "second"), ("second", "first")):
        names = [one.name.rpartition("/")[0] or _thing(one) for one in inputs if getattr(one, missing) is None]
        shown = list(dict.fromkeys(names))
        if shown:
            more = f" and {len(shown) - MOST_INPUTS} more" if len(shown) > MOST_INPUTS else ""
            lines.append(f"only in the {which}: {', '.join(shown[:MOST_INPUTS])}{more}")
    return lines


def _wrapped(line: str) -> list[str]:
    """Return a line in lines that fit the terminal; paths and hashes stay whole."""
    indent = len(line) - len(line.lstrip())
    return textwrap.wrap(
        line, width_of_stdout(), subsequent_indent=" " * (indent + 4), break_long_words=False, break_on_hyphens=False
    )


def _block(title: str, changes: Sequence[Change]) -> list[str]:
    return [f"{title}:", *(f"  {one.in_words()}" for one in changes)] if changes else []


def _input_lines(inputs: Sequence[InputChange]) -> list[str]:
    """Return the inputs that differ, with the settings that explain them; settings that explain several stand once."""
    lines: list[str] = []
    by_cause: dict[tuple[Change, ...], list[InputChange]] = {}
    for one in inputs:
        by_cause.setdefault(tuple(one.why), []).append(one)
    for why, those in by_cause.items():
        listed = ", ".join(_input_name(one) for one in those[:MOST_INPUTS])
        more = f" and {len(those) - MOST_INPUTS} more" if len(those) > MOST_INPUTS else ""
        lines.append(f"made from other inputs: {listed}{more}" + (", because of" if why else ""))
        lines += [f"  {one.in_words()}" for one in why]
    return lines


def _input_name(one: InputChange) -> str:
    named = _thing(one) if "/" not in one.name else f"{_thing(one)} of {one.name.rsplit('/', 1)[0]}"
    return f"{named} ({one.first} against {one.second})"


def _thing(one: InputChange) -> str:
    from cellssl.artifacts.card import kind_of_input
    from cellssl.pipeline.comparison import THINGS

    return THINGS.get(kind_of_input(one.name), one.name)


def _file_lines(found: Comparison, *, files: bool) -> list[str]:
    if not found.files:
        return []
    if files:
        return _block("files", found.files)
    return [f"files: {len(found.files):,} of {found.number_of_files:,} differ; --files lists them"]
