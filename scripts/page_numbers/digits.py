"""digits: the study on digits in; its table beside the paper, what flow views lose, and the picture of clusters out."""

from __future__ import annotations

import io
from statistics import fmean

from page_numbers import markdown
from page_numbers.workplace import Row, Workplace, seeds_of

ARMS = {"digit": "digit views", "flow": "flow views", "random": "untrained network"}
PAPER = (
    ("*the paper, MNIST, digit views*", "0.87 ± 0.03", "0.83 ± 0.02", "99.6 ± 0.2 %", ""),
    ("*the paper, MNIST, flow views*", "0.66 ± 0.08", "0.37 ± 0.06", "62.1 ± 2.9 %", ""),
)
PICTURE, PICTURE_WIDTH_PX, COLOURS = "digits.png", 960, 64


def table(work: Workplace) -> str:
    """Return silhouette, AMI and accuracies of both sets of views and of the untrained network."""
    rows = work.scores(work.cellssl("run", "digits"))
    ours = [[title, *_scores(rows, arm)] for arm, title in ARMS.items()]
    header = ["", "silhouette", "AMI", "linear probe", "kNN"]
    seeds = len(seeds_of(rows, "digit", "ami"))
    return f"{markdown.table(header, [*ours, *PAPER])}\n\nMean ± standard deviation over {seeds} seeds."


def _scores(rows: list[Row], arm: str) -> list[str]:
    shares = [f"{markdown.mean_sd(seeds_of(rows, arm, name), 1, 100)} %" for name in ("linear", "knn")]
    return [*(markdown.mean_sd(seeds_of(rows, arm, name)) for name in ("silhouette", "ami")), *shares]


def falls(work: Workplace) -> str:
    """Return how much lower the scores of flow views are, seed by seed."""
    return falls_table(work.scores(work.cellssl("run", "digits")))


def falls_table(rows: list[Row]) -> str:
    """Return the falls of AMI, linear probe and silhouette as a table."""
    ami, linear = (_differences(rows, name) for name in ("ami", "linear"))
    table = [
        ["AMI", f"{fmean(ami):.2f}", f"{min(ami):.2f} to {max(ami):.2f}", _wins(ami), f"{_share(rows, 'ami'):.0%}"],
        [
            "linear probe, percentage points",
            f"{100 * fmean(linear):.1f}",
            f"{100 * min(linear):.1f} to {100 * max(linear):.1f}",
            _wins(linear),
            "",
        ],
        ["silhouette", "", "", "", f"{_share(rows, 'silhouette'):.0%}"],
    ]
    header = ["score", "falls by", "lowest to highest of the seeds", "falls in", "share of its value"]
    return markdown.table(header, table).replace("%", " %")


def _differences(rows: list[Row], name: str) -> list[float]:
    pairs = zip(seeds_of(rows, "digit", name), seeds_of(rows, "flow", name), strict=True)
    return [digit - flow for digit, flow in pairs]


def _wins(differences: list[float]) -> str:
    return f"{sum(one > 0 for one in differences)} of {len(differences)} seeds"


def _share(rows: list[Row], name: str) -> float:
    return 1 - fmean(seeds_of(rows, "flow", name)) / fmean(seeds_of(rows, "digit", name))


def picture(work: Workplace) -> str:
    """Write the cells nearest each centroid, both sets of views side by side, and return the line that shows them."""
    from PIL import Image

    work.cellssl("run", "digits")
    made = [work.cellssl("cluster", "digits", "--arm", arm, "--seed", "0") for arm in ("digit", "flow")]
    left, right = (Image.open(folder / "montage.png").convert("RGB") for folder in made)
    both = Image.new("RGB", (left.width + right.width, max(left.height, right.height)), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    size = PICTURE_WIDTH_PX, round(both.height * PICTURE_WIDTH_PX / both.width)
    written = io.BytesIO()
    both.resize(size, Image.Resampling.LANCZOS).quantize(COLOURS).save(written, "PNG", optimize=True)
    work.write_picture(PICTURE, written.getvalue())
    return f"![Cells nearest each centroid: digit views on the left, flow views on the right]({PICTURE})"
