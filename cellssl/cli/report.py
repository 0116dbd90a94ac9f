"""report: the command `cellssl report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellssl.cli import options as o
from cellssl.counting import counted

if TYPE_CHECKING:
    from cellssl.artifacts.store import Artifact
    from cellssl.cli.console import Console

Whats = Annotated[
    list[str],
    typer.Argument(help="A recipe, or cluster artifacts, their evaluations and hits.", metavar="RECIPE | ARTIFACT..."),
]
CsvOption = Annotated[
    bool, typer.Option("--csv", help="Print the scores on stdout, one row per run, in place of the path.")
]
FiguresOption = Annotated[
    Path | None,
    typer.Option(
        "--figures",
        help="Also copy all figures to this folder, as SVG, PDF and PNG, each with its numbers as CSV.",
        metavar="DIR",
    ),
]
SinceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--since",
        help="Say what changed since then: a report, or results such as those above; may be repeated.",
        metavar="ARTIFACT",
    ),
]


@o.flags(*o.all_but("inputs", "plate", "device", "dry_run"))
def command(
    what: Whats,
    common: o.Common,
    csv: CsvOption = False,
    since: SinceOption = None,
    figures: FiguresOption = None,
) -> None:
    """Make one HTML page of the results of a recipe, or of some cluster artifacts.

    Example: cellssl report demo --seed 0 --csv > scores.csv
    """
    from cellssl.artifacts.contents import read_text
    from cellssl.artifacts.export import check_writable
    from cellssl.cli.runner import Runner, console_for, session_without_recipe
    from cellssl.config.recipe import is_a_recipe
    from cellssl.errors import UsageError

    if csv and common.json:
        raise UsageError("--csv and --json cannot both print on stdout", hint="choose one")
    if figures is not None:
        check_writable(figures, "--figures")
    is_recipe = len(what) == 1 and is_a_recipe(what[0])
    if is_recipe:
        runner = Runner.of(what[0], common)
    else:
        console = console_for(common)
        runner = Runner(session_without_recipe(common, console).with_results(what), common, console)
    if since:
        runner.session = runner.session.with_earlier(since)
    planned = runner.session.plan_report()
    artifact = runner.find_or_make(planned)
    runner.keep_earlier(planned)
    show_table(runner.console, artifact)
    if csv:
        runner.console.content(read_text(artifact, "scores.csv"))
    copied = copied_figures(runner.console, artifact, figures) if figures is not None else {}
    runner.write_output(artifact, print_path=not csv, more=copied)


def copied_figures(console: Console, report: Artifact, folder: Path) -> dict[str, list[str]]:
    """Copy the figures of a report to a folder, say where they are, and return their paths."""
    from cellssl.artifacts.export import copy_part
    from cellssl.stages.report.figure_files import FOLDER

    copies = copy_part(report, FOLDER, folder)
    console.say(
        f"figures: {counted(len({copy.stem for copy in copies}), 'figure')} in {folder}, as SVG, PDF, PNG and CSV"
    )
    return {"figures": [str(copy) for copy in copies]}


def show_table(console: Console, report: Artifact) -> None:
    """Print the answer of a report, its table, and where its page is."""
    from cellssl.cli.summary import summary

    console.lines(summary(report, console.width()))
