"""positives: a screen of which half of the compounds is left out -> what positives from metadata do for the other half.

Trains without positives and with a growing share of them, on random halves of the compounds, through the command line,
and scores the cells of the compounds that no training has seen:

    python benchmarks/positives.py real --crops ../shared/data/crops --out /tmp/positives
    python benchmarks/positives.py simulated --out /tmp/positives-simulated

`mechanism`: how often the mechanism of a cell is that of the most similar cells of other compounds on other plates.
`replicates`: mean average precision of finding the other cells of its compound on other plates, among the cells of all
left-out compounds. Vectors are z-scored and brought to unit length. Both are means over the left-out compounds, so that
frequent ones count as the others do. Intervals resample the compounds.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

RECIPE = Path(__file__).with_name("positives.toml")
ARMS = ("none", "share25", "share50", "share100", "random", "features")
SCORES = ("mechanism", "replicates")
HALVES = {"real": (0, 1), "simulated": (0, 2)}
"""Seeds of the splits; the two of simulated screens leave out each compound once."""
SCREEN = """{ name = "simulated", seed = 21, plates = 3, doses = 2, control_wells = 6, sites_per_well = 1,
compounds = ["sim-nocodazole", "sim-vincristine", "sim-taxol", "sim-epothilone", "sim-cytochalasin", "sim-latrunculin",
"sim-etoposide", "sim-mitomycin"], layout = "shuffled", density_answer = 1.0, height_px = 512, width_px = 512 }"""
SIMULATED = {
    "fetch.dataset": SCREEN.replace("\n", " "),
    "segment": '{ crop_px = 68, reference = "controls" }',
}
"""What is laid over the recipe for simulated screens."""
MOST_CELLS = 30
"""Cells of a compound among which others are searched for: three compounds have most of the real cells."""
NEAREST = 5
"""Cells of a mechanism whose mean similarity to a cell counts."""
RESAMPLED = 10_000
Rows = list[dict[str, Any]]


def main() -> None:
    """Make the data, run every half, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=list(HALVES))
    parser.add_argument("--crops", type=Path, help="folder with bbbc021_crops_small.npz and its csv, for real")
    parser.add_argument("--out", type=Path, default=Path("positives"))
    parser.add_argument("--halves", type=int, nargs="+")
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if arguments.data == "real":
        write_stack(arguments.crops, out)
    halves = arguments.halves or HALVES[arguments.data]
    rows = [row for half in halves for row in one_half(out, out / "store", arguments.data, half)]
    for arm in ARMS:
        print(f"{arm:10}" + "".join(f"  {name} {summary(rows, arm, name)}" for name in SCORES))


def write_stack(crops: Path, out: Path) -> None:
    """Write all crops as stack.npy and stack.csv, with the week of a plate as its batch."""
    with np.load(crops / "bbbc021_crops_small.npz") as arrays:
        np.save(out / "stack.npy", arrays["images_div16"] << 4)
    with (crops / "bbbc021_crops_small.csv").open(newline="", encoding="utf-8") as file:
        rows = [{**row, "batch": row["plate"].partition("_")[0]} for row in csv.DictReader(file)]
    with (out / "stack.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def one_half(out: Path, store: Path, data: str, half: int) -> Rows:
    """Train every arm on one half of the compounds; return one row per arm, seed and compound of the other half."""
    name = f"positives-{data}-{half}"
    shutil.copy(RECIPE, out / "recipe.toml")
    settings = {"name": name, "split.seed": half, **(SIMULATED if data == "simulated" else {})}
    flags = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "cellssl", "run", str(out / "recipe.toml"), *flags, "--store", str(store)]
    subprocess.run([*command, "--to", "embed", "--jobs", "1"], stdout=subprocess.PIPE, check=True)
    rows = []
    for arm in ARMS:
        for pointer in sorted((store / "by-recipe" / name / arm).glob("*/embed.json")):
            made = json.loads(pointer.read_text(encoding="utf-8"))["fingerprint"]
            table = pd.read_parquet(store / "embed" / made / "embeddings.parquet")
            where = {"half": half, "arm": arm, "seed": pointer.parent.name}
            rows += [{**where, **row} for row in scores(table)]
    return rows


def scores(table: pd.DataFrame) -> Rows:
    """Return the scores of every left-out compound, the mean over its cells."""
    vectors = table.drop(columns=[name for name in table if not is_feature(str(name))]).to_numpy(np.float64)
    spread = vectors.std(axis=0)
    z = (vectors - vectors.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    treated = ~table["Metadata_control"].to_numpy(bool)
    cells, z = table[treated].reset_index(drop=True), z[treated]
    compound, moa, plate = (cells[f"Metadata_{name}"].to_numpy(str) for name in ("compound", "moa", "Plate"))
    is_left_out = (cells["Metadata_split"] == "test").to_numpy()
    kept = cells.groupby("Metadata_compound").cumcount().to_numpy() < MOST_CELLS
    found: dict[str, dict[str, list[float]]] = {}
    for row in np.flatnonzero(is_left_out):
        of_compound = found.setdefault(compound[row], {name: [] for name in SCORES})
        elsewhere, is_same, similarity = kept & (plate != plate[row]), compound == compound[row], z @ z[row]
        unseen, others = elsewhere & is_left_out, elsewhere & ~is_same
        if (unseen & is_same).any():
            of_compound["replicates"].append(average_precision(similarity[unseen], is_same[unseen]))
        if (others & (moa == moa[row])).any():
            nearest = {name: _nearest(similarity[others & (moa == name)]) for name in np.unique(moa[others])}
            of_compound["mechanism"].append(float(max(nearest, key=lambda name: nearest[name]) == moa[row]))
    means = {name: {score: np.mean(each) for score, each in of.items() if each} for name, of in found.items()}
    return [{"compound": name, **{score: float(mean) for score, mean in of.items()}} for name, of in means.items()]


def is_feature(name: str) -> bool:
    """Return whether a column of the table is part of the vector."""
    return not name.startswith(("Metadata_", "Nuclei_Location"))


def _nearest(similarity: np.ndarray) -> float:
    return float(np.sort(similarity)[-NEAREST:].mean())


def average_precision(similarity: np.ndarray, relevant: np.ndarray) -> float:
    """Return the mean precision at the places of the relevant cells, the most similar cell first."""
    ranked = relevant[np.argsort(-similarity, kind="stable")]
    return float((np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean())


def per_compound(rows: Rows, arm: str, score: str) -> pd.Series[float]:
    """Return the score of every compound in every half that leaves it out, the mean over seeds."""
    table = pd.DataFrame([row for row in rows if row["arm"] == arm and row.get(score) is not None])
    means: pd.Series[float] = table.groupby(["half", "compound"])[score].mean()
    return means


def summary(rows: Rows, arm: str, score: str) -> str:
    """Return the mean over compounds, and its difference from the arm without positives with a 95 % interval."""
    own = per_compound(rows, arm, score).groupby("compound").mean().mean()
    if arm == "none":
        return f"{own:.3f}"
    mean, low, high = difference(rows, arm, score)
    return f"{own:.3f}, {mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def difference(rows: Rows, arm: str, score: str) -> tuple[float, float, float]:
    """Return the mean gain over the arm without positives, and the 95 % interval over resampled compounds."""
    gains = (per_compound(rows, arm, score) - per_compound(rows, "none", score)).dropna()
    of_compound = gains.groupby("compound").mean().to_numpy()
    rng = np.random.default_rng(0)
    means = of_compound[rng.integers(0, len(of_compound), (RESAMPLED, len(of_compound)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(of_compound.mean()), float(low), float(high)


if __name__ == "__main__":
    main()
