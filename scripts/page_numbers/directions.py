"""directions: crops of three real plates in; scores of blocks side by side on plates that no network saw, out.

Every network is trained on one plate and tested on another one, both ways, or trained on two and tested on the third.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from page_numbers import markdown, real_cells
from page_numbers.workplace import Row, Workplace, benchmark, seeds_of, sets

SEEDS = [0, 1, 2]
WEIGHTS = (0.25, 0.5, 1.0, 2.0)
"""Weights of `features` beside `context` and `centre`."""
CENTRE, CONTEXT = '{ name = "centre", arm = "centre" }', '{ name = "context", arm = "context" }'
BLOCKS: Mapping[str, str] = {
    "context, centre": f"{CONTEXT}, {CENTRE}",
    "context, features": f'{CONTEXT}, "features"',
    **{
        f"context, centre, features x {weight:g}": f'{CONTEXT}, {CENTRE}, {{ of = "features", weight = {weight} }}'
        for weight in WEIGHTS
    },
}
"""Title of a row -> its blocks."""
ALONE = ("context", "centre", "features")
SCORES = ("ami", "knn", "linear")
EQUAL = "context, centre, features x 1"
Directions = Sequence[list[Row]]
"""The rows of scores.json of every direction."""


def table(work: Workplace) -> str:
    """Return AMI, kNN and linear accuracy of every arm, the mean over the three directions, and AMI on each plate."""
    plates, found = _directions(work)
    body = [[_title(row), *_cells(found, [arm] * len(found))] for row, arm in _arms().items()]
    chosen = [_best_elsewhere(found, place) for place in range(len(found))]
    body.append(["`context`, `centre`, `features`, the weight by the two other directions", *_cells(found, chosen)])
    note = (
        f"The mean over the three directions, each the mean over {len(SEEDS)} seeds; in the last row, the weight of "
        "`features` has the best AMI of the four in the two other directions."
    )
    header = ["blocks", "AMI", "kNN", "linear probe", *(f"AMI, {plate}" for plate in plates)]
    return "\n\n".join([markdown.table(header, body), markdown.paragraph(note)])


def _arms() -> dict[str, str]:
    """Return title of a row -> name of its arm."""
    return {name: name for name in ALONE} | {title: f"blocks-{number}" for number, title in enumerate(BLOCKS)}


def _title(row: str) -> str:
    names, _, weight = row.partition(" x ")
    written = ", ".join(f"`{name}`" for name in names.split(", "))
    return f"{written} of weight {weight}" if weight and float(weight) != 1 else written


def _cells(found: Directions, arms: Sequence[str]) -> list[str]:
    """Return the scores of one row, which may have another arm in every direction."""
    of_plates = {
        name: [fmean(seeds_of(rows, arm, name)) for rows, arm in zip(found, arms, strict=True)] for name in SCORES
    }
    return [*(f"{fmean(each):.3f}" for each in of_plates.values()), *(f"{ami:.2f}" for ami in of_plates["ami"])]


def _best_elsewhere(found: Directions, place: int) -> str:
    """Return the arm whose weight of `features` has the highest AMI in the other directions."""
    others = [rows for number, rows in enumerate(found) if number != place]
    candidates = [arm for row, arm in _arms().items() if row.startswith(EQUAL.partition(" x ")[0] + " x")]
    return max(candidates, key=lambda arm: sum(fmean(seeds_of(rows, arm, "ami")) for rows in others))


def _directions(work: Workplace) -> tuple[list[str], Directions]:
    """Return the tested plates, and the scores of every arm on each."""
    two, three = work.folder / "two", work.folder / "three"
    for folder in (two, three):
        folder.mkdir(exist_ok=True)
    plates = benchmark("real_crops").write_stack(real_cells.CROPS, two)
    real_cells.write_three_plates(three)
    tested = [*((two, plate) for plate in plates), (three, real_cells.THIRD_PLATE)]
    rows = [work.scores(work.cellssl("run", str(_write_recipe(*each)), *sets(f"seeds={SEEDS}"))) for each in tested]
    return [plate for _, plate in tested], rows


def _write_recipe(folder: Path, test_plate: str) -> Path:
    """Write a recipe with an arm for every row: `context` is the main one, and networks are trained once."""
    head, _, _ = real_cells.RECIPE.read_text(encoding="utf-8").partition("[arm.")
    for before, after in {
        'name = "real-crops"': f'name = "directions-{test_plate}"',
        'main_arm = "sum"': 'main_arm = "context"',
        "[split]\n": f'[split]\ntest_plates = ["{test_plate}"]\n',
        "weight = 1.0": "weight = 0.0",
        '[cluster]\nnormalise = "l2"\n': "[cluster]\n",
        "[evaluate]\n": "[evaluate]\nleave_out = []\nlabel_shuffles = 1\ndrop_blocks = false\n",
    }.items():
        if head.count(before) != 1:
            raise ValueError(f"benchmarks/real_crops.toml has another form than this script expects: {before}")
        head = head.replace(before, after)
    arms = [
        "[arm.centre.pretrain]\nbranches.context.weight = 0.0\nbranches.centre.weight = 1.0",
        '[arm.features.embed]\nmodel = "features"',
        *(f"[arm.{_arms()[title]}.embed]\nblocks = [{blocks}]" for title, blocks in BLOCKS.items()),
    ]
    path = folder / f"{test_plate}.toml"
    path.write_text("\n\n".join([head, *arms]) + "\n", encoding="utf-8")
    tomllib.loads(path.read_text(encoding="utf-8"))
    return path
