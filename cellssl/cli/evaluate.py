"""evaluate: the command `cellssl evaluate`."""

from cellssl.cli.stage import stage_command

command = stage_command(
    "evaluate", "Tell labels, replicates and mechanisms from vectors.", "cellssl evaluate nocodazole --seed 1"
)
