"""real_crops: real single-cell crops of two plates in; how well treated and untreated cells separate, arm by arm, out.

Trains on one plate without labels and tests on the other, both ways, three seeds, through the command line:

    python benchmarks/real_crops.py ../shared/data/crops --out /tmp/real-crops

The settings in real_crops.toml were chosen on other cells: the smaller set of crops without those that are also among
the two plates, which leaves cycloheximide on one plate only, Week4_27861.
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
        # on one test plate no cluster can follow the plate, so that is asked of both plates together
        flags = ("--arm", str(row["arm"]), "--seed", str(row["seed"]), "--set", "cluster.part=all")
        both = cellssl(out, "cluster", str(recipe), *settings, *flags)
        card = json.loads((both / "artifact.json").read_text(encoding="utf-8"))
        row["ami_plate"] = card["metrics"]["against"]["plate"]["ami"]
        row["test_plate"] = test_plate
    return rows


def cellssl(out: Path, *arguments: str) -> Path:
    """One command; the path it prints."""
    command = [sys.executable, "-m", "cellssl", *arguments, "--store", str(out / "store")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


def show(rows: list[dict[str, object]], plates: list[str]) -> None:
    """Mean and standard deviation over seeds of every arm, by test plate; then the differences that matter."""
    print(f"\n{'tested on':14} {'arm':12} {'AMI':>14} {'kNN accuracy':>14} {'AMI plate':>14}  AMI per seed")
    for plate in plates:
        for arm in ARMS:
            mine = [row for row in rows if row["test_plate"] == plate and row["arm"] == arm]
            cells = [spread([float(str(row[name])) for row in mine]) for name in ("ami", "knn", "ami_plate")]
            each = " ".join(f"{row['ami']:.3f}" for row in mine)
            print(f"{plate:14} {arm:12} {cells[0]:>14} {cells[1]:>14} {cells[2]:>14}  {each}")
    print("\nsum minus (paired over seeds and directions):")
    for other in ARMS[1:]:
        gains = [gain(rows, plate, row["seed"], other) for plate in plates for row in of_arm(rows, plate, "sum")]
        wins = sum(value > 0 for value in gains)
        print(f"  {other:12} {spread(gains)}, lowest {min(gains):+.3f}, higher in {wins} of {len(gains)}")


def of_arm(rows: list[dict[str, object]], plate: str, arm: str) -> list[dict[str, object]]:
    """The runs of one arm on one test plate."""
    return [row for row in rows if row["test_plate"] == plate and row["arm"] == arm]


def gain(rows: list[dict[str, object]], plate: str, seed: object, other: str) -> float:
    """AMI of the sum less that of another arm, same plate and seed."""
    ami = {row["arm"]: float(str(row["ami"])) for row in rows if row["test_plate"] == plate and row["seed"] == seed}
    return ami["sum"] - ami[other]


def spread(values: list[float]) -> str:
    """Mean ± standard deviation (ddof 1)."""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


if __name__ == "__main__":
    main()
