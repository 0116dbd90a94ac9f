"""cluster: prints minutes and memory of clustering a million embeddings, from their table to scores, wells and map.

    python benchmarks/cluster.py [--cells 1000000] [--dim 512] [--k 8] [--normalise none]

The stage itself runs, all but its montage, whose crops would be the benchmark's own. The peak of its memory is given as
a multiple of the embeddings' own size, the quality as the inertia over that of plain K-Means on a tenth of the cells.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

PLATES, WELLS, CONTROLS, KINDS = 10, 60, 12, 6


def main() -> None:
    """Make the table, let a process of its own cluster it, print what it took."""
    given = parsed()
    if given.folder:
        print(json.dumps(measured(given)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_cells(Path(folder), given)
        command = [sys.executable, __file__, *sys.argv[1:], "--folder", folder]
        told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    own = given.cells * given.dim * 4 / 1e9
    print(f"{given.cells:,} x {given.dim}, k = {given.k}, normalise = {given.normalise}:")
    parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in told["parts"].items())
    print(f"  minutes {told['seconds'] / 60:.1f} ({parts}); of a processor {told['cpu_s'] / 60:.1f}")
    print(
        f"  peak memory {told['peak_gb']:.1f} GB, {told['peak_gb'] / own:.1f} times the {own:.1f} GB of the embeddings"
    )
    print(f"  inertia / plain K-Means' {told['inertia_ratio']:.4f}; AMI with the true kinds {told['ami']:.3f}")


def parsed() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--normalise", default="none")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def write_cells(folder: Path, given: argparse.Namespace) -> None:
    """Overlapping heaps in many dimensions, of which drugs change the shares; ten plates of sixty wells."""
    import pandas as pd

    from cellssl.artifacts import embeddings
    from cellssl.randomness import generator

    chance = generator("million")
    well = np.sort(chance.integers(PLATES * WELLS, size=given.cells))
    control = well % WELLS < CONTROLS
    kind = np.where(control, chance.integers(2, size=given.cells), chance.integers(KINDS, size=given.cells))
    dose = np.where(control, 0.0, 10.0 ** (well % 4 - 2))
    known = pd.DataFrame(
        {
            "Metadata_cell_id": [f"cell_{row:07d}" for row in range(given.cells)],
            "Metadata_Plate": [f"plate {number}" for number in well // WELLS],
            "Metadata_Well": [f"{chr(66 + number // 10)}{number % 10:02d}" for number in well % WELLS],
            "Metadata_compound": np.where(control, "DMSO", [f"drug {number // 4}" for number in well % WELLS]),
            "Metadata_dose_micromolar": dose,
            "Metadata_control": control,
            "Metadata_neighbours": chance.integers(6, size=given.cells),
            "Metadata_true_phenotype": [f"kind {number}" for number in kind],
        }
    )
    middles = 0.35 * chance.standard_normal((KINDS, given.dim), dtype=np.float32)
    with embeddings.writer(folder / "embeddings.parquet", known) as file:
        for start in range(0, given.cells, 50_000):
            rows = kind[start : start + 50_000]
            file.append(middles[rows] + chance.standard_normal((len(rows), given.dim), dtype=np.float32))


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """The stage, until only the montage is left; then its quality beside plain K-Means."""
    from cellssl.events import Progress

    settings = kmeans.Settings(k=given.k, normalise=given.normalise)
    files = SimpleNamespace(file=lambda name: given.folder / name)
    job: Any = SimpleNamespace(settings=settings, inputs={"embed": files}, draft=files, seed=0)
    parts: dict[str, float] = {}
    cpu_s = time.process_time()
    began = last = time.perf_counter()
    doing = "start"
    for event in kmeans.run(job):
        assert isinstance(event, Progress)
        now = time.perf_counter()
        parts[doing], last, doing = now - last, now, event.note
        if doing == "montage":
            break
    seconds = time.perf_counter() - began
    cpu_s = time.process_time() - cpu_s
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    scores = json.loads((given.folder / "scores.json").read_text(encoding="utf-8"))
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "parts": parts,
        "peak_gb": peak_gb,
        "ami": scores["against"]["true_phenotype"]["ami"],
        "inertia_ratio": inertia_ratio(given),
    }


def inertia_ratio(given: argparse.Namespace) -> float:
    """Of a tenth of the cells: inertia about the centroids that were found, over that of scikit-learn's K-Means."""
    from sklearn.cluster import KMeans

    from cellssl.artifacts import embeddings
    from cellssl.profiling import kmeans, normalise

    _, vectors = embeddings.read(given.folder / "embeddings.parquet")
    with np.load(given.folder / "centroids.npz") as arrays:
        x = normalise.Normaliser.from_arrays(arrays).apply(vectors[::10].copy())
        centroids = arrays["centroids"]
    ours = kmeans.clustering_of(x, kmeans.assign(x, centroids), centroids).inertia
    return float(ours / KMeans(len(centroids), n_init=3, random_state=0).fit(x).inertia_)


if __name__ == "__main__":
    main()
