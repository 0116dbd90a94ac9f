"""cluster: the command `cellssl cluster`."""

from cellssl.cli.stage import stage_command

command = stage_command(
    "cluster", "Cluster embeddings, and score the clusters.", "cellssl cluster demo --set cluster.k=4"
)
