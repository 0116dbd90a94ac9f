"""embed: print the speed of embedding, from the crops on disk to the table, against the network's forward pass alone.

    python benchmarks/embed.py [--encoder vgg13] [--side 196] [--batch 64] [--cells 256] [--rounds 5]

Both do the same cells in the same batches, in one process, and alternate; the median round counts,
by the clock and by processor time (on a CPU; a GPU's work is not in the latter). The network alone
gets tensors that are ready. Two sets of cells, one ten times larger, show whether memory grows with the cells.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

CHANNELS = 3


def main() -> None:
    """Print the ratio, then the memory."""
    given = parsed()
    if given.memory_of:
        print(json.dumps(peak_mb(given)))
        return
    from cellssl.device import allowed_threads
    from cellssl.learning.threads import multiply_adds, threads_for, torch_threads

    with tempfile.TemporaryDirectory() as folder:
        pixels = stack(Path(folder), given.cells, given.side)
        network = built(given.encoder)
        with torch_threads(threads_for(multiply_adds(network, CHANNELS, given.side), allowed_threads())):
            rounds = [
                (seconds_of_ours(network, pixels, given), seconds_alone(network, given)) for _ in range(given.rounds)
            ]
    shares = [alone.clock / ours.clock for ours, alone in rounds]
    processor = [alone.processor / ours.processor for ours, alone in rounds]
    print(f"{given.encoder} at {given.side} px, batches of {given.batch}, {given.cells} cells, {device()}:")
    print(f"  cells per second {given.cells / np.median([ours.clock for ours, _ in rounds]):.2f}")
    print(f"  cellssl / network alone {np.median(shares):.3f} (rounds: {', '.join(f'{one:.3f}' for one in shares)})")
    print(f"  of processor time {np.median(processor):.3f} (rounds: {', '.join(f'{one:.3f}' for one in processor)})")
    small, large = (memory_of(cells, given) for cells in (2_000, 20_000))
    print(f"  memory: {small:.0f} MB with 2,000 cells, {large:.0f} MB with 20,000 (64 px, the encoder small)")


def parsed() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="vgg13")
    parser.add_argument("--side", type=int, default=196)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--cells", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def device() -> Any:
    """Return a GPU where there is one, else the CPU."""
    from cellssl.device import device_for

    return device_for("auto")


def stack(folder: Path, cells: int, side: int) -> np.ndarray:
    """Write noise as the crops of a plate, and map it."""
    from cellssl.artifacts.crops import open_crops, write_crops
    from cellssl.randomness import generator

    noise = generator("benchmark").integers(0, 4096, (64, CHANNELS, side, side), np.uint16)
    blocks = (noise[: cells - start] for start in range(0, cells, 64))
    write_crops(folder / "crops.npy", blocks, (cells, CHANNELS, side, side))
    return open_crops(folder / "crops.npy")


def built(encoder: str) -> Any:
    """Return the network with the weights of seed 0, ready on its device."""
    import torch

    from cellssl.config import plugins
    from cellssl.learning.training.memory import keep_freed_memory
    from cellssl.learning.weight_init import init_encoder

    keep_freed_memory()  # as the stage does
    settings: Any = plugins.load("cellssl.learning.encoders", encoder).Settings()
    network = init_encoder(settings, CHANNELS, 0, "encoder")
    return network.to(device()).to(memory_format=torch.channels_last).eval()


def vectors_of(network: Any, pixels: np.ndarray, given: argparse.Namespace) -> Iterator[np.ndarray]:
    """Embed as the stage does: read, scale to 8 bits, render, encode."""
    from cellssl.artifacts.crops import in_blocks, release_pages
    from cellssl.imaging.scaling import looked_up, lookup_tables
    from cellssl.learning.embed import EmbeddingViews, embed
    from cellssl.learning.training.readers import MemmapReader, prefetch

    tables = lookup_tables(np.zeros(CHANNELS), np.full(CHANNELS, 4096.0))

    def read(rows: np.ndarray) -> np.ndarray:
        crops = looked_up(pixels[rows], tables)
        release_pages(pixels)
        return crops

    yield from embed(
        network,
        prefetch(MemmapReader(read, device()), in_blocks(np.arange(len(pixels)), given.batch)),
        EmbeddingViews(given.side),
        device(),
    )


class Seconds(NamedTuple):
    """Seconds of the clock, and of all processors together; other programs on the machine affect the second less."""

    clock: float
    processor: float


def now() -> Seconds:
    """Return both at this moment."""
    return Seconds(time.perf_counter(), time.process_time())


def since(start: Seconds) -> Seconds:
    """Return both since an earlier moment."""
    end = now()
    return Seconds(end.clock - start.clock, end.processor - start.processor)


def seconds_of_ours(network: Any, pixels: np.ndarray, given: argparse.Namespace) -> Seconds:
    """Time the way from the crops on disk to the table on disk."""
    import pandas as pd

    from cellssl.artifacts import embeddings

    metadata = pd.DataFrame({"Metadata_cell_id": [f"cell {row}" for row in range(len(pixels))]})
    with tempfile.TemporaryDirectory() as folder:
        start = now()
        with embeddings.writer(Path(folder) / "embeddings.parquet", metadata) as file:
            for vectors in vectors_of(network, pixels, given):
                file.append(vectors)
        return since(start)


def seconds_alone(network: Any, given: argparse.Namespace) -> Seconds:
    """Time the same number of forward passes over tensors that are ready."""
    import torch

    sizes = [min(given.batch, given.cells - start) for start in range(0, given.cells, given.batch)]
    ready = torch.rand(given.batch, CHANNELS, given.side, given.side, device=device())
    ready = ready.contiguous(memory_format=torch.channels_last)
    start = now()
    with torch.no_grad():
        for size in sizes:
            network(ready[:size]).float().cpu()
    return since(start)


def memory_of(cells: int, given: argparse.Namespace) -> float:
    """Return the peak of a process of its own, in MB."""
    command = [sys.executable, __file__, "--memory-of", str(cells), "--side", "64", "--encoder", "small"]
    return float(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


def peak_mb(given: argparse.Namespace) -> float:
    """Return the peak memory of embedding so many cells, mapped pages included."""
    with tempfile.TemporaryDirectory() as folder:
        seconds_of_ours(built(given.encoder), stack(Path(folder), given.memory_of, given.side), given)
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()  # getrusage counts the parent, too
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3


if __name__ == "__main__":
    main()
