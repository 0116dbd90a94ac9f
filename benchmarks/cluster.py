"""cluster: time and memory for clustering a million embeddings, from their table to scores, wells and map.

    python benchmarks/cluster.py [--cells 1000000] [--dim 512] [--k 8] [--normalise none]

It runs the stage itself, except for the montage, which needs crops. Peak memory is printed as a multiple of the size of
the embeddings, quality as the inertia divided by that of plain K-Means on a tenth of the cells.
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
    """Write the table, cluster it in a separate process, and print time and memory."""
    arguments = parsed()
    if arguments.folder:
        print(json.dumps(measured(arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_cells(Path(folder), arguments)
        command = [sys.executable, __file__, *sys.argv[1:], "--folder", folder]
        results = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    own = arguments.cells * arguments.dim * 4 / 1e9
    print(f"{arguments.cells:,} x {arguments.dim}, k = {arguments.k}, normalise = {arguments.normalise}:")
    parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in results["parts"].items())
    print(f"  minutes {results['seconds'] / 60:.1f} ({parts}); of a processor {results['cpu_s'] / 60:.1f}")
    peak_gb = results["peak_gb"]
    print(f"  peak memory {peak_gb:.1f} GB, {peak_gb / own:.1f} times the {own:.1f} GB of the embeddings")
    print(f"  inertia / plain K-Means' {results['inertia_ratio']:.4f}; AMI with the true kinds {results['ami']:.3f}")


def parsed() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--normalise", default="none")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def write_cells(folder: Path, arguments: argparse.Namespace) -> None:
    """Write overlapping groups in many dimensions, whose shares depend on the drug; ten plates of sixty wells."""
    import pandas as pd

    from cellssl.artifacts import embeddings
    from cellssl.randomness import generator

    rng = generator("million")
    well = np.sort(rng.integers(PLATES * WELLS, size=arguments.cells))
    control = well % WELLS < CONTROLS
    kind = np.where(control, rng.integers(2, size=arguments.cells), rng.integers(KINDS, size=arguments.cells))
    dose = np.where(control, 0.0, 10.0 ** (well % 4 - 2))
    known = pd.DataFrame(
        {
            "Metadata_cell_id": [f"cell_{row:07d}" for row in range(arguments.cells)],
            "Metadata_Plate": [f"plate {number}" for number in well // WELLS],
            "Metadata_Well": [f"{chr(66 + number // 10)}{number % 10:02d}" for number in well % WELLS],
            "Metadata_compound": np.where(control, "DMSO", [f"drug {number // 4}" for number in well % WELLS]),
            "Metadata_dose_micromolar": dose,
            "Metadata_control": control,
            "Metadata_neighbours": rng.integers(6, size=arguments.cells),
            "Metadata_true_phenotype": [f"kind {number}" for number in kind],
        }
    )
    means = 0.35 * rng.standard_normal((KINDS, arguments.dim), dtype=np.float32)
    with embeddings.writer(folder / "embeddings.parquet", known) as file:
        for start in range(0, arguments.cells, 50_000):
            rows = kind[start : start + 50_000]
            file.append(means[rows] + rng.standard_normal((len(rows), arguments.dim), dtype=np.float32))


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the stage until only the montage is left; then compare its quality with plain K-Means."""
    from cellssl.events import Progress
    from cellssl.stages.cluster import stage
    from cellssl.stages.cluster.settings import Settings

    settings = Settings(k=arguments.k, normalise=arguments.normalise)
    files = SimpleNamespace(file=lambda name: arguments.folder / name)
    job: Any = SimpleNamespace(settings=settings, inputs={"embed": files}, draft=files, seed=0)
    parts: dict[str, float] = {}
    cpu_s = time.process_time()
    started = last = time.perf_counter()
    doing = "start"
    for event in stage.run(job):
        assert isinstance(event, Progress)
        now = time.perf_counter()
        parts[doing], last, doing = now - last, now, event.note
        if doing == "montage":
            break
    seconds = time.perf_counter() - started
    cpu_s = time.process_time() - cpu_s
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    scores = json.loads((arguments.folder / "scores.json").read_text(encoding="utf-8"))
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "parts": parts,
        "peak_gb": peak_gb,
        "ami": scores["against"]["true_phenotype"]["ami"],
        "inertia_ratio": inertia_ratio(arguments),
    }


def inertia_ratio(arguments: argparse.Namespace) -> float:
    """Return the inertia of the stage's centroids divided by that of scikit-learn's, on a tenth of the cells."""
    from sklearn.cluster import KMeans

    from cellssl.artifacts import embeddings
    from cellssl.profiling import kmeans
    from cellssl.profiling.chain import FittedChain

    _, vectors = embeddings.read(arguments.folder / "embeddings.parquet")
    with np.load(arguments.folder / "centroids.npz") as arrays:
        x = FittedChain.from_arrays(arrays).apply(vectors[::10].copy())
        centroids = arrays["centroids"]
    ours = kmeans.clustering_of(x, kmeans.assign(x, centroids), centroids).inertia
    return float(ours / KMeans(len(centroids), n_init=3, random_state=0).fit(x).inertia_)


if __name__ == "__main__":
    main()
