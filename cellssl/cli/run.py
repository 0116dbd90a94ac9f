"""run: the command `cellssl run`: everything that is missing, over arms and seeds."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from cellssl.cli import options as o

ToOption = Annotated[str | None, typer.Option("--to", help="The last stage to make [default: report].")]


@o.flags(*o.all_but("inputs", "plate"))
def command(
    recipe: o.RecipeArgument,
    common: o.Common,
    to: ToOption = None,
    mirror: o.MirrorOption = None,
    jobs: o.JobsOption = "auto",
) -> None:
    """Make what is missing of a recipe: all stages, arms and seeds, then the report.

    Example: cellssl run demo --to cluster --arm centre
    """
    common = replace(common, overrides=o.mirrored(recipe, common, mirror))
    run_recipe(recipe, common, to, jobs=o.jobs_of(jobs))


def run_recipe(recipe: str, common: o.Common, to: str | None = None, *, jobs: int | None = None) -> None:
    """Make every planned stage of a recipe, `jobs` at once, and print the last artifact, mostly the report."""
    from cellssl.cli.at_once import make_all
    from cellssl.cli.check import check_before_work
    from cellssl.cli.report import show_table
    from cellssl.cli.runner import Runner
    from cellssl.pipeline.check import check_planned, check_plate_controls, hits_remarks, wanted_of

    runner = Runner.of(recipe, common)
    runner.session.check_stage(to)
    arms = runner.session.arms()
    if common.dry_run:
        runner.run(check_planned(runner.session, runner.context(), arms))
    else:
        runner.download_models(to or "report")
        check_before_work(runner, arms)
    planned = runner.session.plan(to)
    wanted = wanted_of(runner.session, planned)
    runner.run(check_plate_controls(runner.session, runner.context(), wanted))
    for remark in runner.run(hits_remarks(runner.session, runner.context(), wanted)):
        runner.console.say_beforehand(remark.sentence, remark.in_words())
    if common.dry_run:
        runner.show_estimated_plan(planned)
        return
    made = make_all(runner, planned, jobs)
    if made.card.kind == "report":
        show_table(runner.console, made)
    runner.write_output(made)
