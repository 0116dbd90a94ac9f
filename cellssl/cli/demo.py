"""demo: the command `cellssl demo`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cellssl.cli import options as o

QuickOption = Annotated[
    bool, typer.Option("--quick", help="A smaller screen and shorter trainings: about a minute, rough scores.")
]


@o.flags("store", "output", "overrides", "threads", "json", "quiet", "log_file", "log_format")
def command(common: o.Common, quick: QuickOption = False, jobs: o.JobsOption = "auto") -> None:
    """Run the whole chain on simulated plates, offline, in minutes.

    Example: cellssl demo --quick --store /tmp/demo
    """
    from cellssl.cli.run import run_recipe

    recipe = "demo-quick" if quick else "demo"
    run_recipe(recipe, replace(common, store=common.store or [Path("demo")]), jobs=o.jobs_of(jobs))
