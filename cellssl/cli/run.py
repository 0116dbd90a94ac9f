"""run: the command `cellssl run`: everything that is missing, over arms and seeds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from cellssl.cli import options as o

if TYPE_CHECKING:
    from cellssl.cli.grid import Cell
    from cellssl.cli.work import Worker
    from cellssl.pipeline.plan import Planned

ToOption = Annotated[str | None, typer.Option("--to", help="The last stage to make [default: report].")]


@o.flags(*o.all_but("inputs", "plate"))
def command(recipe: o.RecipeArgument, common: o.Common, to: ToOption = None, mirror: o.MirrorOption = None) -> None:
    """Make what is missing of a recipe: all stages, arms and seeds, then the report.

    Example: cellssl run nocodazole --to cluster --arm centre
    """
    common = replace(common, overrides=o.mirrored(recipe, common.overrides, mirror))
    run_recipe(recipe, common, to)


def run_recipe(recipe: str, common: o.Common, to: str | None = None) -> None:
    """Make every cell of the grid, and deliver the last artifact, mostly the report."""
    from cellssl.cli.grid import check_clusters, grid, has_clusters, show_table
    from cellssl.cli.work import Worker
    from cellssl.config.plugins import did_you_mean
    from cellssl.config.recipe import CHAIN
    from cellssl.errors import UsageError

    worker = Worker.of(recipe, common)
    if to is not None and to not in CHAIN:
        raise UsageError(f"there is no stage {to!r}", hint=did_you_mean(to, CHAIN))
    if to == "report":
        check_clusters(worker)
    jobs = grid(worker, to or "report")
    if common.dry_run:
        worker.announce(worker.states(jobs))
        return
    made = None
    for planned in plan_all(worker, jobs):
        made = worker.finish(planned, {})
    if to == "report" or (to is None and has_clusters(worker)):
        made = worker.report()
        show_table(worker.console, made)
    if made is None:
        raise UsageError("the recipe leaves nothing to make", hint="see cellssl status")
    worker.deliver(made)


def plan_all(worker: Worker, jobs: list[Cell]) -> list[Planned]:
    """Every stage in the order of making, before any is made: what is wrong with the last arm is said at once."""
    planners = [worker.planner(arm, seed) for arm, seed, _ in jobs]
    for planner, (_, _, stage) in zip(planners, jobs, strict=True):
        planner.plan(stage)
    return [planned for planner in planners for planned in planner.stages.values()]
