"""hits: print how long `cellssl hits` takes for a large screen, and its memory, beside copairs' part of the same work.

    python benchmarks/hits.py [--cells 300000] [--dim 512] [--plates 10] [--treatments 100] [--controls 64]
    python benchmarks/hits.py --profiles 24      # mean average precision of 24 plates of 384 wells alone

The whole stage may take 2 minutes and 3 GB on two cores. copairs does what `activity.py` does, on the profiles that the
stage wrote: average precision against the controls of the plate, and p-values against random ranks. Its p-values do
not know that replicates share their controls, so it needs less work; the ratio is of that step alone.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from cellssl.randomness import generator

NULL_SIZE = 10_000


def main() -> None:
    """Measure the stage and copairs, or the step of mean average precision alone."""
    given = parsed()
    if given.profiles:
        precision_alone(given.profiles, given.dim)
        return
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "cells.parquet"
        write_cells(table, given)
        made = whole_stage(table, Path(folder) / "store")
        profiles = pd.read_parquet(made / "profiles.parquet")
    ours, theirs = activity_s(profiles), copairs_s(profiles)
    print(f"{'mean average precision and p-values, ours':44} {ours:7.1f} s")
    print(f"{'the same by copairs, random ranks':44} {theirs:7.1f} s   ours / copairs {ours / theirs:.1f}")


def parsed() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {"cells": 300_000, "dim": 512, "plates": 10, "treatments": 100, "controls": 64, "profiles": 0}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def write_cells(path: Path, given: argparse.Namespace) -> None:
    """Write a table of cells, plate by plate: every treatment has one well per plate, one in ten is active."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    wells = given.controls + given.treatments
    per_well = given.cells // (given.plates * wells)
    compound = np.array(["DMSO"] * given.controls + [f"drug-{n:03d}" for n in range(given.treatments)])
    writer = None
    for plate in range(given.plates):
        rng = generator("benchmark of hits", plate)
        x = rng.standard_normal((wells * per_well, given.dim), dtype=np.float32)
        x += np.repeat(0.2 * rng.standard_normal((wells, given.dim), dtype=np.float32), per_well, axis=0)
        x[np.repeat(np.arange(wells) >= wells - given.treatments // 10, per_well), :10] += 1
        columns = {
            "Metadata_Plate": np.repeat(f"P{plate:02d}", len(x)),
            "Metadata_Well": np.repeat([f"{chr(65 + n // 24)}{1 + n % 24:02d}" for n in range(wells)], per_well),
            "Metadata_compound": np.repeat(compound, per_well),
            **{f"emb_{number:04d}": x[:, number] for number in range(given.dim)},
        }
        rows = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, rows.schema)
        writer.write_table(rows)
    assert writer is not None
    writer.close()


def whole_stage(table: Path, store: Path) -> Path:
    """Run the command in a process of its own, print its seconds and memory, and return the artifact."""
    command = [sys.executable, "-m", "cellssl", "hits", "profiles", "--set", f"hits.table.path={table}"]
    began = time.perf_counter()
    done = subprocess.run([*command, "--store", str(store)], stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.perf_counter() - began
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"{'cellssl hits, whole command':44} {seconds:7.1f} s   {peak_gb:.2f} GB")
    return Path(done.stdout.strip().splitlines()[-1])


def activity_s(profiles: pd.DataFrame) -> float:
    """Return the seconds of our mean average precision, with its permutation test."""
    from cellssl.profiling.activity import activity

    meta, x = split(profiles)
    control = meta["Metadata_control"].to_numpy(bool)
    began = time.perf_counter()
    activity(x, meta["Metadata_compound"].tolist(), control, meta["Metadata_Plate"], null_size=NULL_SIZE)
    return time.perf_counter() - began


def copairs_s(profiles: pd.DataFrame) -> float:
    """Return the seconds of copairs for the same profiles."""
    from copairs.map import average_precision, mean_average_precision

    meta, x = split(profiles)
    meta = meta[["Metadata_Plate", "Metadata_Well", "Metadata_compound", "Metadata_control"]]
    meta = meta.assign(own=np.where(meta["Metadata_control"], np.arange(len(meta)), -1))
    began = time.perf_counter()
    alike = ["Metadata_compound", "own"]
    found = average_precision(meta, x, alike, [], ["Metadata_Plate"], ["Metadata_control"], progress_bar=False)
    found = found[~found["Metadata_control"]].reset_index(drop=True)
    mean_average_precision(found, ["Metadata_compound"], NULL_SIZE, 0.05, seed=0, progress_bar=False)
    return time.perf_counter() - began


def split(profiles: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Return metadata and numbers."""
    meta = profiles.filter(like="Metadata_")
    return meta, profiles.drop(columns=meta.columns).to_numpy(np.float64)


def precision_alone(plates: int, dim: int) -> None:
    """Print seconds and memory for plates of 384 wells: 64 controls, and 320 treatments with one well per plate."""
    wells, controls = 384, 64
    x = generator("benchmark of profiles").standard_normal((plates * wells, dim))
    compound = ["DMSO"] * controls + [f"drug-{number:03d}" for number in range(wells - controls)]
    meta = pd.DataFrame({"Metadata_compound": compound * plates})
    meta["Metadata_Plate"] = np.repeat([f"P{plate:02d}" for plate in range(plates)], wells)
    meta["Metadata_control"] = meta["Metadata_compound"] == "DMSO"
    seconds = activity_s(meta.join(pd.DataFrame(x).add_prefix("emb_")))
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{f'mean average precision of {len(x)} profiles':44} {seconds:7.1f} s   {peak_gb:.2f} GB")


if __name__ == "__main__":
    main()
