"""objectives: prints for each objective the accuracy of a small encoder, trained and untrained, and its cost.

    nice python benchmarks/objectives.py --out /tmp/objectives [--only simclr vicreg] [--epochs 8] [--seeds 0 1 2]

Simulated cells of eight phenotypes in equal numbers; two thirds are the training cells, of the encoder and of the
classifier, one third are the test cells. The score is the fraction of test cells whose phenotype is predicted correctly
by their 20 nearest training cells (z-scored representations). All objectives get the same number of epochs; the
settings were chosen once for each family, before anything was run, and are those below. An objective counts as having
learned if it beats the untrained encoder of the same seed in every seed; otherwise it is listed as "not at this
budget". Results are kept in --out, so that the same command continues where it was stopped.
Memory: the size of a checkpoint, and what one step keeps for its backward pass.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

CROP_PX, INPUT_PX, CELLS_PER_CLASS, NEIGHBOURS, BATCH = 48, 32, 150, 20, 64
DRUGS = ("sim-nocodazole", "sim-taxol", "sim-cytochalasin")
PHENOTYPES = (
    "normal", "mitotic_arrest", "multinucleate", "micronucleate",
    "bundled_tubulin", "depolymerised_tubulin", "actin_clumps", "shrunken",
)  # fmt: skip
CONVOLUTIONS = {"name": "small", "widths": (16, 32, 64, 128)}
PATCHES = {"name": "vit", "patch_px": 4, "dim": 64, "depth": 2, "heads": 4}
UPRIGHT = (
    "horizontal_flip",
    {"name": "channel_jitter", "brightness": 0.2, "contrast": 0.2},
    {"name": "random_resized_crop", "scale": (0.6, 1.0)},
)
VIEW = ({"name": "rotate", "degrees": 180}, *UPRIGHT)
# Settings that the members of a family share.
ALL_PAIRS = {"hidden_dim": 128, "dim": 64, "temperature": 0.2}
QUEUED = {**ALL_PAIRS, "queue": 512, "momentum": 0.99}
SIAMESE = {"hidden_dim": 256, "dim": 64}
WIDE = {"hidden_dim": 256, "dim": 256}
PROTOTYPES = {"hidden_dim": 256, "dim": 64, "local_crops": 2}
ROWS: dict[str, dict[str, Any]] = {
    "moco": {"name": "moco", **QUEUED},
    "simclr": {"name": "simclr", **ALL_PAIRS},
    "supcon": {"name": "supcon", **ALL_PAIRS, "label": "compound"},
    "dose_aware": {"name": "dose_aware", **ALL_PAIRS},
    "nnclr": {"name": "nnclr", **SIAMESE, "predictor_dim": 256, "queue": 512, "temperature": 0.2},
    "byol": {"name": "byol", **SIAMESE, "momentum": 0.99},
    "nnbyol": {"name": "nnbyol", **SIAMESE, "momentum": 0.99, "queue": 512},
    "simsiam": {"name": "simsiam", **WIDE, "predictor_dim": 64},
    "ressl": {"name": "ressl", **SIAMESE, "momentum": 0.99, "queue": 512},
    "barlow_twins": {"name": "barlow_twins", **WIDE},
    "vicreg": {"name": "vicreg", **WIDE},
    "vibcreg": {"name": "vibcreg", **WIDE},
    "swav": {"name": "swav", **PROTOTYPES, "prototypes": 64, "queue": 512},
    "deepcluster_v2": {"name": "deepcluster_v2", **PROTOTYPES, "prototypes": 64},
    "dino": {"name": "dino", **PROTOTYPES, "prototypes": 256, "momentum": 0.99},
    "looc": {"name": "looc", **QUEUED, "sensitive_to": ("channel_jitter",)},
    "rotation": {"name": "rotation", "hidden_dim": 128},
    "rotation, relative": {"name": "rotation", "hidden_dim": 128, "relative": True},
    "denoising": {"name": "denoising"},
    "mae": {"name": "mae"},
    # options of the InfoNCE family
    "moco, ifm": {"name": "moco", **QUEUED, "ifm_epsilon": 0.1},
    "simclr, decoupled": {"name": "simclr", **ALL_PAIRS, "decoupled": True},
    "simclr, margin": {"name": "simclr", **ALL_PAIRS, "margin": 0.5},
    "simclr, debiased": {"name": "simclr", **ALL_PAIRS, "class_prior": 0.1},
    "simclr, hard": {"name": "simclr", **ALL_PAIRS, "class_prior": 0.1, "hardness": 0.5},
}

UNTRAINED: dict[tuple[str, int], float] = {}
"""Accuracy before training, by encoder and seed: the same for every row."""


class Cells:
    """Crops in memory, with the methods and attributes of crops that a training uses."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.shape = pixels, pixels.shape
        self.channels = [f"stain{channel}" for channel in range(pixels.shape[1])]

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the pixels of some cells."""
        return self.pixels[rows]

    def blocks(self, size: int = 256) -> Iterator[np.ndarray]:
        """Yield all pixels in order, in blocks."""
        for start in range(0, len(self), size):
            yield self.pixels[start : start + size]


def main() -> None:
    """Run every requested row and seed, then print the table of all results."""
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    import torch

    torch.set_num_threads(1)
    cells = load_or_simulate(arguments.out / "cells.npz")
    for seed in arguments.seeds:
        for row in arguments.only or ROWS:
            kept = arguments.out / f"{row.replace(', ', '-')}-{seed}-{arguments.epochs}.json"
            if not kept.is_file():
                result = measure(cells, ROWS[row], seed, arguments.epochs)
                kept.write_text(json.dumps({"row": row, "seed": seed, **result}), encoding="utf-8")
                print(
                    f"{row:22} seed {seed}: {result['accuracy']:.3f}, untrained {result['untrained']:.3f}", flush=True
                )
    show(
        [json.loads(path.read_text()) for path in sorted(arguments.out.glob(f"*-{arguments.epochs}.json"))],
        arguments.epochs,
    )


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("objectives"))
    parser.add_argument("--only", nargs="+", choices=tuple(ROWS))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args()


def load_or_simulate(path: Path) -> dict[str, np.ndarray]:
    """Return crops, phenotype, compound and dose of 150 cells of each phenotype; simulated once and then read."""
    if not path.is_file():
        np.savez(path, **balanced(simulate_plate()))
    with np.load(path) as arrays:
        return dict(arrays)


def simulate_plate() -> dict[str, np.ndarray]:
    """Return all cells of one plate: three compounds at their four highest doses, and controls."""
    from cellssl.datasets.simulation.compounds import COMPOUNDS
    from cellssl.datasets.simulation.scene import Scene, render
    from cellssl.imaging.cropping import crop

    parameters = {"cells_per_field": 195.0, "density_spread": 0.35, "brightness_spread": 0.3, "effect_max": 0.85}
    wells = [(name, dose) for name in DRUGS for dose in COMPOUNDS[name].doses_micromolar[-4:]] + [("DMSO", 0.0)] * 2
    columns: dict[str, list[Any]] = {"pixels": [], "phenotype": [], "compound": [], "dose_micromolar": []}
    for number, (compound, dose) in enumerate(wells * 3):
        treated = None if compound == "DMSO" else compound
        field = render(Scene(0, "P1", f"W{number}", f"F{number}", treated, dose, 1024, 1280, **parameters))
        centres = np.stack([field.truth.row_px, field.truth.column_px], axis=1)
        columns["pixels"].append(crop(np.stack(list(field.images.values())), centres, CROP_PX))
        columns["phenotype"].append(field.truth.phenotype)
        columns["compound"].append([compound] * len(centres))
        columns["dose_micromolar"].append([dose] * len(centres))
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def balanced(cells: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return equal numbers of each phenotype in random order, scaled to 8 bits by the limits of the plate."""
    from cellssl.imaging.scaling import scaled
    from cellssl.randomness import generator

    rng = generator("benchmark", "objectives")
    order = rng.permutation(len(cells["phenotype"]))
    chosen = [order[cells["phenotype"][order] == name][:CELLS_PER_CLASS] for name in PHENOTYPES]
    rows = rng.permutation(np.concatenate(chosen))
    low, high = np.percentile(cells["pixels"], (0.1, 99.9), axis=(0, 2, 3))
    return {
        name: values[rows] if name != "pixels" else scaled(values[rows], low, high) for name, values in cells.items()
    }


def measure(cells: dict[str, np.ndarray], objective: dict[str, Any], seed: int, epochs: int) -> dict[str, Any]:
    """Train once; return accuracy before and after, time per step, and memory."""
    encoder = PATCHES if objective["name"] == "mae" else CONVOLUTIONS
    view = UPRIGHT if objective == ROWS["rotation"] else VIEW
    train = np.arange(len(cells["pixels"])) % 3 > 0
    branch = {"view": view, "objective": objective}
    state, plan = prepare_training(cells, train, branch, encoder, seed, epochs)
    start = (encoder["name"], seed)
    before = UNTRAINED[start] if start in UNTRAINED else accuracy(state.encoder, cells, train)
    UNTRAINED[start] = before
    backward_mb = saved_mb(state, plan)
    state, plan = prepare_training(cells, train, branch, encoder, seed, epochs)
    seconds = train_to_end(state, plan)
    return {
        "untrained": before,
        "accuracy": accuracy(state.encoder, cells, train),
        "step_ms": 1000 * seconds,
        "state_mb": state_mb(state),
        "backward_mb": backward_mb,
    }


def prepare_training(
    cells: dict[str, np.ndarray],
    train: np.ndarray,
    branch: dict[str, Any],
    encoder: dict[str, Any],
    seed: int,
    epochs: int,
    batch: int = BATCH,
) -> tuple[Any, Any]:
    """Return state and plan at step 0, as the stage prepares them."""
    import torch

    from cellssl.learning.training.cell_metadata import CellMetadata
    from cellssl.stages.pretrain.networks import keys_of, prepare
    from cellssl.stages.pretrain.settings import Settings

    given = {"encoder": encoder, "branches": {"main": branch}, "epochs": epochs, "batch": batch, "input_px": INPUT_PX}
    settings = Settings.model_validate(given | {"precision": "float32"})
    ids = [f"cell {row}" for row in np.flatnonzero(train)]
    columns = {name: [_plain(value) for value in cells[name][train]] for name in settings.metadata_columns()}
    crops: Any = Cells(cells["pixels"][train])
    metadata = CellMetadata.from_columns(keys_of(ids), columns)
    return prepare(settings, crops, ids, seed, torch.device("cpu"), metadata=metadata)


def _plain(value: Any) -> object:
    return float(value) if isinstance(value, np.floating) else str(value)


def train_to_end(state: Any, plan: Any) -> float:
    """Train to the end; return the median CPU time of this process per step, which other processes do not affect."""
    from cellssl.learning.training.loop import train

    seconds, began_s = [], time.process_time()
    for _ in train(state, plan):
        seconds.append(time.process_time() - began_s)
        began_s = time.process_time()
    return float(np.median(seconds))


def saved_mb(state: Any, plan: Any) -> float:
    """Return the size in MB of what one step keeps until its backward pass."""
    import torch

    from cellssl.learning.training.loop import compute_gradients

    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    rows = plan.batches.rows(0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        compute_gradients(state, plan, plan.read(rows), plan.cell_keys[torch.from_numpy(rows)])
    return sum(kept.values()) / 1e6


def state_mb(state: Any) -> float:
    """Return the size in MB of a checkpoint."""
    tensors = [*state.encoder.state_dict().values(), *state.momentum_encoder.state_dict().values()]
    tensors += state.objectives.state_dict().values()
    tensors += [value for one in state.optimizer.state_dict()["state"].values() for value in one.values()]
    return float(sum(tensor.nbytes for tensor in tensors)) / 1e6


def represent(encoder: Any, pixels: np.ndarray) -> np.ndarray:
    """Return the representation of every cell; the encoder is not changed."""
    import copy

    import torch

    from cellssl.learning.embed import embed

    frozen = copy.deepcopy(encoder)
    return np.concatenate(list(embed(frozen, Cells(pixels).blocks(), INPUT_PX, torch.device("cpu"))))


def accuracy(encoder: Any, cells: dict[str, np.ndarray], train: np.ndarray) -> float:
    """Return the fraction of test cells whose phenotype their nearest neighbours predict correctly."""
    from cellssl.profiling.chain import fit_chain
    from cellssl.profiling.classifiers import knn
    from cellssl.profiling.normaliser import chain

    vectors, names = represent(encoder, cells["pixels"]), cells["phenotype"]
    plates = ["one"] * len(vectors)
    _, vectors = fit_chain(chain("zscore"), vectors, train, plates, np.zeros(len(vectors), bool), None)
    predicted = knn(vectors[train], list(names[train]), vectors[~train], list(names[~train]), k=NEIGHBOURS)
    return float(np.mean(np.array(predicted, dtype=object) == names[~train]))


def show(runs: list[dict[str, Any]], epochs: int) -> None:
    """Print one line per row, best first; rows that do not beat the untrained encoder in every seed come last."""
    print(
        f"\n{epochs} epochs, batches of {BATCH}; chance {1 / len(PHENOTYPES):.3f}; kNN accuracy on phenotype, by seed"
    )
    rows = {name: [run for run in runs if run["row"] == name] for name in ROWS}
    wins = {name: sum(run["accuracy"] > run["untrained"] for run in own) for name, own in rows.items()}
    order = sorted((name for name in rows if rows[name]), key=lambda name: _rank(rows[name], wins[name]))
    print(f"{'objective':22}{'accuracy':>9}  {'by seed':22}{'untrained':>10}{'above in':>10}{'ms/step':>9}{'MB':>14}")
    for name in order:
        own = sorted(rows[name], key=lambda run: run["seed"])
        each = " ".join(f"{run['accuracy']:.3f}" for run in own)
        untrained = np.mean([run["untrained"] for run in own])
        cost = (
            f"{np.median([run['step_ms'] for run in own]):9.0f}{own[0]['state_mb']:6.1f} +{own[0]['backward_mb']:6.1f}"
        )
        remark = "" if wins[name] == len(own) else "  not at this budget"
        mean = np.mean([run["accuracy"] for run in own])
        print(f"{name:22}{mean:9.3f}  {each:22}{untrained:10.3f}{wins[name]:>7} of {len(own)}{cost}{remark}")


def _rank(own: list[dict[str, Any]], wins: int) -> tuple[bool, float]:
    return wins < len(own), -float(np.mean([run["accuracy"] for run in own]))


if __name__ == "__main__":
    main()
