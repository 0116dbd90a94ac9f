"""demo: the command `cellssl demo`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cellssl.cli import options as o


@o.flags("store", "output", "overrides", "threads", "json", "quiet", "log_file", "log_format")
def command(common: o.Common, jobs: o.JobsOption = "auto") -> None:
    """Run the whole chain on simulated plates, offline, in minutes.

    Example: cellssl demo --store /tmp/demo
    """
    from cellssl.cli.run import run_recipe

    run_recipe("demo", replace(common, store=common.store or [Path("demo")]), jobs=o.jobs_of(jobs))
