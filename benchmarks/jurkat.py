"""jurkat: real Jurkat cells from imaging flow cytometry -> how well each arm tells the phases of the cell cycle apart.

    python benchmarks/jurkat.py ../shared/data --out /tmp/jurkat

Networks are trained on all 2,221 cells without labels, with the settings of jurkat.toml. Then the labelled cells are
divided into halves 20 times. One half chooses the chain of normalisers and the weight of the block `features`, and
trains the linear probe; the other half is scored: balanced accuracy and macro F1 of the probe, and the agreement of
five clusters of K-Means with the phases (AMI). Metaphase, anaphase and telophase are one class, with 73 cells.
Limitation: this is one experiment, so nothing can be learned from it about plates. A chain without controls is used.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import real_crops

from cellssl.artifacts import embeddings
from cellssl.profiling import kmeans
from cellssl.profiling.accuracy import accuracy
from cellssl.profiling.blocks import Block, Blocks
from cellssl.profiling.chain import fit_chain
from cellssl.profiling.classifiers import linear_probe
from cellssl.profiling.normaliser import chain
from cellssl.randomness import generator

RECIPE = Path(__file__).with_name("jurkat.toml")
LATE = {"Metaphase", "Anaphase", "Telophase"}
TRAINED = ("random", "context", "centre", "sum", "steady")
"""Arms that differ from seed to seed."""
FIXED = ("intensities", "features", "lite0")
ROWS: tuple[tuple[str, ...], ...] = (
    *((arm,) for arm in ("intensities", "random", "features", "lite0", "context", "centre", "sum", "steady")),
    ("context", "features"),
    ("sum", "features"),
    ("steady", "features"),
    ("lite0", "features"),
)
PROBE_CHAINS: tuple[tuple[str, ...], ...] = (("zscore",), ("zscore", "l2"))
CLUSTER_CHAINS: tuple[tuple[str, ...], ...] = (("zscore", "l2"), ("zscore",), ("l2",), ())
WEIGHTS = (0.5, 2.0)
"""Weights of `features` that are tried beside 1."""
HALVES, CLUSTERS, N_INIT = 20, 5, 5
SCORES = ("balanced", "f1", "ami")
Row = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """What one half of the cells chooses."""

    links: tuple[str, ...]
    weight: float = 1.0
    """Weight of the block `features`."""


@dataclass(frozen=True)
class Vectors:
    """The vectors of one or several blocks, and the class of every cell."""

    x: np.ndarray
    blocks: tuple[tuple[str, int], ...]
    """Name and number of columns of every block."""
    label: np.ndarray

    def normalised(self, choice: Choice, reference: np.ndarray) -> tuple[np.ndarray, Blocks]:
        """Return the vectors after a chain that is fitted on the reference rows, and their blocks."""
        blocks = tuple(Block(name, dim, choice.weight if name == "features" else 1.0) for name, dim in self.blocks)
        blocks = blocks if len(blocks) > 1 else ()
        one_plate, controls = ["plate"] * len(self.x), np.zeros(len(self.x), bool)
        fitted, x = fit_chain(chain(*choice.links), self.x, reference, one_plate, controls, None, blocks=blocks)
        return x, fitted.blocks_out

    def weights(self) -> tuple[float, ...]:
        """Return the weights of `features` beside 1 that make a difference."""
        return WEIGHTS if len(self.blocks) > 1 and "features" in dict(self.blocks) else ()


def main() -> None:
    """Train, score every half, and print the table."""
    arguments = parsed()
    started = time.monotonic()
    rows = measured(arguments.data, arguments.out.absolute(), arguments.seeds)
    show(rows)
    print(f"{(time.monotonic() - started) / 60:.1f} minutes in all")


def parsed() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with crops/jurkat_cellcycle.npz and the weights of Lite0")
    parser.add_argument("--out", type=Path, default=Path("jurkat"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    return parser.parse_args()


def measured(data: Path, out: Path, seeds: Sequence[int], store: Path | None = None) -> list[Row]:
    """Return one row per set of blocks, seed and half; trainings are in `store`, by default in a folder of `out`."""
    out.mkdir(parents=True, exist_ok=True)
    write_stack(data, out)
    rows = []
    for seed in seeds:
        arms = {arm: _embedded(out, arm, seed, store or out / "store") for arm in (*TRAINED, *FIXED)}
        for blocks in ROWS:
            if seed == seeds[0] or set(blocks) & set(TRAINED):
                rows += _kept(out, blocks, seed, arms)
    return rows


def write_stack(data: Path, out: Path) -> None:
    """Write the crops and their classes, the published weights with timm's names, and the recipe."""
    import timm
    import torch

    with np.load(data / "crops" / "jurkat_cellcycle.npz") as arrays:
        np.save(out / "stack.npy", arrays["images"])
    rows = real_crops.read_rows(data / "crops" / "jurkat_cellcycle.csv")
    with (out / "stack.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["cell", "phase"])
        writer.writerows((f"cell-{number:04d}", row["phase"]) for number, row in enumerate(rows))
    tensors = torch.load(data / "weights" / "efficientnet-lite0-57934424.pth", weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()  # the file has them in timm's order
    torch.save(dict(zip(names, tensors.values(), strict=True)), out / "lite0.pth")
    shutil.copy(RECIPE, out / "recipe.toml")


def _embedded(out: Path, arm: str, seed: int, store: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the class and the vector of every cell, in the order of the cells' names."""
    flags = ("--to", "embed", "--arm", arm, "--seed", str(seed))
    made = real_crops.cellssl(store.parent, "run", str(out / "recipe.toml"), *flags)
    described, x = embeddings.read(made / "embeddings.parquet")
    order = np.argsort(described["Metadata_cell_id"].to_numpy(str), kind="stable")
    phases = described["Metadata_phase"].to_numpy(str)[order]
    return np.where(np.isin(phases, list(LATE)), "Metaphase to telophase", phases), x[order].astype(np.float64)


def _kept(
    out: Path, blocks: tuple[str, ...], seed: int, arms: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> list[Row]:
    """Return the scores of all halves, from a file where they are known."""
    file = out / f"scores-{'-'.join(blocks)}-{seed}.json"
    if not file.is_file():
        x = np.hstack([arms[name][1] for name in blocks])
        vectors = Vectors(x, tuple((name, arms[name][1].shape[1]) for name in blocks), arms[blocks[0]][0])
        rows = [{"blocks": ", ".join(blocks), "seed": seed, **one} for one in scores_of_halves(vectors)]
        file.write_text(json.dumps(rows), encoding="utf-8")
    found: list[Row] = json.loads(file.read_text(encoding="utf-8"))
    return found


def scores_of_halves(vectors: Vectors) -> Iterator[Row]:
    """Yield what was chosen on each half, how well it did there, and how well on the other half."""
    for number in range(HALVES):
        chosen_on, scored_on = half(vectors.label, number)
        inner, outer = half_of(vectors.label, chosen_on, number)
        probe, known = best(vectors, PROBE_CHAINS, lambda one: probed(vectors, one, inner, outer)["balanced"])  # noqa: B023
        cluster, agreed = best(vectors, CLUSTER_CHAINS, lambda one: agreement(vectors, one, chosen_on))  # noqa: B023
        yield {
            "half": number,
            "probe": [*probe.links, probe.weight],
            "cluster": [*cluster.links, cluster.weight],
            "chosen_balanced": known,
            "chosen_ami": agreed,
            **probed(vectors, probe, chosen_on, scored_on),
            "ami": agreement(vectors, cluster, scored_on),
        }


def half(label: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two halves of the cells, each with half of every class."""
    return half_of(label, np.ones(len(label), bool), number)


def half_of(label: np.ndarray, rows: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two halves of these rows, each with half of every class."""
    first = np.zeros(len(label), bool)
    for name in np.unique(label):
        members = np.flatnonzero(rows & (label == name))
        shuffled = generator("halves of Jurkat cells", int(rows.sum()), number, name).permutation(members)
        first[shuffled[: len(shuffled) // 2]] = True
    return first, rows & ~first


def best(vectors: Vectors, chains: Sequence[tuple[str, ...]], score: Callable[[Choice], float]) -> tuple[Choice, float]:
    """Return the chain with the highest score, with the weight of `features` that is best with it; and the score."""
    scored = {choice: score(choice) for choice in map(Choice, chains)}
    links = max(scored, key=lambda choice: scored[choice]).links
    scored |= {choice: score(choice) for choice in (Choice(links, weight) for weight in vectors.weights())}
    winner = max(scored, key=lambda choice: scored[choice])
    return winner, scored[winner]


def probed(vectors: Vectors, choice: Choice, train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Return balanced accuracy and macro F1 of a linear probe."""
    from sklearn.metrics import f1_score

    x, blocks = vectors.normalised(choice, train)
    truth = vectors.label[test]
    predicted = linear_probe(x[train], vectors.label[train], x[test], blocks=blocks)
    return {"balanced": accuracy(truth, predicted).balanced, "f1": float(f1_score(truth, predicted, average="macro"))}


def agreement(vectors: Vectors, choice: Choice, rows: np.ndarray) -> float:
    """Return the AMI of the clusters of these cells with the phases."""
    from sklearn.metrics import adjusted_mutual_info_score

    x, _ = vectors.normalised(choice, rows)
    clusters = kmeans.fit(x[rows].astype(np.float32), CLUSTERS, n_init=N_INIT).assignment
    return float(adjusted_mutual_info_score(vectors.label[rows], clusters))


def means(rows: Sequence[Row], blocks: str, name: str) -> list[float]:
    """Return one score half by half, each the mean over seeds."""
    of_half: dict[int, list[float]] = {}
    for row in rows:
        if row["blocks"] == blocks:
            of_half.setdefault(row["half"], []).append(row[name])
    return [float(np.mean(scores)) for _, scores in sorted(of_half.items())]


def chosen_rows(rows: Sequence[Row], chosen_by: str, name: str) -> tuple[list[float], list[str]]:
    """Return the score of the blocks that each half chose, and which these were."""
    titles = list(dict.fromkeys(row["blocks"] for row in rows))
    known = {title: means(rows, title, chosen_by) for title in titles}
    scores = {title: means(rows, title, name) for title in titles}
    winners = [max(titles, key=lambda title: known[title][number]) for number in range(HALVES)]
    return [scores[winner][number] for number, winner in enumerate(winners)], winners


def show(rows: Sequence[Row]) -> None:
    """Print mean and standard deviation over halves of every score."""
    print(f"{'blocks':28}{'balanced accuracy':>20}{'macro F1':>18}{'AMI':>18}")
    for title in dict.fromkeys(row["blocks"] for row in rows):
        print(f"{title:28}" + "".join(f"{real_crops.mean_sd(means(rows, title, name)):>18}" for name in SCORES))


if __name__ == "__main__":
    main()
