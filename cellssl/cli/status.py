"""status: the command `cellssl status`."""

from __future__ import annotations

import json as json_
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cellssl.cli import options as o

if TYPE_CHECKING:
    from cellssl.engine.resources import Usage

PlatesOption = Annotated[bool, typer.Option("--plates", help="List the part of every plate of fetch and segment too.")]


@o.flags("store", "overrides", "arm", "seed", "json")
def command(recipe: o.RecipeArgument, common: o.Common, plates: PlatesOption = False) -> None:
    """List every stage, arm and seed as done, outdated, partial or missing, and the report last.

    Example: cellssl status demo --json
    """
    from cellssl.cli.runner import console_for, open_session
    from cellssl.pipeline.plates import plate_rows
    from cellssl.pipeline.session import PLATE_STAGES
    from cellssl.pipeline.sweep_progress import sweep_progress
    from cellssl.pipeline.usage import spent
    from cellssl.pipeline.versions import other_versions

    console = console_for(common)
    session = open_session(recipe, common, console)
    rows = session.states(session.plan())
    parts = plate_rows(session, [row for row in rows if row["stage"] in PLATE_STAGES]) if plates else []
    usage, others = spent(session.store, rows), other_versions(session.store, rows)
    sample = session.recipe.settings("fetch", session.arm).sample if session.recipe.has("fetch", session.arm) else None
    if common.json:
        console.result(
            "",
            {
                "recipe": session.recipe.name,
                "sample": sample,
                "stages": rows,
                "plates": parts,
                "spent": usage,
                "other_versions": [asdict(one) for one in others],
            },
        )
        return
    header = ["stage", "arm", "seed", "state", "fingerprint"]
    points, swept = session.recipe.points, sweep_progress(session) if session.recipe.points else ([], [])
    shown = [
        {**row, "arm": points[row["arm"]].arm} if row["arm"] in points else row
        for row in rows
        if row["arm"] not in points or row["stage"] not in swept[0]
    ]
    console.table(header, [[_word(row[name]) for name in header] for row in shown], to_stdout=True)
    if swept[1]:
        console.table(*swept, to_stdout=True)
    if parts:
        header[header.index("seed")] = "plate"
        console.table(header, [[_word(row[name]) for name in header] for row in parts], to_stdout=True)
    for one in others:
        console.say(f"made with {one.library} {one.then}, and {one.today} is here today: {', '.join(one.stages)}")
    if sample is not None:
        console.say(f"a first look: fetch.sample = {sample} takes so many fields and no more; it is no result")
    console.result(usage_line(usage), {})


def _word(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json_.dumps(value)


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
