"""status: the command `cellssl status`: how far a recipe is, or what a store holds."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellssl.cli import options as o
from cellssl.cli.columns import NARROWEST, WIDTH, columns_of, fitted, shortened, width_of_stdout

if TYPE_CHECKING:
    from cellssl.artifacts.store import Store
    from cellssl.cli.console import Console
    from cellssl.engine.resources import Usage
    from cellssl.pipeline.inventory import Entry, Inventory, Pointer
    from cellssl.pipeline.session import Session

PlatesOption = Annotated[bool, typer.Option("--plates", help="List the part of every plate of fetch and segment too.")]
AllOption = Annotated[bool, typer.Option("--all", help="Without a recipe: list every result, and the parts of plates.")]
RecipeOrNone = Annotated[
    str | None,
    typer.Argument(
        help="Path of a recipe, or the name of a shipped one; without it, all that the store holds.",
        metavar="[RECIPE]",
        autocompletion=o.recipes_beginning,
    ),
]
NEWEST = 12
"""Results of one stage that are listed without --all."""


@o.flags("store", "overrides", "arm", "seed", "json")
def command(
    common: o.Common, recipe: RecipeOrNone = None, plates: PlatesOption = False, every: AllOption = False
) -> None:
    """List every stage of a recipe as done, outdated, partial or missing, with date, size and path; or a whole store.

    Example: cellssl status demo --json
    """
    from cellssl.cli.runner import console_for, open_session
    from cellssl.errors import UsageError

    console = console_for(common)
    if recipe is None:
        if common.overrides or common.arm is not None or common.seed is not None or plates:
            raise UsageError("--set, --arm, --seed and --plates go with a recipe", hint="cellssl status RECIPE ...")
        _show_store(common.stores()[0], console, every=every)
        return
    _show_recipe(open_session(recipe, common, console), console, plates=plates)


def _show_recipe(session: Session, console: Console, *, plates: bool) -> None:
    """Show how far a recipe is."""
    from cellssl.pipeline.plates import plate_rows
    from cellssl.pipeline.session import PLATE_STAGES
    from cellssl.pipeline.sweep_progress import sweep_progress
    from cellssl.pipeline.usage import spent
    from cellssl.pipeline.versions import other_versions

    rows = [_with_place(row, session.store) for row in session.states(session.plan())]
    parts = plate_rows(session, [row for row in rows if row["stage"] in PLATE_STAGES]) if plates else []
    parts = [_with_place(row, session.store) for row in parts]
    usage, others = spent(session.store, rows), other_versions(session.store, rows)
    sample = session.recipe.settings("fetch", session.arm).sample if session.recipe.has("fetch", session.arm) else None
    if console.as_json:
        console.result(
            "",
            {
                "recipe": session.recipe.name,
                "store": str(session.store.root),
                "sample": sample,
                "stages": rows,
                "plates": parts,
                "spent": usage,
                "other_versions": [asdict(one) for one in others],
            },
        )
        return
    points, swept = session.recipe.points, sweep_progress(session) if session.recipe.points else ([], [])
    shown = [
        {**row, "arm": points[row["arm"]].arm} if row["arm"] in points else row
        for row in rows
        if row["arm"] not in points or row["stage"] not in swept[0]
    ]
    console.lines(_table(shown, "seed"), to_stdout=True)
    if swept[1]:
        console.table(*swept, to_stdout=True)
    if parts:
        console.lines(_table(parts, "plate"), to_stdout=True)
    for one in others:
        console.say(f"made with {one.library} {one.then}, and {one.today} is here today: {', '.join(one.stages)}")
    if sample is not None:
        console.say(f"a first look: fetch.sample = {sample} takes so many fields and no more; it is no result")
    console.say(f"paths are in {session.store.root}; sizes include the parts of plates")
    console.result("\n".join(_in_lines(usage_line(usage))), {})


def _with_place(row: dict[str, Any], store: Store) -> dict[str, Any]:
    """Return the row of a stage with when it was made, its size and its path; None where it is not there."""
    from cellssl.pipeline.inventory import folder_size, made_of, size_of, utc_text

    kind, fingerprint = row["stage"], row["fingerprint"]
    found = store.find(kind, fingerprint) if fingerprint else None
    if found is not None:
        place = {"made": utc_text(made_of(found.card.run)), "bytes": size_of(found, store), "path": str(found.path)}
    elif fingerprint and (partial := store.partial(kind, fingerprint)).is_dir():
        size, last = folder_size(partial)
        place = {"made": utc_text(last), "bytes": size, "path": str(partial)}
    else:
        place = {"made": None, "bytes": None, "path": None}
    return {**row, **place}


def _table(rows: Sequence[dict[str, Any]], third: str) -> list[str]:
    """Return rows of stages as lines; what people compare comes first, and a state of many words last."""
    header = ["result", "arm", third, "made", "size", "state"]
    texts = [
        [
            f"{row['stage']}/{row['fingerprint'] or '?'}",
            str(row["arm"]),
            "" if row[third] is None else str(row[third]),
            _local(row["made"]),
            "" if row["bytes"] is None else size_text(row["bytes"]),
            str(row["state"]),
        ]
        for row in rows
    ]
    states = max((len(row[-1]) for row in texts), default=0)
    width = width_of_stdout()
    drop = ("made", "size", third) if width < WIDTH else ()
    room = width + max(0, states - len("outdated"))  # a reason may be longer than a line
    return fitted(header, texts, room, shrink=("arm", "plate"), drop=drop, right=("size",))[0]


def _local(made: str | None) -> str:
    from cellssl.pipeline.inventory import local_text, made_of

    return local_text(made_of({"started": made}))


def size_text(count: int) -> str:
    """Return a size in the unit that fits it."""
    if count >= 1e9:
        return f"{count / 1e9:,.1f} GB"
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.0f} kB"


def _show_store(root: Path, console: Console, *, every: bool) -> None:
    """Show all that a store holds."""
    from cellssl.pipeline.inventory import inventory

    found = inventory(root)
    if console.as_json:
        gone = [{"kind": kind, "fingerprint": fingerprint} for kind, fingerprint in found.gone]
        details = {
            "store": str(found.root.absolute()),
            "results": [one.as_json(found.root) for one in found.entries],
            "gone": gone,
        }
        console.result("", details)
        return
    console.lines(_store_lines(found, every=every), to_stdout=True)
    console.result(_totals(found), {})


def _store_lines(found: Inventory, *, every: bool) -> list[str]:
    """Return the results of a store by stage, the newest first, and what pointers miss."""
    kinds = dict.fromkeys(entry.kind for entry in found.entries)
    lines = [line for kind in kinds for line in _kind_lines(found, kind, every=every)]
    gone = [f"{kind}/{fingerprint}" for kind, fingerprint in found.gone]
    if gone:
        more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
        text = f"gone, though recipes point there: {', '.join(gone[:3])}{more}; cellssl run makes them again"
        lines += _in_lines(text)
    return lines


def _in_lines(text: str) -> list[str]:
    """Return a sentence in lines that fit the terminal; as one line where a program reads it."""
    if not columns_of(sys.stdout):
        return [text]
    return textwrap.wrap(
        text, width_of_stdout(), subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def _kind_lines(found: Inventory, kind: str, *, every: bool) -> list[str]:
    """Return a heading and a row for each result of one stage."""
    from cellssl.counting import counted
    from cellssl.pipeline.inventory import local_text

    entries = [entry for entry in found.entries if entry.kind == kind]
    wholes = [entry for entry in entries if not _is_part(entry)]
    size = size_text(sum(entry.bytes for entry in entries))
    parts = len(entries) - len(wholes)
    of_plates = f" and {counted(parts, 'part')} of plates" if parts else ""
    heading = f"{kind}: {counted(len(wholes), 'result')}{of_plates}"
    listed = entries if every else wholes[:NEWEST]
    sizes = [one.bytes if every else found.bytes_with_parts(one) for one in listed]
    rows = [
        [local_text(one.made_s), size_text(bytes_), one.path, _words(one)]
        for one, bytes_ in zip(listed, sizes, strict=True)
    ]
    when, size_, _ = (max((len(row[i]) for row in rows), default=0) for i in range(3))
    whole = max((len(row[2]) for row in rows if "." not in row[2]), default=0)  # a longer name takes room of its row
    width = width_of_stdout()
    is_narrow = width < 6 + when + size_ + whole + NARROWEST
    firsts = ["" if is_narrow else f"{row[0]:<{when}}  {row[1]:>{size_}}  " for row in rows]
    starts = [f"  {first}{row[2]:<{whole}}  " for first, row in zip(firsts, rows, strict=True)]
    lines = [f"{start}{_ended(row[3], width - len(start))}".rstrip() for start, row in zip(starts, rows, strict=True)]
    left = len(wholes) - len(listed)
    more = [f"  and {left:,} older, the first of {local_text(wholes[-1].made_s)}; --all lists them"] if left > 0 else []
    return [f"{heading}, {size}", *lines, *more]


def _is_part(entry: Entry) -> bool:
    """Return whether it is the part of one plate, which its whole stands for."""
    return bool(entry.plate) and not entry.remark.startswith(("partial", "its card"))


def _words(entry: Entry) -> str:
    """Return what is not as it should be, and which recipes and arms point to a result."""
    need = "" if entry.is_needed or entry.remark else "no recipe needs it"
    owners = pointers_text(entry.pointers) or (f"plate {entry.plate}" if entry.plate else "")
    return "; ".join(word for word in (entry.remark, owners, need) if word)


def pointers_text(pointers: Sequence[Pointer]) -> str:
    """Return recipes and arms in words; a seed stands there where there is one."""
    words = []
    for recipe in dict.fromkeys(one for one, _, _ in pointers):
        arms = dict.fromkeys(arm for one, arm, _ in pointers if one == recipe)
        seeds = dict.fromkeys(seed for one, _, seed in pointers if one == recipe and seed != "all")
        of = f" seed {next(iter(seeds))}" if len(seeds) == 1 else ""
        named = ", ".join(arms) if len(arms) < 3 else f"{len(arms)} arms"
        words.append(f"{named}{of} of {recipe}")
    return "; ".join(words)


def _ended(text: str, width: int) -> str:
    """Return a text that fits; reasons stay whole where they come first."""
    return text if len(text) <= width else f"{text[: width - 1]}…" if width > 12 else shortened(text, width)


def _totals(found: Inventory) -> str:
    """Return the sums of a store in one line."""
    if not found.entries:
        makes = f"cellssl run RECIPE --store {shlex.quote(str(found.root))} makes some"
        return f"{found.root} is a store with no results yet; {makes}"
    finished = [one for one in found.entries if not one.remark.startswith(("partial", "set aside", "its card"))]
    rest = len(found.entries) - len(finished)
    size = size_text(sum(one.bytes for one in found.entries))
    unneeded = sum(not one.is_needed for one in finished)
    words = [f"{found.root}: {len(finished):,} results and parts, {size}"]
    words += [f"{rest:,} unfinished, set aside or unreadable"] if rest else []
    words += [f"{unneeded:,} that no recipe needs (cellssl gc lists them)"] if unneeded else []
    return "; ".join(words)


def usage_line(usage: Usage) -> str:
    """Return what the finished stages took, as one line."""
    from cellssl.durations import in_words

    if not usage:
        return "nothing is done yet"
    words = [in_words(usage.get("seconds", 0)), f"{in_words(usage.get('cpu_s', 0))} of CPU time"]
    if "gpu_s" in usage:
        words.append(f"{in_words(usage['gpu_s'])} holding a GPU")
    words.append(f"at most {usage.get('peak_memory_mb', 0):,.0f} MB of memory")
    if "bytes_read" in usage:
        read, written = (usage[name] / 1e9 for name in ("bytes_read", "bytes_written"))
        words.append(f"{read:,.2f} GB read and {written:,.2f} GB written")
    return f"the finished stages took {', '.join(words)}"
