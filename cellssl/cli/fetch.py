"""fetch: the command `cellssl fetch`."""

from cellssl.cli.stage import stage_command

command = stage_command(
    "fetch",
    "Fetch the fields of view that a recipe names, plate by plate.",
    "cellssl fetch recipes/demo.toml --plate Sim1_00001",
)
