"""demo: the demo, and the demo on other simulated plates, in; its table, sentences and pictures out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from page_numbers import markdown
from page_numbers.workplace import Row, Workplace, seeds_of, sets

COLUMNS = {
    "ami": "AMI label",
    "shuffled": "AMI shuffled",
    "ami_plate": "AMI plate",
    "ami_density": "AMI density",
    "ami_phenotype": "AMI phenotype",
    "knn": "kNN accuracy",
    "linear": "linear accuracy",
}
BASELINES = ("random", "intensities", "features")
OTHER_PLATES = range(1, 6)
"""Seeds of the simulation; the demo itself has 0."""
WATERSHED = "segment.method=watershed"
CLUSTER_PICTURE, DOSE_PICTURE = "demo-clusters.jpg", "demo-doses.png"
CELLS_SHOWN, PICTURE_WIDTH_PX, JPEG_QUALITY = 16, 960, 88


def time_needed(work: Workplace) -> str:
    """Return the sentence on how long the demo takes."""
    work.cellssl("run", "demo")
    minutes = max(1, round(work.processor_minutes("demo")))
    return markdown.paragraph(
        f"The demo takes about {minutes} minutes on one core, after the installation; on several it makes arms at once."
    )


def scores(work: Workplace) -> str:
    """Return the table that the demo prints, with the upper bound of its first column."""
    rows = work.scores(work.cellssl("run", "demo"))
    bound = markdown.mean_sd([float(row["ceiling"]) for row in rows])
    return f"```\n{aligned(rows)}\n```\n\nThe upper bound of `AMI label`, given the labels: {bound}."


def aligned(rows: Sequence[Row]) -> str:
    """Return the arms as a text table with aligned columns."""
    from cellssl.reporting.seed_statistics import aggregate

    arms = [[each.arm, *(str(each.by_metric[name]) for name in COLUMNS)] for each in aggregate(rows, list(COLUMNS))]
    lines = [["arm", *COLUMNS.values()], *arms]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def other_plates(work: Workplace) -> str:
    """Return how far the sum lies from its best branch and from the baselines, on five other sets of plates."""
    means = [_ami_by_arm(work, seed) for seed in OTHER_PLATES]
    to_centre = [each["sum"] - each["centre"] for each in means]
    to_baseline = [each["sum"] - max(each[arm] for arm in BASELINES) for each in means]
    return markdown.table(
        ["AMI label, five other sets of plates, nuclei found by `watershed`", "difference"],
        [
            ["sum minus `centre` alone", markdown.mean_sd(to_centre, 3)],
            ["sum minus the best baseline", markdown.mean_sd(to_baseline)],
        ],
    )


def _ami_by_arm(work: Workplace, plates_seed: int) -> dict[str, float]:
    """Return arm -> mean AMI with the label over the seeds of the demo."""
    report = work.cellssl("run", "demo", *sets(WATERSHED, f"fetch.dataset.seed={plates_seed}"))
    rows = work.scores(report)
    return {arm: sum(each) / len(each) for arm in {row["arm"] for row in rows} for each in [seeds_of(rows, arm, "ami")]}


def doses(work: Workplace) -> str:
    """Write the figure of clusters by dose, and return the line that shows it."""
    clusters = _clusters_of_the_sum(work)
    work.write_picture(DOSE_PICTURE, (clusters / "doses.png").read_bytes())
    return f"![Demo: share of the two clusters in the control wells and at each dose]({DOSE_PICTURE})"


def clusters(work: Workplace) -> str:
    """Write the picture of cells of each cluster, and return it with the shares of cells in clusters."""
    made = _clusters_of_the_sum(work)
    fewer = work.cellssl("cluster", "demo", "--seed", "0", *sets(f"cluster.montage_cells={CELLS_SHOWN}"))
    work.write_picture(CLUSTER_PICTURE, as_jpeg((fewer / "montage.png").read_bytes()))
    control, treated = _largest_shares(made)
    sentence = (
        "These are the simulated cells nearest the centroids of the two clusters. The model saw no labels. Of the "
        f"cells drawn from every well, {_percent(control[1])} of the controls are in cluster {control[0]}, and "
        f"{_percent(treated[1])} of the cells that got a drug against microtubules (green) are in cluster {treated[0]}."
    )
    picture = f"![Demo: the cells nearest the centroids of two clusters](docs/{CLUSTER_PICTURE})"
    return f"{picture}\n\n{markdown.paragraph(sentence)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _clusters_of_the_sum(work: Workplace) -> Path:
    """Return the clusters of the arm `sum` and the first seed."""
    work.cellssl("run", "demo")
    return work.cellssl("cluster", "demo", "--seed", "0")


def _largest_shares(clusters: Path) -> list[tuple[int, float]]:
    """Return the cluster with most of the controls and that with most of the treated cells, each with its share."""
    import pandas as pd

    wells = pd.read_csv(clusters / "wells.csv")
    shares = wells.filter(like="share_of_cluster_")
    cells = shares.mul(wells["n_drawn"], axis=0)
    found = []
    for control in (True, False):
        counts = cells[wells["control"] == control].sum()
        found.append((int(counts.to_numpy().argmax()), float(counts.max() / counts.sum())))
    return found


def as_jpeg(png: bytes) -> bytes:
    """Return a picture as a JPEG of the width of a page."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    size = PICTURE_WIDTH_PX, round(picture.height * PICTURE_WIDTH_PX / picture.width)
    written = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(written, "JPEG", quality=JPEG_QUALITY)
    return written.getvalue()
