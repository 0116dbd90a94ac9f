"""few_controls: real crops of two plates -> how much an accuracy varies with the few control cells that set the scale.

    python benchmarks/few_controls.py ../shared/data/crops --out /tmp/few-controls

A network is trained without labels on one plate, and the other plate is tested, both ways. The intensity scale of the
tested plate is set by 65 of its control cells, drawn 32 times, once from the cells themselves and once from the
percentiles of their pixels, as before. Printed are mean, standard deviation and the worst draw of the balanced accuracy
of kNN and of the linear probe, without normalisation and after the default chain, and how many times as much the
accuracy varies with the scale of pixels.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import real_crops

from cellssl.artifacts.store import Store
from cellssl.imaging.cell_brightness import brightness_in_crops
from cellssl.imaging.scaling import Histogram, Limits, limits_of_cells, scaled, with_darkest_surrounds
from cellssl.profiling.accuracy import accuracy
from cellssl.profiling.chain import fit_chain, is_per_plate
from cellssl.profiling.classifiers import knn, linear_probe
from cellssl.profiling.frames import cross_fitted
from cellssl.randomness import generator
from cellssl.stages.embed.settings import Settings as EmbedSettings
from cellssl.stages.evaluate.settings import Settings as EvaluateSettings
from cellssl.stages.segment.settings import Scale

ScaleOf = Literal["cells", "pixels"]
SCALES: tuple[ScaleOf, ...] = ("cells", "pixels")
BATCH = 128
"""Crops that the network sees at a time."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Plates:
    """The crops of all plates, (n, c, y, x), and what is known of each."""

    crops: np.ndarray
    plate: np.ndarray
    is_control: np.ndarray

    def of(self, plate: str) -> Plates:
        """Return the cells of one plate."""
        here = self.plate == plate
        return Plates(self.crops[here], self.plate[here], self.is_control[here])


def main() -> None:
    """Train both ways under both scales, draw controls, and print the accuracies."""
    arguments = parsed()
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    rows = measured(arguments.crops, out, arguments.controls, arguments.draws, arguments.seed)
    show(rows)


def parsed() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", type=Path, help="folder with bbbc021_crops_2plates.npz and its csv")
    parser.add_argument("--out", type=Path, default=Path("few-controls"))
    parser.add_argument("--controls", type=int, default=65, help="control cells that set the scale")
    parser.add_argument("--draws", type=int, default=32, help="how often they are drawn")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training")
    return parser.parse_args()


def measured(crops: Path, out: Path, controls: int, draws: int, seed: int) -> list[Row]:
    """Return one row per scale, test plate, chain and draw."""
    names = real_crops.write_stack(crops, out)
    plates = read_plates(out)
    rows = []
    for of in SCALES:
        for test_plate in names:
            network, side_px = trained(out, of, test_plate, seed)
            rows += list(drawn(plates, of, test_plate, network, side_px, controls, draws))
    return rows


def read_plates(out: Path) -> Plates:
    """Return the cells of the stack."""
    table = real_crops.read_rows(out / "stack.csv")
    crops = np.load(out / "stack.npy").transpose(0, 3, 1, 2)
    compounds = np.array([row["compound"] for row in table])
    return Plates(np.ascontiguousarray(crops), np.array([row["plate"] for row in table]), compounds == "DMSO")


def trained(out: Path, of: ScaleOf, test_plate: str, seed: int) -> tuple[Any, int]:
    """Train the arm `context` on the other plates; return its network and the side of its input in pixels."""
    from cellssl.stages.embed.models import load_network
    from cellssl.stages.shared.card_shapes import pretrain_metrics

    recipe = out / "recipe.toml"
    recipe.write_text(real_crops.RECIPE.read_text(encoding="utf-8"), encoding="utf-8")
    chosen = [f"segment.scale.of={of}", f'split.test_plates=["{test_plate}"]', f"name=few-controls-{of}-{test_plate}"]
    flags = [word for assignment in chosen for word in ("--set", assignment)]
    model = real_crops.cellssl(
        out, "run", str(recipe), "--to", "pretrain", "--arm", "context", "--seed", str(seed), *flags
    )
    card = json.loads((model / "artifact.json").read_text(encoding="utf-8"))
    artifact = Store(out / "store").get("pretrain", card["fingerprint"])
    return load_network(artifact, EmbedSettings()), pretrain_metrics(artifact).input_px


def drawn(
    plates: Plates, of: ScaleOf, test_plate: str, network: Any, side_px: int, controls: int, draws: int
) -> Iterator[Row]:
    """Yield the accuracies of every draw of the control cells that set the scale of the test plate."""
    (train_plate,) = set(plates.plate) - {test_plate}
    train, test = plates.of(train_plate), plates.of(test_plate)
    known = embedded(network, side_px, train, limits(of, train.crops[train.is_control]))
    candidates = np.flatnonzero(test.is_control)
    for draw in range(draws):
        chosen = generator("few controls", test_plate, draw).choice(candidates, controls, replace=False)
        vectors = np.concatenate([known, embedded(network, side_px, test, limits(of, test.crops[chosen]))])
        for chain, links in (("none", ()), ("default", EvaluateSettings().normalise)):
            yield {
                "scale": of,
                "plate": test_plate,
                "chain": chain,
                "draw": draw,
                **accuracies(vectors, links, train, test),
            }


def limits(of: ScaleOf, crops: np.ndarray) -> Limits:
    """Return black and white that these crops set, as the stage `segment` does by default, or as it did before."""
    scale = Scale(of=of)
    if of == "cells":
        one_field = np.zeros(len(crops), np.int64)
        return limits_of_cells(with_darkest_surrounds(brightness_in_crops(crops), one_field), scale.headroom)
    histogram = Histogram.empty(crops.shape[1])
    histogram.add(crops.swapaxes(0, 1).reshape(crops.shape[1], -1, crops.shape[3]))
    low, high = (histogram.percentile(percent) for percent in (scale.low_percentile, scale.high_percentile))
    return Limits(low.astype(np.float64), high.astype(np.float64))


def embedded(network: Any, side_px: int, cells: Plates, found: Limits) -> np.ndarray:
    """Return the vectors of the cells of a plate under a scale."""
    import torch

    from cellssl.learning.embed import EmbeddingViews, embed

    crops = torch.from_numpy(scaled(cells.crops, found.low, found.high))
    starts = range(0, len(crops), BATCH)
    batches = ((np.arange(start, min(start + BATCH, len(crops))), crops[start : start + BATCH]) for start in starts)
    return np.concatenate(list(embed(network, batches, EmbeddingViews(side_px), torch.device("cpu"))))


def accuracies(vectors: np.ndarray, links: Any, train: Plates, test: Plates) -> dict[str, float]:
    """Return the balanced accuracies of both classifiers; no control is normalised by what it fitted."""
    is_control = np.concatenate([train.is_control, test.is_control])
    plate = np.concatenate([train.plate, test.plate])
    is_train = np.arange(len(vectors)) < len(train.crops)
    frames = cross_fitted(plate, None, is_control) if is_per_plate(links) else None
    _, normal = fit_chain(links, vectors, is_train, plate, is_control, frames)
    labels = np.where(is_control, "control", "treated").astype(object)
    known, truth, new = (normal[is_train], labels[is_train]), labels[~is_train], normal[~is_train]
    predicted = {"knn": knn(*known, new, k=EvaluateSettings().neighbours), "linear": linear_probe(*known, new)}
    return {name: accuracy(truth, labels_of).balanced for name, labels_of in predicted.items()}


def summary(rows: list[Row], scale: str, plate: str, chain: str, name: str) -> tuple[float, float, float]:
    """Return mean, standard deviation and lowest accuracy over draws."""
    chosen = [row[name] for row in rows if (row["scale"], row["plate"], row["chain"]) == (scale, plate, chain)]
    return float(np.mean(chosen)), float(np.std(chosen, ddof=1)), min(chosen)


def show(rows: list[Row]) -> None:
    """Print a line per scale, plate, chain and classifier, then the ratios."""
    plates = sorted({row["plate"] for row in rows})
    print(f"{'scale of':10}{'tested on':14}{'chain':10}{'classifier':12}{'mean':>8}{'sd':>8}{'worst':>8}")
    for plate in plates:
        for chain in ("none", "default"):
            for name in ("knn", "linear"):
                found = {scale: summary(rows, scale, plate, chain, name) for scale in SCALES}
                for scale, (mean, sd, worst) in found.items():
                    print(f"{scale:10}{plate:14}{chain:10}{name:12}{mean:8.3f}{sd:8.3f}{worst:8.3f}")
                print(f"{'':46}pixels vary {found['pixels'][1] / found['cells'][1]:.1f} times as much as cells")


if __name__ == "__main__":
    main()
