"""report: print the time and the peak memory of the evaluations and the report of many arms, with the share of each.

    python benchmarks/report.py [--arms 20] [--cells 2000] [--dim 256]

Every arm has made-up vectors of the same cells, and all stages below are made before. Each command runs in a process of
its own, as a user runs it. The unit is the time of `import sklearn`, measured in the same run; the goal for 20 arms is
10 s and 500 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

CELLSSL = (sys.executable, "-m", "cellssl")
GOAL_S, GOAL_MB = 10.0, 500.0
RECIPE = """
name = "report"
main_arm = "arm0"
[fetch.dataset]
name = "simulated"
plates = 2
compounds = ["sim-nocodazole"]
doses = 4
wells_per_treatment = 1
control_wells = 4
sites_per_well = 1
[segment]
method = "watershed"
crop_px = 68
[split]
treated = { compounds = ["sim-nocodazole"] }
cells_per_class = CELLS
[embed]
model = "intensities"
[cluster]
map = "pca"
[evaluate]
"""


class Spent(NamedTuple):
    """What a command took."""

    seconds: float
    processor_s: float
    peak_mb: float


def main() -> None:
    """Make everything up to the clusters, then time the evaluations and the report."""
    given = parsed()
    with tempfile.TemporaryDirectory() as folder:
        recipe, store = Path(folder) / "report.toml", Path(folder) / "store"
        arms = (f"[arm.arm{number}.embed]\ncells_per_well = {300 + number}\n" for number in range(1, given.arms))
        recipe.write_text(RECIPE.replace("CELLS", str(given.cells)) + "".join(arms), encoding="utf-8")
        spent_on(("run", str(recipe), "--store", str(store), "--to", "embed", "--arm", "arm0"))
        make_up_vectors(recipe, store, given.dim)
        spent_on(("run", str(recipe), "--store", str(store), "--to", "cluster"))
        unit = spent_on_python("import sklearn.neighbors, sklearn.linear_model")
        evaluated = spent_on(("run", str(recipe), "--store", str(store), "--to", "evaluate"))
        reported = spent_on(("report", str(recipe), "--store", str(store)))
        inside = {kind: seconds_in_cards(store, kind) for kind in ("evaluate", "report")}
    show(given, unit, {"evaluate": evaluated, "report": reported}, inside)


def show(given: argparse.Namespace, unit: Spent, found: dict[str, Spent], inside: dict[str, float]) -> None:
    """Print one line per command, then both together beside the goal."""
    total = sum(one.seconds for one in found.values())
    print(f"{given.arms} arms, {given.cells:,} cells per class, {given.dim} features")
    print(f"{'':10} {'wall s':>7} {'CPU s':>7} {'peak MB':>8} {'share':>6} {'in stages':>9} {'of imports':>10}")
    for name, one in (("imports", unit), *found.items()):
        share = f"{one.seconds / total:6.0%} {inside[name] / one.seconds:9.0%}" if name in inside else f"{'':16}"
        ratio = one.processor_s / unit.processor_s
        print(f"{name:10} {one.seconds:7.2f} {one.processor_s:7.2f} {one.peak_mb:8.0f} {share} {ratio:10.1f}")
    peak = max(one.peak_mb for one in found.values())
    print(f"together {total:.1f} s and {peak:.0f} MB; the goal for 20 arms is {GOAL_S:.0f} s and {GOAL_MB:.0f} MB")


def parsed() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", type=int, default=20)
    parser.add_argument("--cells", type=int, default=1000, help="cells per class")
    parser.add_argument("--dim", type=int, default=256)
    return parser.parse_args()


def make_up_vectors(recipe: Path, folder: Path, dim: int) -> None:
    """Write an embed artifact for every arm but the first: vectors of its cells in which the label shifts the mean."""
    from cellssl.artifacts import embeddings
    from cellssl.artifacts.store import Store
    from cellssl.config.recipe import load
    from cellssl.pipeline.session import Session
    from cellssl.randomness import generator

    session = Session(load(str(recipe)), Store(folder))
    planned = {one.fingerprint: one for one in session.plan("embed") if one.stage == "embed"}
    made = next(found for one in planned if (found := session.store.find("embed", one)))
    metadata, _ = embeddings.read(made.file("embeddings.parquet"))
    del planned[made.fingerprint]
    treated = metadata["Metadata_label"].fillna("").eq("treated").to_numpy(bool).astype(float)
    for one in planned.values():
        rng = generator("benchmark", one.fingerprint)
        vectors = rng.normal(size=(len(metadata), dim)) + treated[:, None] * rng.normal(size=dim) / 10
        card = replace(one.card, metrics={**made.card.metrics, "dim": dim}, run=made.card.run)
        with session.store.drafting("embed", one.fingerprint) as draft:
            with embeddings.writer(draft.file("embeddings.parquet"), metadata) as file:
                file.append(vectors.astype(np.float32))
            draft.commit(card)


def spent_on(words: tuple[str, ...]) -> Spent:
    """Return what a command took."""
    return spent((*CELLSSL, *words))


def spent_on_python(code: str) -> Spent:
    """Return what a line of Python took."""
    return spent((sys.executable, "-c", code))


def spent(command: tuple[str, ...]) -> Spent:
    """Run a process and return its times and its peak memory."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    scale = 1e6 if sys.platform == "darwin" else 1e3  # bytes on macOS, kilobytes on Linux
    return Spent(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / scale)


def seconds_in_cards(store: Path, kind: str) -> float:
    """Return the seconds that the stages themselves took, without loading the program."""
    cards: list[Any] = [json.loads(path.read_text(encoding="utf-8")) for path in store.glob(f"{kind}/*/artifact.json")]
    return sum(float(card["run"]["seconds"]) for card in cards)


if __name__ == "__main__":
    main()
