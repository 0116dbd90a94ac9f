"""evaluate: the command `cellssl evaluate`."""

from cellssl.cli.stage import stage_command

command = stage_command(
    "evaluate", "Classify test cells by neighbours and a linear probe.", "cellssl evaluate nocodazole --seed 1"
)
