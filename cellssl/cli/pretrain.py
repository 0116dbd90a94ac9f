"""pretrain: the command `cellssl pretrain`."""

from cellssl.cli.stage import stage_command

command = stage_command(
    "pretrain", "Train an encoder without labels.", "model=$(cellssl pretrain demo --arm sum --seed 1)"
)
