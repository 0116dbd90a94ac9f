"""init: the command `cellssl init`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellssl.cli import options as o

if TYPE_CHECKING:
    from cellssl.cli.console import Console
    from cellssl.datasets.plates.recognise import Survey
    from cellssl.pipeline.first_recipe import Written

FolderArgument = Annotated[Path, typer.Argument(help="The folder that a microscope wrote.", metavar="FOLDER")]
PlatemapOption = Annotated[
    Path | None,
    typer.Option("--platemap", help="Compounds and doses by well: CSV, TSV or XLSX; a list or grids.", metavar="FILE"),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for the table and the recipe [default: ./cellssl-FOLDER].", metavar="DIR"),
]
PatternOption = Annotated[
    str | None,
    typer.Option(
        "--pattern", help="How files are called, such as '{plate}_{well}_s{site}_w{channel}.tif'.", metavar="NAME"
    ),
]
MOST_LINES = 20
"""Doubts that are printed one by one."""


@o.flags("json", "quiet")
def command(
    folder: FolderArgument,
    common: o.Common,
    platemap: PlatemapOption = None,
    out: OutOption = None,
    pattern: PatternOption = None,
) -> None:
    """Recognise the plates in a folder, and write a field table and a recipe for them.

    Example: cellssl init /data/plate1 --platemap map.xlsx
    """
    from cellssl.cli.runner import console_for
    from cellssl.datasets.plates.recognise import as_json, survey
    from cellssl.errors import UsageError
    from cellssl.pipeline.first_recipe import recipe_name, write_first_recipe

    console = console_for(common)
    if platemap is not None and not platemap.is_file():
        raise UsageError(f"there is no plate map {platemap}", hint="give a CSV, TSV or XLSX file")
    target = out or Path(f"cellssl-{recipe_name(folder)}")
    _check_outside(target, folder)
    found = survey(folder, pattern)
    written = write_first_recipe(found, recipe_name(folder), platemap)
    is_new = write_all(written.files, target)
    if not common.json:
        show(console, found, written)
    recipe = target / written.recipe
    console.say(
        f"init: {'wrote' if is_new else 'up to date'}: {', '.join(str(target / name) for name in written.files)}"
    )
    command_line = f"cellssl run {_quoted(recipe)}"
    details: dict[str, Any] = {
        **as_json(found),
        "recipe": str(recipe),
        "nucleus_channel": written.nucleus_channel,
        "sample_fields": written.size.sample_fields,
        "minutes": round(written.size.minutes_first, 1),
        "hours_whole": round(written.size.hours_whole, 2),
        "remarks": written.remarks,
        "next": command_line,
    }
    console.result(str(recipe), details)
    console.say(f"next: {command_line}")


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))


def _check_outside(target: Path, folder: Path) -> None:
    """Raise UsageError where the output would lie in the folder of the microscope."""
    from cellssl.errors import UsageError

    if folder.is_dir() and target.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{target} lies in {folder}, and nothing is written into a folder of images",
            hint=f"run the command elsewhere, or give --out {_quoted(Path('..') / target.name)}",
        )


def write_all(files: Mapping[str, str], target: Path, flag: str = "--out ") -> bool:
    """Write name -> text, and return whether any was missing; UsageError where one that is there has other content.

    A schema of another version of this tool is no content of the user, and is replaced.
    """
    from cellssl.disk import faults_explained
    from cellssl.errors import UsageError
    from cellssl.files import write_text

    cure = f"give another folder: {flag}DIR"
    with faults_explained(target, cure):
        there = {name for name in files if (target / name).exists() or (target / name).is_symlink()}
        present = {name for name in there if not _is_earlier_schema(target / name, files[name])}
        for name in sorted(present):
            path = target / name
            if not path.is_file() or path.read_bytes() != files[name].encode("utf-8"):
                raise UsageError(
                    f"{path} is there already and differs from what would be written",
                    hint=f"give another folder, {flag}DIR, or move the file away",
                )
        for folder in sorted({(target / name).parent for name in files}):  # all of them before the first file
            _make_folder(folder, cure)
        for name, text in files.items():
            if name not in present:
                write_text(target / name, text)
    return len(present) < len(files)


def _make_folder(folder: Path, cure: str) -> None:
    """Make a folder; UsageError where there is a file in its place, or the system makes none there, as in /proc."""
    from cellssl.errors import UsageError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{folder} is no folder", hint=cure) from error
    except FileNotFoundError as error:
        raise UsageError(f"the folder {folder} cannot be made", hint=cure) from error


def _is_earlier_schema(path: Path, text: str) -> bool:
    """Return whether a file is the schema of recipes, as another version of this tool wrote it."""
    import json

    from cellssl.bounded import read_bytes
    from cellssl.config.recipe import RECIPE_BYTES, SCHEMA, SCHEMA_TITLE

    if path.name != SCHEMA or path.is_symlink() or not path.is_file():
        return False
    try:
        found = read_bytes(path, RECIPE_BYTES)
        given = json.loads(found)
    except (ValueError, OSError, RecursionError):
        return False
    return isinstance(given, dict) and given.get("title") == SCHEMA_TITLE and found != text.encode("utf-8")


def show(console: Console, found: Survey, written: Written) -> None:
    """Print what was recognised, what was left out, and what is doubtful."""
    for what, words in _facts(found, written):
        console.say(f"{what + ':':<14}{words}")
    for reason, files in sorted(found.left_out.items()):
        console.say(f"left out:     {len(files):,} {reason}, such as {files[0]}")
    doubts = [*found.doubts, *written.remarks]
    for doubt in doubts[:MOST_LINES]:
        console.say(f"check:        {doubt}")
    if len(doubts) > MOST_LINES:
        console.say(f"check:        {len(doubts) - MOST_LINES} more; --json lists all")


def _facts(found: Survey, written: Written) -> list[tuple[str, str]]:
    from cellssl.datasets.plates.recognise import as_json

    facts = as_json(found)
    wells = found.wells()
    plates = [f"{plate} ({len(wells[plate])} wells)" for plate in found.plates()]
    sites = sorted({site for *_, site in found.fields})
    channels = [key if key == name else f"{key} ({name})" for key, name in facts["channels"].items()]
    return [
        ("format", "; ".join(facts["formats"])),
        ("plates", f"{len(plates)}: {', '.join(plates[:6])}{' ...' if len(plates) > 6 else ''}"),
        ("fields", f"{len(found.fields):,}; at most {len(sites)} in a well"),
        ("channels", f"{len(channels)}: {', '.join(channels)}; nuclei in {written.nucleus_channel}"),
        ("z planes", f"{found.z_planes}" + ("; the brightest of them is taken" if found.z_planes > 1 else "")),
        ("time points", f"{found.time_points}" + ("; the first one is taken" if found.time_points > 1 else "")),
        ("pixel size", ", ".join(f"{one:g} um" for one in facts["pixel_um"]) or "not known"),
        ("images", f"{', '.join(f'{a} x {b}' for a, b in facts['sizes_px'])} px; {', '.join(facts['types']) or '?'}"),
        ("objective", ", ".join(facts["objectives"]) or "not known"),
        ("date", _dates(facts["acquired"])),
        ("time", _time(found, written)),
    ]


def _time(found: Survey, written: Written) -> str:
    """Return how long the recipe takes, and how long all fields take."""
    size, fields = written.size, len(found.fields) - len(found.incomplete)
    minutes = f"about {max(1, round(size.minutes_first))} minutes on this machine, up to the report"
    if size.sample_fields is None:
        return minutes
    hours = f"all fields take about {size.hours_whole:.1f} hours; the recipe says which line to remove"
    return f"{minutes}, for a first look at {size.sample_fields:,} of {fields:,} fields; {hours}"


def _dates(acquired: list[str]) -> str:
    if not acquired:
        return "not known"
    return acquired[0] if len(acquired) == 1 else f"{acquired[0]} to {acquired[-1]}"
