"""app: the files of this folder in, the command line of the program out."""

from __future__ import annotations

import typer

from cellssl.cli import (
    check,
    cluster,
    demo,
    diff,
    doctor,
    embed,
    evaluate,
    explain,
    export,
    fetch,
    gc,
    hits,
    init,
    pretrain,
    report,
    run,
    segment,
    split,
    status,
    verify,
    workflow,
)

app = typer.Typer(
    name="cellssl",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="From microscopy images of cells to clusters without labels; you choose what the model ignores.",
    epilog="Exit codes: 0 complete, 1 failed, 2 usage or recipe, 3 bad data, 4 network, 5 integrity, 75 busy, "
    "130 / 143 interrupted.",
)
COMMANDS = (
    init, fetch, segment, split, pretrain, embed, cluster, evaluate, hits, report, export,
    run, demo, check, status, explain, doctor, diff, verify, gc, workflow,
)  # fmt: skip
for module in COMMANDS:
    app.command(module.__name__.rsplit(".", 1)[-1])(module.command)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("cellssl"))
        raise typer.Exit


@app.callback()
def top(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Run before every command."""
    if context.invoked_subcommand not in (None, "pretrain"):
        _check_alone(context.invoked_subcommand)


def _check_alone(command: str) -> None:
    from cellssl.errors import UsageError
    from cellssl.rank import Rank

    if Rank.from_environment().count > 1:
        raise UsageError(
            f"{command} was started in several processes, but only pretrain shares its work among them",
            hint="torchrun --nproc-per-node N -m cellssl pretrain RECIPE, after `cellssl run RECIPE --to split`",
        )
