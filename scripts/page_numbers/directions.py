"""directions: crops of three real plates in; scores of blocks side by side on plates that no network saw, out.

Every network is trained on one plate and tested on another one, both ways, or trained on two and tested on the third.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts import embeddings
from cellssl.profiling import kmeans
from cellssl.profiling.accuracy import accuracy
from cellssl.profiling.blocks import Block, Blocks
from cellssl.profiling.chain import fit_chain
from cellssl.profiling.classifiers import knn, linear_probe
from cellssl.profiling.frames import cross_fitted
from cellssl.stages.cluster.settings import Settings as ClusterSettings
from cellssl.stages.evaluate.settings import Settings as EvaluateSettings
from page_numbers import markdown, real_cells
from page_numbers.workplace import Row, Workplace, benchmark, seeds_of, sets

if TYPE_CHECKING:
    import pandas as pd

SEEDS, SEEDS_OF_THIRD = (0, 1, 2), (0,)
"""Training seeds; on the third plate one, as training on two plates takes longest."""
ARMS = ("context", "centre", "features")
WEIGHTS = (0.25, 0.5, 1.0, 2.0)
"""Weights of `features` beside `context` and `centre`."""
WEIGHED = "context, centre, features x "
ROWS: Mapping[str, Mapping[str, float]] = {
    **{arm: {arm: 1.0} for arm in ARMS},
    "context, centre": {"context": 1.0, "centre": 1.0},
    "context, features": {"context": 1.0, "features": 1.0},
    **{f"{WEIGHED}{weight:g}": {"context": 1.0, "centre": 1.0, "features": weight} for weight in WEIGHTS},
}
"""Title of a row -> block -> weight."""
SCORES = ("ami", "knn", "linear")
Directions = Sequence[list[Row]]
"""The scores of every row and seed, direction by direction."""


@dataclass(frozen=True)
class Cells:
    """The cells of one direction and seed, with the vectors of every arm."""

    described: pd.DataFrame
    vectors: Mapping[str, np.ndarray]

    def part(self, name: str) -> np.ndarray:
        """Return which cells are in a part of the split."""
        return np.asarray(self.described["Metadata_split"].fillna("") == name)

    def normalised(self, weights: Mapping[str, float], links: Any, reference: np.ndarray) -> tuple[np.ndarray, Blocks]:
        """Return the joined vectors after a chain that is fitted on the reference rows, and their blocks.

        The location of a plate is that of its controls, of which none is normalised by itself.
        """
        blocks = tuple(Block(name, self.vectors[name].shape[1], weight) for name, weight in weights.items())
        blocks = blocks if len(blocks) > 1 else ()
        plates, wells = (self.described[f"Metadata_{name}"].to_numpy(object) for name in ("Plate", "Well"))
        is_control = self.described["Metadata_control"].to_numpy(bool)
        x = np.hstack([self.vectors[name] for name in weights]).astype(np.float64)
        frames = cross_fitted(plates, wells, is_control)
        fitted, normal = fit_chain(links, x, reference, plates, is_control, frames, blocks=blocks)
        return normal, fitted.blocks_out


def table(work: Workplace) -> str:
    """Return AMI, kNN and linear accuracy of every row, the mean over the three directions, and AMI on each plate."""
    plates, found = _directions(work)
    body = [[_title(row), *_cells_of(found, [row] * len(found))] for row in ROWS]
    chosen = [_best_elsewhere(found, place) for place in range(len(found))]
    body.append(["`context`, `centre`, `features`, the weight by the two other directions", *_cells_of(found, chosen)])
    note = (
        f"The mean over the three directions, each the mean over seeds ({len(SEEDS)}; on the third plate, the last, "
        f"{len(SEEDS_OF_THIRD)}). In the last row, the weight of `features` is the one of the four that has the best "
        "AMI in the two other directions."
    )
    header = ["blocks", "AMI", "kNN", "linear probe", *(f"AMI, {plate}" for plate in plates)]
    return "\n\n".join([markdown.table(header, body), markdown.paragraph(note)])


def _title(row: str) -> str:
    names, _, weight = row.partition(" x ")
    written = ", ".join(f"`{name}`" for name in names.split(", "))
    return f"{written} of weight {weight}" if weight and float(weight) != 1 else written


def _cells_of(found: Directions, rows: Sequence[str]) -> list[str]:
    """Return the scores of one row of the table, which may be another row in every direction."""
    of_plates = {
        name: [fmean(seeds_of(scores, row, name)) for scores, row in zip(found, rows, strict=True)] for name in SCORES
    }
    return [*(f"{fmean(each):.3f}" for each in of_plates.values()), *(f"{ami:.2f}" for ami in of_plates["ami"])]


def _best_elsewhere(found: Directions, place: int) -> str:
    """Return the row whose weight of `features` has the highest AMI in the other directions."""
    others = [scores for number, scores in enumerate(found) if number != place]
    candidates = [row for row in ROWS if row.startswith(WEIGHED)]
    return max(candidates, key=lambda row: sum(fmean(seeds_of(scores, row, "ami")) for scores in others))


def _directions(work: Workplace) -> tuple[list[str], Directions]:
    """Return the tested plates, and the scores of every row and seed on each."""
    two, three = work.folder / "two", work.folder / "three"
    for folder in (two, three):
        folder.mkdir(exist_ok=True)
    plates = benchmark("real_crops").write_stack(real_cells.CROPS, two)
    real_cells.write_three_plates(three)
    tested = [*((two, plate, SEEDS) for plate in plates), (three, real_cells.THIRD_PLATE, SEEDS_OF_THIRD)]
    found = [
        [
            row
            for seed in seeds
            for row in work.kept(f"{plate}-{seed}", lambda: list(scored(_cells(work, folder, plate, seed), seed)))  # noqa: B023
        ]
        for folder, plate, seeds in tested
    ]
    return [plate for _, plate, _ in tested], found


def _cells(work: Workplace, folder: Path, test_plate: str, seed: int) -> Cells:
    """Return the cells of one direction with the vectors of every arm, after trainings that are missing."""
    recipe = folder / "recipe.toml"
    recipe.write_text(_recipe(), encoding="utf-8")
    chosen = sets(f"name=directions-{test_plate}", f'split.test_plates=["{test_plate}"]', f"seeds=[{seed}]")
    vectors = {}
    for arm in ARMS:
        made = work.cellssl("run", str(recipe), "--to", "embed", "--arm", arm, "--seed", str(seed), *chosen)
        described, x = embeddings.read(made / "embeddings.parquet")
        order = np.argsort(described["Metadata_cell_id"].to_numpy(str), kind="stable")
        vectors[arm] = x[order]
    return Cells(described.iloc[order].reset_index(drop=True), vectors)


def _recipe() -> str:
    """Return the recipe of benchmarks/real_crops.py with the arm `features`."""
    return real_cells.RECIPE.read_text(encoding="utf-8") + '\n[arm.features.embed]\nmodel = "features"\n'


def scored(cells: Cells, seed: int) -> Iterator[Row]:
    """Yield AMI of two clusters of the tested plate, and accuracies of classifiers trained on the other plates."""
    from sklearn.metrics import adjusted_mutual_info_score

    test, train = cells.part("test"), cells.part("train")
    label = cells.described["Metadata_label"].fillna("").to_numpy(object)
    for title, weights in ROWS.items():
        x, _ = cells.normalised(weights, ClusterSettings().normalise, test)
        clusters = kmeans.fit(x[test], 2, seed=seed).assignment
        x, blocks = cells.normalised(weights, EvaluateSettings().normalise, train)
        known = (x[train], label[train].tolist(), x[test])
        predicted = {
            "knn": knn(*known, k=EvaluateSettings().neighbours),
            "linear": linear_probe(*known, blocks=blocks),
        }
        accuracies = {name: accuracy(label[test], each).balanced for name, each in predicted.items()}
        ami = float(adjusted_mutual_info_score(label[test], clusters))
        yield {"arm": title, "seed": seed, "ami": ami, **accuracies}
