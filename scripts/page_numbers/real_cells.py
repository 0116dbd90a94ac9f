"""real_cells: crops and profiles of BBBC021 in; scores of trained networks, baselines and ImageNet weights out."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

from cellssl.profiling.normaliser import chain_names
from cellssl.stages.cluster.settings import Settings as ClusterSettings
from page_numbers import markdown
from page_numbers.workplace import REPOSITORY, SHARED_DATA, Row, Workplace, benchmark, seeds_of, sets

CROPS, WEIGHTS = SHARED_DATA / "crops", SHARED_DATA / "weights" / "efficientnet-lite0-57934424.pth"
PROFILES = SHARED_DATA / "profiles" / "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz"
RECIPE = REPOSITORY / "benchmarks" / "real_crops.toml"
SEEDS = [0, 1, 2]
THIRD_PLATE = "Week4_27861"
FEATURES = 'arm.features={embed={model="features"}}'
PHOTOGRAPHS = """
name = "photographs"
[fetch.dataset]
name = "crop_stack"
stack = "stack.npy"
table = "stack.csv"
axes = "nyxc"
channels = ["dna", "actin", "tubulin"]
columns = { plate = "plate", well = "well", site = "site", compound = "compound", dose_micromolar = "concentration" }
[split]
treated = { compounds = ["cyclohexamide"] }
group_by = "plate"
[pretrain]
encoder = { name = "timm", model = "tf_efficientnet_lite0", weights = "lite0.pth" }
[embed]
model = "imagenet"
[cluster]
normalise = "l2"
[evaluate]
[arm.random.embed]
model = "random"
"""
"""The recipe of tests/soak/test_imagenet.py."""


def two_plates(work: Workplace) -> str:
    """Return the AMI of every arm on each test plate, and that of the sum without unit length."""
    made = benchmark("real_crops")
    plates = made.write_stack(CROPS, work.folder)
    rows = work.kept("rows", lambda: [row for plate in plates for row in made.one_direction(work.folder, plate, SEEDS)])
    table = [[plate, *(_best(made, rows, plate, arm) for arm in made.ARMS)] for plate in plates]
    raw = [sum(made.values(rows, plate, "sum", "none")) / len(SEEDS) for plate in plates]
    header = ["test plate", "sum", "context", "centre", "random network", "mean intensities"]
    sentence = "Without the scaling to unit length, the AMI of the same vectors of the sum is "
    return "\n\n".join(
        [
            markdown.table(header, table),
            markdown.bullets(f"{sentence}{max(raw):.2f} on one plate and {min(raw):.2f} on the other."),
        ]
    )


def _best(made: Any, rows: list[Row], plate: str, arm: str) -> str:
    """Return the AMI at unit length, and of a baseline that with the normalisation that suits it best."""
    ways = made.NORMALISED if arm in made.BASELINES else ("l2",)
    return markdown.mean_sd(max((made.values(rows, plate, arm, how) for how in ways), key=sum))


def write_three_plates(folder: Path) -> None:
    """Write the crops of the two plates and those of the third plate as one stack with its table."""
    import numpy as np

    made = benchmark("real_crops")
    pixels, table = [], []
    for name, plates in (("2plates", None), ("small", {THIRD_PLATE})):
        rows = [row for row in made.read_rows(CROPS / f"bbbc021_crops_{name}.csv") if row["compound"] in made.COMPOUNDS]
        rows = [row for row in rows if plates is None or row["plate"] in plates]
        with np.load(CROPS / f"bbbc021_crops_{name}.npz") as arrays:
            pixels.append(arrays["images_div16"][[int(row["row"]) for row in rows]] << 4)
        table += rows
    np.save(folder / "stack.npy", np.concatenate(pixels))
    names = [name for name in table[0] if all(name in row for row in table)]
    with (folder / "stack.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table)
    shutil.copy(RECIPE, folder / "recipe.toml")


def three_plates(work: Workplace) -> Path:
    """Return the report of training on two plates, without labels, and testing on the third one."""
    if not (work.folder / "stack.csv").is_file():
        write_three_plates(work.folder)
    return work.cellssl("run", str(work.folder / "recipe.toml"), *_of_three_plates())


def _of_three_plates() -> list[str]:
    """Return what is laid over the recipe of two plates; clusters have the default chain."""
    chain = f"cluster.normalise={chain_names(ClusterSettings().normalise)}"
    return sets("name=three-plates", f'split.test_plates=["{THIRD_PLATE}"]', f"seeds={SEEDS[:1]}", FEATURES, chain)


def leave_one_plate_out(work: Workplace) -> str:
    """Return the balanced accuracy of the linear probe when each plate is left out, with its interval."""
    titles = {
        "intensities": "`intensities`",
        "random": "`random` network",
        "features": "`features`",
        "context": "`context` of `benchmarks/real_crops.toml`, trained without labels on two of the plates",
    }
    three_plates(work)
    chosen = _of_three_plates()
    table = []
    for arm, title in titles.items():
        flags = ("--arm", arm, "--seed", "0")
        made = work.cellssl("evaluate", str(work.folder / "recipe.toml"), *chosen, *flags)
        found = json.loads((made / "evaluation.json").read_text(encoding="utf-8"))["leave_one_plate_out"]["linear"]
        low, high = found["balanced_accuracy_interval"]
        table.append([title, f"{found['balanced_accuracy']:.2f}", f"{low:.2f} to {high:.2f}"])
    return markdown.table(["vectors", "balanced accuracy", "95 % interval"], table)


def third_plate(work: Workplace) -> str:
    """Return AMI and accuracies on a plate that the trained networks never saw."""
    rows = work.scores(three_plates(work))
    titles = {arm: f"`{arm}`" for arm in ("context", "sum", "centre", "features", "intensities")}
    titles["random"] = "untrained network"
    table = [
        [title, *(markdown.mean_sd(seeds_of(rows, arm, name)) for name in ("ami", "knn", "linear"))]
        for arm, title in titles.items()
    ]
    return markdown.table(["vectors", "AMI of K-Means with the treatment", "kNN", "linear probe"], table)


def photographs(work: Workplace) -> str:
    """Return the AMI of EfficientNet-Lite0 on each plate, with and without its ImageNet weights."""
    plates = write_photographs(work.folder)
    table = []
    for title, arm, side in (
        ("ImageNet weights", "imagenet", None),
        ("weights drawn from the seed", "random", None),
        ("ImageNet weights, `input_px = 136`", "imagenet", 136),
    ):
        each = [_ami_of_photographs(work, plate, arm, side) for plate in (plates[:1] if side else plates)]
        table.append([title, *each, *[""] * (len(plates) - len(each))])
    return markdown.table(["EfficientNet-Lite0", *(f"AMI, {plate}" for plate in plates)], table)


def write_photographs(folder: Path) -> list[str]:
    """Write stack, weights with the names of timm, and recipe; return the plates."""
    plates: list[str] = benchmark("real_crops").write_stack(CROPS, folder)
    write_lite0(folder)
    (folder / "recipe.toml").write_text(PHOTOGRAPHS, encoding="utf-8")
    return plates


def write_lite0(folder: Path) -> None:
    """Write the weights of EfficientNet-Lite0 with timm's names, as lite0.pth; the file has them in timm's order."""
    import timm
    import torch

    tensors = torch.load(WEIGHTS, weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save(dict(zip(names, tensors.values(), strict=True)), folder / "lite0.pth")


def _ami_of_photographs(work: Workplace, plate: str, arm: str, side: int | None) -> str:
    chosen = sets(f'split.test_plates=["{plate}"]', *([f"pretrain.input_px={side}"] if side else []))
    rows = work.scores(work.cellssl("run", str(work.folder / "recipe.toml"), *chosen))
    return f"{seeds_of(rows, 'main' if arm == 'imagenet' else arm, 'ami')[0]:.2f}"


def profiles(work: Workplace) -> str:
    """Return NSC and NSCB of CellProfiler's well profiles, after every chain of normalisation in nsc.csv."""
    columns = write_profiles(work.folder / "profiles.csv")
    chosen = sets(
        f"evaluate.table.path={work.folder / 'profiles.csv'}",
        *(f"evaluate.table.columns.{name}={column}" for name, column in columns.items()),
    )
    made = work.cellssl("evaluate", "profiles", *chosen)
    with (made / "nsc.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["moa"] == "all"]
    right = {(row["rule"], row["normalise"]): f"{row['right']} of {row['treatments']}" for row in rows}
    chains = dict.fromkeys(row["normalise"] for row in rows)
    table = [[f"`{chain}`", right["nsc", chain], right["nscb", chain]] for chain in chains]
    return markdown.table(["`normalise`", "NSC", "NSCB"], table)


def write_profiles(target: Path) -> dict[str, str]:
    """Write the profiles with compounds, doses and mechanisms of the official tables; return the names of columns."""
    import pandas as pd

    images, mechanisms = (SHARED_DATA / "meta" / f"BBBC021_v1_{name}.csv" for name in ("image", "moa"))
    names = {"Plate_DAPI": "Plate", "Well_DAPI": "Well", "Compound": "compound", "Concentration": "concentration"}
    wells = pd.read_csv(images).rename(columns={f"Image_Metadata_{old}": new for old, new in names.items()})
    wells = wells[[*names.values()]].drop_duplicates()
    table = pd.read_csv(PROFILES).rename(columns=lambda name: name.removeprefix("Image_Metadata_"))
    table = table.merge(wells, on=["Plate", "Well"]).merge(pd.read_csv(mechanisms), on=["compound", "concentration"])
    table.join(table["Plate"].str.partition("_")[0].rename("batch")).to_csv(target, index=False)
    columns = {"plate": "Plate", "well": "Well", "dose_micromolar": "concentration"}
    return columns | {name: name for name in ("batch", "compound", "moa")}
