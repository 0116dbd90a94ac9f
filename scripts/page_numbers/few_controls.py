"""few_controls: crops of two real plates in; how much accuracies vary with the few controls that set the scale, out."""

from __future__ import annotations

from page_numbers import markdown, real_cells
from page_numbers.workplace import Workplace, benchmark

CONTROLS, DRAWS, SEED = 65, 32, 0


def table(work: Workplace) -> str:
    """Return mean, standard deviation and worst draw of the accuracies, per scale, plate and chain."""
    made = benchmark("few_controls")
    rows = work.kept("rows", lambda: made.measured(real_cells.CROPS, work.folder, CONTROLS, DRAWS, SEED))
    body = []
    for plate in sorted({row["plate"] for row in rows}):
        for chain in ("none", "default"):
            for scale in made.SCALES:
                found = [made.summary(rows, scale, plate, chain, name) for name in ("knn", "linear")]
                cells = [f"{mean:.3f} ± {sd:.3f}, worst {worst:.3f}" for mean, sd, worst in found]
                body.append([f"`{scale}`", plate, chain, *cells])
    header = ["scale of", "plate", "chain of normalisers", "kNN", "linear probe"]
    return markdown.table(header, body)
