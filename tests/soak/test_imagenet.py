"""What a network that has only seen photographs makes of real cells, beside the same network as the seed draws it.

Not asserted: DMSO and cycloheximide differ by well here, and two plates are few. It is measured, and printed.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from chain import say

RECIPE = """
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


def write_cells(crops: Path, folder: Path) -> None:
    """Real crops of two compounds on two plates, as stack.npy and stack.csv."""
    table = pd.read_csv(crops / "bbbc021_crops_2plates.csv", dtype=str)
    rows = np.flatnonzero(table["compound"].isin(["DMSO", "cyclohexamide"]))
    with np.load(crops / "bbbc021_crops_2plates.npz") as arrays:
        np.save(folder / "stack.npy", arrays["images_div16"][rows] << 4)
    table.iloc[rows].to_csv(folder / "stack.csv", index=False)


@pytest.mark.soak_long
@pytest.mark.parametrize("plate", ["Week4_27801", "Week4_27821"])
def test_photographs_against_chance_on_real_cells(shared_data: Path, tmp_path: Path, plate: str) -> None:
    write_cells(shared_data / "crops", tmp_path)
    tensors = torch.load(shared_data / "weights" / "efficientnet-lite0-57934424.pth", weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save(dict(zip(names, tensors.values(), strict=True)), tmp_path / "lite0.pth")
    (tmp_path / "r.toml").write_text(RECIPE)
    test = ["--set", f'split.test_plates=["{plate}"]']
    said = say("run", tmp_path / "r.toml", "--store", tmp_path / "store", "--device", "cpu", *test)
    for row in json.loads((Path(said.line) / "scores.json").read_text()):
        print(f"\n{plate} {row['arm']:7} AMI {row['ami']:.3f}, kNN {row['knn']:.3f}")
