"""report: the command `cellssl report`."""

from __future__ import annotations

from typing import Annotated

import typer

from cellssl.cli import options as o

Whats = Annotated[
    list[str],
    typer.Argument(help="A recipe, or cluster artifacts and their evaluations.", metavar="RECIPE | ARTIFACT..."),
]
CsvOption = Annotated[bool, typer.Option("--csv", help="The scores on stdout, a row a run, in place of the path.")]


def command(
    what: Whats,
    store: o.StoreOption = None,
    output: o.OutputOption = None,
    set: o.SetOption = None,
    arm: o.ArmOption = None,
    seed: o.SeedOption = None,
    force: o.ForceOption = False,
    no_wait: o.NoWaitOption = False,
    json: o.JsonOption = False,
    csv: CsvOption = False,
    quiet: o.QuietOption = False,
    log_file: o.LogFileOption = None,
    log_format: o.LogFormatOption = "text",
) -> None:
    """Make one HTML page of what a recipe, or some cluster artifacts, came to.

    Example: cellssl report nocodazole --seed 0 --csv > scores.csv
    """
    from cellssl.cli.grid import show_table
    from cellssl.cli.work import Worker
    from cellssl.errors import UsageError
    from cellssl.recipe import is_a_recipe

    if csv and json:
        raise UsageError("--csv and --json both want stdout", hint="choose one")
    common = o.Common(
        store, None, output, set, None, arm, seed, "auto", force, False, no_wait, json, quiet, log_file, log_format
    )
    is_recipe = len(what) == 1 and is_a_recipe(what[0])
    worker = Worker.of(what[0], common) if is_recipe else Worker.without_recipe(common)
    artifact = worker.report(None if is_recipe else what)
    show_table(worker.console, artifact)
    if csv:
        worker.console.content(artifact.file("scores.csv").read_text(encoding="utf-8"))
    worker.deliver(artifact, say=not csv)
