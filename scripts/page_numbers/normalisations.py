"""normalisations: crops of three real plates in; scores of every arm under several chains of normalisers out."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from cellssl.profiling.normaliser import chain_names
from cellssl.stages.cluster.settings import Settings as ClusterSettings
from page_numbers import markdown, real_cells
from page_numbers.workplace import Row, Workplace, benchmark, seeds_of, sets

ARMS: Mapping[str, str] = {
    "context": "pretrain = { branches.centre.weight = 0.0 }",
    "centre": "pretrain = { branches.context.weight = 0.0 }",
    "sum": "",
    "random": 'embed.model = "random"',
    "intensities": 'embed.model = "intensities"',
    "features": 'embed.model = "features"',
}
"""Arm -> what it lays over the recipe."""
SCORES = ("ami", "knn", "linear")


def chains() -> dict[str, list[str]]:
    """Return title -> links; the last is the default of `cluster` and `evaluate`."""
    pooled, default = ["center_plate", "scale_pooled"], chain_names(ClusterSettings().normalise)
    return {
        "none": [],
        "`l2`": ["l2"],
        _title(pooled): pooled,
        "these and `l2`": [*pooled, "l2"],
        _title(["l2", "center_plate"]): ["l2", "center_plate"],
        f"{_title(default)} (the default)": default,
    }


def _title(links: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in links)


def table(work: Workplace) -> str:
    """Return AMI, kNN and linear accuracy of every arm under every chain, the mean over plates and seeds."""
    rows = _test_plates(work)
    body = [[f"`{arm}`", *(_cell(rows, arm, place) for place, _ in enumerate(chains()))] for arm in ARMS]
    note = (
        "AMI of K-Means with the treatment / balanced accuracy of kNN / of the linear probe, on a plate that no "
        "network was trained on: the mean over three plates, where a network is random or trained over three seeds "
        "(the third plate: one)."
    )
    return "\n\n".join([markdown.table(["arm", *chains()], body), markdown.paragraph(note)])


def _by_plate(rows: list[list[Row]], arm: str, name: str) -> list[list[float]]:
    return [seeds_of(of_plate, arm, name) for of_plate in rows]


def _cell(rows: list[list[Row]], arm: str, chain: int) -> str:
    return " / ".join(f"{fmean(map(fmean, _by_plate(rows, f'{arm}-{chain}', name))):.2f}" for name in SCORES)


def _test_plates(work: Workplace) -> list[list[Row]]:
    """Return the scores of every arm and chain on each test plate, trained on the other plates."""
    two, three = work.folder / "two", work.folder / "three"
    for folder in (two, three):
        folder.mkdir(exist_ok=True)
    plates = benchmark("real_crops").write_stack(real_cells.CROPS, two)
    real_cells.write_three_plates(three)
    directions = [*((two, plate, [0, 1, 2]) for plate in plates), (three, real_cells.THIRD_PLATE, [0])]
    return [
        work.scores(work.cellssl("run", str(_write_recipe(folder, plate)), *sets(f"seeds={seeds}")))
        for folder, plate, seeds in directions
    ]


def _write_recipe(folder: Path, test_plate: str) -> Path:
    """Write a recipe that has an arm for every arm and chain; what they share is made once."""
    text = real_cells.RECIPE.read_text(encoding="utf-8")
    head, _, _ = text.partition("[arm.")
    head = head.replace('main_arm = "sum"\n', 'main_arm = "sum-0"\n')
    head = head.replace("[split]\n", f'[split]\ntest_plates = ["{test_plate}"]\n')
    arms = [
        f"[arm.{arm}-{number}]\n{over}\ncluster.normalise = {links}\nevaluate.normalise = {links}"
        for arm, over in ARMS.items()
        for number, links in enumerate(chains().values())
        if f"{arm}-{number}" != "sum-0"
    ]
    head = head.replace('[cluster]\nnormalise = "l2"\n', "[cluster]\nnormalise = []\n")
    recipe = "\n\n".join([head.replace("[evaluate]\n", EVALUATED), *arms])
    recipe = recipe.replace('name = "real-crops"', f'name = "normalisations-{test_plate}"')
    _check(tomllib.loads(recipe))
    path = folder / f"{test_plate}.toml"
    path.write_text(recipe + "\n", encoding="utf-8")
    return path


EVALUATED = "[evaluate]\nnormalise = []\nleave_out = []\n"


def _check(recipe: dict[str, Any]) -> None:
    """Raise ValueError where the recipe of the benchmark no longer has what is replaced in it."""
    if recipe["main_arm"] != "sum-0" or "test_plates" not in recipe["split"] or recipe["cluster"]["normalise"] != []:
        raise ValueError("benchmarks/real_crops.toml has another form than this script expects")
