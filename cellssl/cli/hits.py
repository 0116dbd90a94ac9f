"""hits: the command `cellssl hits`."""

from cellssl.cli.stage import stage_command

command = stage_command(
    "hits", "Find which treatments changed the cells, and how sure that is.", "cellssl hits demo --arm features"
)
