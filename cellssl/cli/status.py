"""status: the command `cellssl status`."""

from __future__ import annotations

import json as json_
from typing import Annotated

import typer

from cellssl.cli import options as o

PlatesOption = Annotated[bool, typer.Option("--plates", help="Say it of every plate's part of fetch and segment too.")]


@o.flags("store", "overrides", "arm", "seed", "json")
def command(recipe: o.RecipeArgument, common: o.Common, plates: PlatesOption = False) -> None:
    """Say for every stage, arm and seed whether it is done, partial or missing, and the report last.

    Example: cellssl status nocodazole --json
    """
    from cellssl.cli.costs import said, spent
    from cellssl.cli.grid import filling, grid, has_clusters
    from cellssl.cli.pages import plan_report
    from cellssl.cli.plates import plate_rows
    from cellssl.cli.work import PLATE_STAGES, Worker

    worker = Worker.of(recipe, common)
    rows = worker.states(grid(worker, "report"))
    if has_clusters(worker):
        rows.append(worker.row(plan_report(worker, None)[0]))
    parts = plate_rows(worker, [row for row in rows if row["stage"] in PLATE_STAGES]) if plates else []
    costs = spent(worker.store, rows)
    if common.json:
        worker.console.result("", {"recipe": worker.recipe.name, "stages": rows, "plates": parts, "spent": costs})
        return
    header = ["stage", "arm", "seed", "state", "fingerprint"]
    points, swept = worker.recipe.points, filling(worker) if worker.recipe.points else ([], [])
    shown = [
        {**row, "arm": points[row["arm"]].arm} if row["arm"] in points else row
        for row in rows
        if row["arm"] not in points or row["stage"] not in swept[0]
    ]
    worker.console.table(header, [[_word(row[name]) for name in header] for row in shown], to_stdout=True)
    if swept[1]:
        worker.console.table(*swept, to_stdout=True)
    if parts:
        header[header.index("seed")] = "plate"
        worker.console.table(header, [[_word(row[name]) for name in header] for row in parts], to_stdout=True)
    worker.console.result(said(costs), {})


def _word(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json_.dumps(value)
