"""demo: the command `cellssl demo`."""

from __future__ import annotations

from pathlib import Path

from cellssl.cli import options as o


def command(
    store: o.StoreOption = None,
    output: o.OutputOption = None,
    set: o.SetOption = None,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    log_file: o.LogFileOption = None,
    log_format: o.LogFormatOption = "text",
) -> None:
    """Run the whole chain on simulated plates, offline, in minutes.

    Example: cellssl demo --store /tmp/demo
    """
    from cellssl.cli.run import run_recipe

    common = o.Common(
        store=store or [Path("demo")],
        output=output,
        overrides=set,
        json=json,
        quiet=quiet,
        log_file=log_file,
        log_format=log_format,
    )
    run_recipe("demo", common)
