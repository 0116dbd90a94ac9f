"""split: the command `cellssl split`."""

from cellssl.cli.stage import stage_command

command = stage_command(
    "split", "Divide cells into train, val and test, balanced.", "cellssl split demo --set split.group_by=well"
)
