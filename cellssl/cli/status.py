"""status: the command `cellssl status`."""

from __future__ import annotations

import json as json_

from cellssl.cli import options as o


def command(
    recipe: o.RecipeArgument,
    store: o.StoreOption = None,
    set: o.SetOption = None,
    arm: o.ArmOption = None,
    seed: o.SeedOption = None,
    json: o.JsonOption = False,
) -> None:
    """Say for every stage, arm and seed whether it is done, partial or missing.

    Example: cellssl status nocodazole --json
    """
    from cellssl.cli.grid import grid
    from cellssl.cli.work import Worker

    worker = Worker.of(recipe, o.Common(store=store, overrides=set, arm=arm, seed=seed, json=json))
    rows = worker.states(grid(worker, "report"))
    if json:
        worker.console.result("", {"recipe": worker.recipe.name, "stages": rows})
        return
    header = ["stage", "arm", "seed", "state", "fingerprint"]
    worker.console.table(header, [[_word(row[name]) for name in header] for row in rows], to_stdout=True)


def _word(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json_.dumps(value)
