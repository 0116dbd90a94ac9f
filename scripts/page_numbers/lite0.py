"""lite0: crops of BBBC021 with a mechanism in; how well EfficientNet-Lite0 tells mechanisms apart, frozen and trained
further, out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from page_numbers import markdown
from page_numbers.algorithms import Algorithms, of_plugins, of_stages
from page_numbers.real_cells import CROPS, WEIGHTS
from page_numbers.workplace import Workplace, benchmark, sets

if TYPE_CHECKING:
    import numpy as np

ENCODERS = "cellssl.learning.encoders"
DATA = ("crops/bbbc021_crops_small.npz", "crops/bbbc021_crops_small.csv", f"weights/{WEIGHTS.name}")
MOST_OF_A_COMPOUND = 60
"""Two compounds have 450 cells each, the others 5 to 37."""
DRAWS = 2000
SIDES_PX = (68, 136, 224)
EPOCHS = 6
"""That is 179 steps: six epochs of 1,908 cells."""
RECIPE = """
name = "mechanisms"
[fetch.dataset]
name = "crop_stack"
stack = "stack.npy"
table = "stack.csv"
axes = "nyxc"
channels = ["dna", "actin", "tubulin"]
columns = { plate = "plate", well = "well", site = "site", compound = "compound", dose_micromolar = "concentration" }
keep = ["mechanism"]
pixel_um = 0.4963
[segment]
reference = "all"
[split]
balance = false
shares = [1, 0, 0]
[pretrain]
encoder = { name = "efficientnet_lite0", weights = "WEIGHTS", licence = "Apache-2.0" }
epochs = EPOCHS
batch = 64
[pretrain.branches.context]
objective = { name = "moco", queue = 512, temperature = 0.2, mask_same_cell = true, symmetric = false }
view = [
    { name = "color_jitter", brightness = 0.2, contrast = 0.2, saturation = 0.2, hue = 0.05 },
    "horizontal_flip",
    "vertical_flip",
    { name = "rotate", degrees = 180 },
    { name = "affine", degrees = 20, translate = [0.1, 0.1], shear = 10 },
    { name = "random_resized_crop", scale = [0.9, 1.1] },
]
[embed]
cells = "segment"
"""
OF_MECHANISMS = ('split.classes="mechanism"', 'embed.cells="split"', "embed.cells_per_well=1")
"""Settings that embed few other cells than those with a mechanism."""
LOWER, EARLY_FROZEN = "pretrain.learning_rate=0.0001", "pretrain.encoder.frozen_parts=4"
DEFAULT = "learning rate 0.001, the default"
FURTHER: dict[str, tuple[str, ...]] = {
    DEFAULT: (),
    "0.001, twice as long": (f"pretrain.epochs={2 * EPOCHS}",),
    "0.001, four of eight parts frozen": (EARLY_FROZEN,),
    "0.0001": (LOWER,),
    "0.0001, four of eight parts frozen": (LOWER, EARLY_FROZEN),
}
"""Title -> settings of a training that starts from the ImageNet weights, at 68 px."""


def algorithms() -> Algorithms:
    """Return what the numbers stand on."""
    plugins = of_plugins("cellssl.datasets", "crop_stack") | of_plugins(ENCODERS, "efficientnet_lite0")
    return of_stages("fetch", "segment", "split", "pretrain", "embed") | plugins


@dataclass(frozen=True)
class Predicted:
    """The predictions of one model for every cell with a mechanism, made from the cells of other plates."""

    truth: np.ndarray
    predicted: np.ndarray
    plate: np.ndarray

    @classmethod
    def of(cls, work: Workplace, *tables: Path) -> Predicted:
        """Predict from the vectors of one or several embed artifacts side by side, by the linear probe.

        The probe standardises every feature, so no model weighs more than another because its numbers are larger.
        """
        import numpy as np
        import pandas as pd

        from cellssl.profiling.classifiers import linear_probe

        read = [pd.read_parquet(table / "embeddings.parquet") for table in tables]
        read = [table[table["Metadata_mechanism"].fillna("") != ""].sort_values("Metadata_stack_row") for table in read]
        x = np.hstack([table.filter(regex="^emb_").to_numpy(np.float32) for table in read])
        truth, plate = (read[0][f"Metadata_{name}"].to_numpy(str) for name in ("mechanism", "Plate"))

        def predict() -> list[str]:
            predicted = np.empty_like(truth)
            for name in np.unique(plate):
                tested = plate == name
                predicted[tested] = linear_probe(x[~tested], truth[~tested], x[tested])
            return [str(label) for label in predicted]

        made = work.kept("-".join(["predicted", *(table.name for table in tables)]), predict)
        return cls(truth, np.array(made), plate)

    @cached_property
    def recalls(self) -> np.ndarray:
        """The recall of every class: of all plates first, then of each bootstrap sample of plates."""
        import numpy as np

        from cellssl.randomness import generator

        plates, plate = np.unique(self.plate, return_inverse=True)
        classes, number = np.unique(self.truth, return_inverse=True)
        cells, right = np.zeros((2, len(plates), len(classes)))
        np.add.at(cells, (plate, number), 1)
        np.add.at(right, (plate, number), self.truth == self.predicted)
        drawn = generator("plates").multinomial(len(plates), np.full(len(plates), 1 / len(plates)), DRAWS)
        times = np.vstack([np.ones(len(plates)), drawn])
        with np.errstate(invalid="ignore"):  # a sample may lack a class
            return np.asarray(times @ right / (times @ cells))

    def balanced(self) -> float:
        """Return the balanced accuracy."""
        return float(self.recalls[0].mean())


def difference(ours: Predicted, theirs: Predicted) -> str:
    """Return the difference of balanced accuracies, with its interval over plates; both have the same samples."""
    import numpy as np

    by_sample = np.nanmean(ours.recalls, axis=1) - np.nanmean(theirs.recalls, axis=1)
    low, high = np.quantile(by_sample[1:], [0.025, 0.975])
    return markdown.change(float(by_sample[0]), float(low), float(high))


def frozen(work: Workplace) -> str:
    """Return the table of the frozen network: sides of its input, ways for channels to enter, alone and beside
    `features`.
    """
    features = embedded(work, *OF_MECHANISMS, "embed.model=features")
    alone = Predicted.of(work, features)
    body = [["`features`", "", f"{alone.balanced():.2f}", "", ""]]
    for channels in ("together", "each"):
        for side in SIDES_PX:
            network = (f"pretrain.input_px={side}", f'pretrain.encoder.channels="{channels}"')
            made = embedded(work, *OF_MECHANISMS, "embed.model=imagenet", *network)
            both = Predicted.of(work, made, features)
            scores = [f"{Predicted.of(work, made).balanced():.2f}", f"{both.balanced():.2f}", difference(both, alone)]
            body.append([f'`channels = "{channels}"`', f"{side} px", *scores])
    return markdown.table(["vectors", "`input_px`", "alone", "beside `features`", "beside - `features`"], body)


def further(work: Workplace) -> str:
    """Return the table of trainings that start from ImageNet weights, against the frozen network of the same side."""
    features = embedded(work, "embed.model=features")
    start = embedded(work, "embed.model=imagenet", "pretrain.input_px=68")
    before, beside = Predicted.of(work, start), Predicted.of(work, start, features)
    body = [["not trained further", "", f"{before.balanced():.2f}", "", f"{beside.balanced():.2f}", ""]]
    for title, settings in FURTHER.items():
        made = embedded(work, *settings)
        alone, both = Predicted.of(work, made), Predicted.of(work, made, features)
        scores = (f"{alone.balanced():.2f}", difference(alone, before), f"{both.balanced():.2f}")
        body.append([title, f"{_minutes(work, made):.0f}", *scores, difference(both, beside)])
    header = ["MoCo from ImageNet weights, 68 px", "minutes of one core", "alone", "alone - frozen"]
    return markdown.table([*header, "beside `features`", "beside - frozen beside"], body)


def embedded(work: Workplace, *settings: str) -> Path:
    """Return the embed artifact of the recipe with some settings."""
    recipe = work.folder / "recipe.toml"
    if not recipe.is_file():
        write_stack(work.folder)
        recipe.write_text(RECIPE.replace("WEIGHTS", str(WEIGHTS)).replace("EPOCHS", str(EPOCHS)), encoding="utf-8")
    return work.cellssl("run", str(recipe), "--to", "embed", "--seed", "0", *sets(*settings))


def _minutes(work: Workplace, embed: Path) -> float:
    """Return the processor time of the training of an embed artifact."""
    model = json.loads((embed / "artifact.json").read_text(encoding="utf-8"))["inputs"]["pretrain"]
    card = work.store / "pretrain" / model / "artifact.json"
    return float(json.loads(card.read_text(encoding="utf-8"))["run"]["cpu_s"]) / 60


def write_stack(folder: Path) -> None:
    """Write all crops of the small set, and their table with the column `mechanism`.

    Only cells of at most 60 per compound have a mechanism there, in the order of their crop's number within the field:
    678 cells on 53 plates.
    """
    import numpy as np

    made = benchmark("real_crops")
    rows: list[dict[str, Any]] = made.read_rows(CROPS / "bbbc021_crops_small.csv")
    taken: dict[str, int] = {}
    for row in sorted(rows, key=lambda row: int(row["crop_index"])):
        compound = row["compound"]
        chosen = row["moa"] not in ("", "DMSO") and taken.get(compound, 0) < MOST_OF_A_COMPOUND
        taken[compound] = taken.get(compound, 0) + chosen
        row["mechanism"] = row["moa"] if chosen else ""
    made.write_rows(folder / "stack.csv", rows)
    with np.load(CROPS / "bbbc021_crops_small.npz") as arrays:
        np.save(folder / "stack.npy", arrays["images_div16"] << 4)
