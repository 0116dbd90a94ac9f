"""real_crops: real single-cell crops of two plates -> how well each arm separates treated and untreated cells.

Trains on one plate without labels and tests on the other, both ways, three seeds, through the command line:

    python benchmarks/real_crops.py ../shared/data/crops --out /tmp/real-crops

The settings in real_crops.toml were chosen on other cells: the smaller set of crops, without the cells that are also in
the two plates; it has cycloheximide on only one plate, Week4_27861. K-Means runs on embeddings that are
each of five ways, and all five results are printed for every arm: the best normalisation differs between trained and
untrained models, so each baseline is compared under its own best one.
Limitation: each class is one well here, so well effects are part of every score.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

COMPOUNDS = ("DMSO", "cyclohexamide")  # as the official table spells it
RECIPE = Path(__file__).with_name("real_crops.toml")
ARMS = ("sum", "context", "centre", "random", "intensities")
BASELINES = ("random", "intensities")
NORMALISED = {
    "none": "none",
    "zscore": "zscore",
    "l2": "l2",
    "chain": '["center_plate", "scale_pooled"]',
    "chain + l2": '["center_plate", "scale_pooled", "l2"]',
}
"""Name in the tables -> `cluster.normalise`."""


def main() -> None:
    """Write the stack of crops, run every direction, and print the table."""
    arguments = parsed()
    started = time.monotonic()
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    plates = write_stack(arguments.crops, out)
    rows = []
    for plate in plates:
        rows += one_direction(out, plate, arguments.seeds)
    show(rows, plates)
    print(f"{(time.monotonic() - started) / 60:.1f} minutes in all")


def parsed() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", type=Path, help="folder with bbbc021_crops_2plates.npz and its csv")
    parser.add_argument("--out", type=Path, default=Path("real-crops"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args()


def write_stack(crops: Path, out: Path) -> list[str]:
    """Write the crops of both compounds as stack.npy and stack.csv, and return their plates."""
    rows = [row for row in read_rows(crops / "bbbc021_crops_2plates.csv") if row["compound"] in COMPOUNDS]
    with np.load(crops / "bbbc021_crops_2plates.npz") as arrays:
        pixels = arrays["images_div16"][[int(row["row"]) for row in rows]] << 4
    np.save(out / "stack.npy", pixels)
    write_rows(out / "stack.csv", rows)
    return sorted({row["plate"] for row in rows})


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file as a list of rows."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """Write rows with the same columns as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def one_direction(out: Path, test_plate: str, seeds: list[int]) -> list[dict[str, object]]:
    """Train all arms on the other plates, test them on this one, and return one row per arm and seed."""
    recipe = out / "recipe.toml"
    recipe.write_text(RECIPE.read_text(encoding="utf-8"), encoding="utf-8")
    chosen = [f"name=real-crops-{test_plate}", f'split.test_plates=["{test_plate}"]', f"seeds={seeds}"]
    settings = [part for text in chosen for part in ("--set", text)]
    report = cellssl(out, "run", str(recipe), *settings)
    rows = json.loads((report / "scores.json").read_text(encoding="utf-8"))
    for row in rows:
        flags = ("--arm", str(row["arm"]), "--seed", str(row["seed"]))
        for how, chain in NORMALISED.items():
            again = ("--set", f"cluster.normalise={chain}")
            row[how] = scores(cellssl(out, "cluster", str(recipe), *settings, *flags, *again))["label"]["ami"]
        # one test plate cannot show whether clusters follow the plate, so this is measured on both plates together
        both = cellssl(out, "cluster", str(recipe), *settings, *flags, "--set", "cluster.part=all")
        row["ami_plate"] = scores(both)["plate"]["ami"]
        row["test_plate"] = test_plate
    return rows


def scores(cluster: Path) -> dict[str, dict[str, float]]:
    """Return the agreement of clusters with every column."""
    card = json.loads((cluster / "artifact.json").read_text(encoding="utf-8"))
    against: dict[str, dict[str, float]] = card["metrics"]["against"]
    return against


def cellssl(out: Path, *arguments: str) -> Path:
    """Run one cellssl command and return the path that it prints."""
    command = [sys.executable, "-m", "cellssl", *arguments, "--store", str(out / "store")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


def show(rows: list[dict[str, object]], plates: list[str]) -> None:
    """Print mean and standard deviation over seeds of every arm by test plate, then the differences between arms."""
    heads = [f"AMI {how}" for how in NORMALISED]
    print(f"\n{'tested on':12} {'arm':12}" + "".join(f"{head:>15}" for head in (*heads, "kNN accuracy", "AMI plate")))
    for plate in plates:
        for arm in ARMS:
            columns = (mean_sd(values(rows, plate, arm, name)) for name in (*NORMALISED, "knn", "ami_plate"))
            print(f"{plate:12} {arm:12}" + "".join(f"{column:>15}" for column in columns))
    print("\nsum minus another arm, over seeds and directions; each baseline with its best normalisation:")
    for how in NORMALISED:
        for other in ARMS[1:]:
            gains = [gain for plate in plates for gain in gains_on(rows, plate, how, other)]
            wins = sum(gain > 0 for gain in gains)
            print(f"  {how:10} {other:12} {mean_sd(gains)}, lowest {min(gains):+.3f}, higher in {wins} of {len(gains)}")


def values(rows: list[dict[str, object]], plate: str, arm: str, name: str) -> list[float]:
    """Return one number of one arm on one test plate, seed by seed."""
    return [float(str(row[name])) for row in rows if row["test_plate"] == plate and row["arm"] == arm]


def gains_on(rows: list[dict[str, object]], plate: str, how: str, other: str) -> list[float]:
    """Return the AMI of the arm `sum` minus that of another arm with the same seed."""
    hows = NORMALISED if other in BASELINES else (how,)
    best = max(hows, key=lambda one: float(np.mean(values(rows, plate, other, one))))
    pairs = zip(values(rows, plate, "sum", how), values(rows, plate, other, best), strict=True)
    return [ours - theirs for ours, theirs in pairs]


def mean_sd(values: list[float]) -> str:
    """Return mean ± standard deviation (ddof 1) as text."""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


if __name__ == "__main__":
    main()
