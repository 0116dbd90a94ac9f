"""embed: the command `cellssl embed`."""

from cellssl.cli.stage import stage_command

command = stage_command("embed", "Compute one vector per cell.", "cellssl embed demo --arm random")
