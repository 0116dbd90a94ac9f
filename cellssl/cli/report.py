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


@o.flags(*o.all_but("inputs", "plate", "device", "dry_run"))
def command(what: Whats, common: o.Common, csv: CsvOption = False) -> None:
    """Make one HTML page of what a recipe, or some cluster artifacts, came to.

    Example: cellssl report nocodazole --seed 0 --csv > scores.csv
    """
    from cellssl.cli.grid import show_table
    from cellssl.cli.work import Worker
    from cellssl.config.recipe import is_a_recipe
    from cellssl.errors import UsageError

    if csv and common.json:
        raise UsageError("--csv and --json both want stdout", hint="choose one")
    is_recipe = len(what) == 1 and is_a_recipe(what[0])
    worker = Worker.of(what[0], common) if is_recipe else Worker.without_recipe(common)
    artifact = worker.report(None if is_recipe else what)
    show_table(worker.console, artifact)
    if csv:
        worker.console.content(artifact.file("scores.csv").read_text(encoding="utf-8"))
    worker.deliver(artifact, say=not csv)
