"""evaluate: the command `cellssl evaluate`."""

from cellssl.cli.stage import stage_command

command = stage_command(
    "evaluate",
    "Score how well labels, replicates and mechanisms can be predicted.",
    "cellssl evaluate demo --seed 1",
)
