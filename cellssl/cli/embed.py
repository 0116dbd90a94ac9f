"""embed: the command `cellssl embed`."""

from cellssl.cli.stage import stage_command

command = stage_command("embed", "Represent every cell by a model.", "cellssl embed nocodazole --arm random")
