"""real_crops: real single-cell crops of two plates in; how well treated and untreated cells separate, arm by arm, out.

Trains on one plate without labels and tests on the other, both ways, three seeds, through the command line:

    python benchmarks/real_crops.py ../shared/data/crops --out /tmp/real-crops

The settings in real_crops.toml were chosen on other cells: the smaller set of crops without those that are also among
the two plates, which leaves cycloheximide on one plate only, Week4_27861. K-Means is done on the embeddings as they
are, after z-scoring, and after scaling to unit length, and all three are printed for every arm: which one is best
differs between trained and untrained models, so a baseline has to be looked at under its own best one.
What the set cannot show: a class is a well here, so well effects are part of every score.
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
NORMALISED = ("none", "zscore", "l2")


def main() -> None:
    """Make the stack, run every direction, print the table."""
    arguments = parsed()
    began = time.monotonic()
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    plates = write_stack(arguments.crops, out)
    rows = []
    for plate in plates:
        rows += one_direction(out, plate, arguments.seeds)
    show(rows, plates)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes in all")


def parsed() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", type=Path, help="folder with bbbc021_crops_2plates.npz and its csv")
    parser.add_argument("--out", type=Path, default=Path("real-crops"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args()


def write_stack(crops: Path, out: Path) -> list[str]:
    """The rows of both compounds as stack.npy and stack.csv; returns their plates."""
    rows = [row for row in read_rows(crops / "bbbc021_crops_2plates.csv") if row["compound"] in COMPOUNDS]
    with np.load(crops / "bbbc021_crops_2plates.npz") as arrays:
        pixels = arrays["images_div16"][[int(row["row"]) for row in rows]] << 4
    np.save(out / "stack.npy", pixels)
    with (out / "stack.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return sorted({row["plate"] for row in rows})


def read_rows(path: Path) -> list[dict[str, str]]:
    """A CSV as a list of rows."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def one_direction(out: Path, test_plate: str, seeds: list[int]) -> list[dict[str, object]]:
    """Everything that is trained on the other plates and tested on this one."""
    recipe = out / "recipe.toml"
    recipe.write_text(RECIPE.read_text(encoding="utf-8"), encoding="utf-8")
    chosen = [f"name=real-crops-{test_plate}", f'split.test_plates=["{test_plate}"]', f"seeds={seeds}"]
    settings = [part for text in chosen for part in ("--set", text)]
    report = cellssl(out, "run", str(recipe), *settings)
    rows = json.loads((report / "scores.json").read_text(encoding="utf-8"))
    for row in rows:
        flags = ("--arm", str(row["arm"]), "--seed", str(row["seed"]))
        for how in NORMALISED:
            again = ("--set", f"cluster.normalise={how}")
            row[how] = scores(cellssl(out, "cluster", str(recipe), *settings, *flags, *again))["label"]["ami"]
        # on one test plate no cluster can follow the plate, so that is asked of both plates together
        both = cellssl(out, "cluster", str(recipe), *settings, *flags, "--set", "cluster.part=all")
        row["ami_plate"] = scores(both)["plate"]["ami"]
        row["test_plate"] = test_plate
    return rows


def scores(cluster: Path) -> dict[str, dict[str, float]]:
    """The agreement of clusters with every column."""
    card = json.loads((cluster / "artifact.json").read_text(encoding="utf-8"))
    against: dict[str, dict[str, float]] = card["metrics"]["against"]
    return against


def cellssl(out: Path, *arguments: str) -> Path:
    """One command; the path it prints."""
    command = [sys.executable, "-m", "cellssl", *arguments, "--store", str(out / "store")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


def show(rows: list[dict[str, object]], plates: list[str]) -> None:
    """Mean and standard deviation over seeds of every arm, by test plate; then the differences that matter."""
    heads = [f"AMI {how}" for how in NORMALISED]
    print(f"\n{'tested on':12} {'arm':12}" + "".join(f"{head:>15}" for head in (*heads, "kNN accuracy", "AMI plate")))
    for plate in plates:
        for arm in ARMS:
            columns = (spread(values(rows, plate, arm, name)) for name in (*NORMALISED, "knn", "ami_plate"))
            print(f"{plate:12} {arm:12}" + "".join(f"{column:>15}" for column in columns))
    print("\nsum less another arm, over seeds and directions; a baseline under the normalisation that suits it best:")
    for how in NORMALISED:
        for other in ARMS[1:]:
            gains = [gain for plate in plates for gain in gains_on(rows, plate, how, other)]
            wins = sum(gain > 0 for gain in gains)
            print(f"  {how:7} {other:12} {spread(gains)}, lowest {min(gains):+.3f}, higher in {wins} of {len(gains)}")


def values(rows: list[dict[str, object]], plate: str, arm: str, name: str) -> list[float]:
    """One number of one arm on one test plate, seed by seed."""
    return [float(str(row[name])) for row in rows if row["test_plate"] == plate and row["arm"] == arm]


def gains_on(rows: list[dict[str, object]], plate: str, how: str, other: str) -> list[float]:
    """AMI of the sum less that of another arm with the same seed."""
    hows = NORMALISED if other in BASELINES else (how,)
    best = max(hows, key=lambda one: float(np.mean(values(rows, plate, other, one))))
    pairs = zip(values(rows, plate, "sum", how), values(rows, plate, other, best), strict=True)
    return [ours - theirs for ours, theirs in pairs]


def spread(values: list[float]) -> str:
    """Mean ± standard deviation (ddof 1)."""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


if __name__ == "__main__":
    main()
