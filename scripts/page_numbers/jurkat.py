"""jurkat: real Jurkat cells in; how well each set of blocks tells the phases of the cell cycle apart, out."""

from __future__ import annotations

from collections import Counter

from page_numbers import markdown
from page_numbers.algorithms import Algorithms, of_recipe
from page_numbers.workplace import REPOSITORY, SHARED_DATA, Workplace, benchmark

RECIPE = REPOSITORY / "benchmarks" / "jurkat.toml"
SEEDS = [0]


def algorithms() -> Algorithms:
    """Return what the table stands on."""
    return of_recipe(RECIPE, to=("fetch", "segment", "split", "pretrain", "embed"))


def table(work: Workplace) -> str:
    """Return mean and standard deviation of every score over the halves."""
    made = benchmark("jurkat")
    rows = made.measured(SHARED_DATA, work.folder, SEEDS, work.root / "store")
    body = []
    for title in dict.fromkeys(row["blocks"] for row in rows):
        named = ", ".join(f"`{name}`" for name in title.split(", "))
        body.append([named, *(markdown.mean_sd(made.means(rows, title, name)) for name in made.SCORES)])
    by_accuracy, winners = made.chosen_rows(rows, "chosen_balanced", "balanced")
    f1, _ = made.chosen_rows(rows, "chosen_balanced", "f1")
    by_ami, clustered = made.chosen_rows(rows, "chosen_ami", "ami")
    body.append(["chosen on the other half", *map(markdown.mean_sd, (by_accuracy, f1, by_ami))])
    note = f"Chosen for the probe: {_counted(winners)}; for clusters: {_counted(clustered)}."
    header = ["blocks", "balanced accuracy", "macro F1", "AMI of five clusters"]
    return "\n\n".join([markdown.table(header, body), markdown.paragraph(note)])


def _counted(winners: list[str]) -> str:
    """Return how often each set of blocks was chosen."""
    times = Counter(winners).most_common()
    return "; ".join(f"{' + '.join(f'`{one}`' for one in name.split(', '))} {count} times" for name, count in times)
