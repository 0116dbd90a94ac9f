"""nuclei: labelled and simulated fields in; F1 and speed of the detectors, and what is left of a vignette, out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from page_numbers import markdown
from page_numbers.workplace import SHARED_DATA, Workplace, benchmark

FIELDS = SHARED_DATA / "segmentation" / "dsb2018_stage1_fluo"
CELLPOSE = SHARED_DATA / "weights" / "cellpose3_cyto_from_scellseg.pth"
METHODS = ("nuclei_net", "watershed")
FIELD_PX, VIGNETTE, WIDE_BLUR_PX = 1000, 0.4, 500.0
COUNT, ROUNDS = 6, 3


def f1(work: Workplace) -> str:
    """Return F1 of both detectors on labelled fields and on simulated plates."""
    scores = work.kept("scores", _scores)
    rows = []
    for name in METHODS:
        mean = scores[name]["held_out"]["mean_f1"]
        simulated = (scores[name][f"simulated, {kind}"]["mean_f1"]["0.5"] for kind in ("untreated", "treated"))
        rows.append(
            [f"`{name}`", " / ".join(f"{value:.2f}" for value in mean.values()), *(f"{s:.2f}" for s in simulated)]
        )
    fields = scores[METHODS[0]]["held_out"]["fields"]
    header = ["method", f"mean F1 at 0.5 / 0.7 / 0.9, {fields} fields", "F1 on simulated, untreated cells"]
    return markdown.table([*header, "F1 on simulated cells, high doses"], rows)


def _scores() -> dict[str, Any]:
    made = benchmark("segment")
    groups = made.group_fields(made.read_bowl(FIELDS)[1], made.simulate_fields(1, 8))
    return {
        name: {group: made.score_fields(segment, fields) for group, fields in groups.items()}
        for name, segment in made.shipped(None).items()
    }


def speed(work: Workplace) -> str:
    """Return seconds per field of the detectors, on one thread."""
    best = work.kept("seconds", _seconds)
    rows = [[f"`{name}`", f"{best[name]:.2f} s", f"{best[name] / best['watershed']:.1f}"] for name in reversed(METHODS)]
    times = best["cellpose"] / best["watershed"]
    rows.append(["a network of cellpose 3", "", f"{10 * round(times / 10)}"])
    return markdown.table(["method", "seconds per field", "times as long as `watershed`"], rows)


def _seconds() -> dict[str, float]:
    made = benchmark("segment")
    with tempfile.TemporaryDirectory() as folder:
        tasks = [made.write_field(Path(folder), number) for number in range(COUNT)]
        seconds: dict[str, float] = made.measure_one_process(tasks, made.shipped(CELLPOSE), ROUNDS)
    return seconds


def illumination(work: Workplace) -> str:
    """Return how much of a vignette two widths of blur remove."""
    import numpy as np

    from cellssl.imaging.illumination import estimate_flatfield

    down, right = np.mgrid[-1 : 1 : FIELD_PX * 1j, -1 : 1 : FIELD_PX * 1j]
    light = FIELD_PX * (1 - VIGNETTE * (down**2 + right**2))
    rows = []
    for title, blur_px in (("500 px, as pybbbc", WIDE_BLUR_PX), ("a tenth of the side of the field", FIELD_PX / 10)):
        corrected = light / estimate_flatfield(light, blur_px)
        left = (corrected.std() / corrected.mean()) / (light.std() / light.mean())
        rows.append([title, f"{1 - left:.0%}".replace("%", " %")])
    return markdown.table(["blur", f"share of a vignette that is removed, fields of {FIELD_PX:,} px"], rows)
