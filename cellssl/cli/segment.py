"""segment: the command `cellssl segment`."""

from cellssl.cli.stage import stage_command

command = stage_command(
    "segment", "Find nuclei, and cut a crop around each.", "cellssl segment demo --set segment.crop_px=128"
)
