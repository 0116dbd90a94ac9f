"""pretrain: print training speed of the paper's network against the bare network, lightly, the hardware; and memory.

    python benchmarks/pretrain.py [--rounds 3] [--steps 6]

VGG13 at 196 px. On a CPU: batches of 32, two views of the paper's "context" set, asymmetric MoCo v2, cells per second.
The network alone does the network's part of a step, on tensors that are ready: query encoder forward and backward, key
encoder forward. The comparison is lightly's MoCo v2 as in its documentation: float32, torchvision's transforms image
by image in a DataLoader with one worker per core. Tool and lightly are separate processes, and alternate.
On a GPU: only the memory; benchmarks/gpu.py measures the speed.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from views import CONTEXT, torchvision_context

SIDE_PX, CHANNELS, CELLS = 196, 3, 640
CENTRE = (*CONTEXT[:4], {"name": "center_crop", "side": 0.5})


def main() -> None:
    """Measure everything that this machine can measure."""
    given = parsed()
    if given.measure:
        print(json.dumps(MEASURES[given.measure](given.folder, given)))
        return
    with tempfile.TemporaryDirectory() as folder:
        import torch

        write_stack(Path(folder), CELLS)
        if torch.cuda.is_available():
            print("the speed of a GPU: python benchmarks/gpu.py")
        else:
            show_speed(folder, given)
        show_memory(Path(folder), given)


def parsed() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="number of measurements of each; the best counts")
    parser.add_argument("--steps", type=int, default=6, help="timed steps of a measurement, after two untimed ones")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--measure", choices=tuple(MEASURES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def show_speed(folder: str, given: argparse.Namespace) -> None:
    """Print cells per second, and the two ratios."""
    rounds = [(measurement("ours", folder, given), measurement("lightly", folder, given)) for _ in range(given.rounds)]
    ours = max(one["cells_per_s"] for one, _ in rounds)
    alone = max(one["alone_per_s"] for one, _ in rounds)
    peer = max(other["cells_per_s"] for _, other in rounds)
    shares = ", ".join(f"{one['cells_per_s'] / one['alone_per_s']:.2f}" for one, _ in rounds)
    print(f"VGG13, {SIDE_PX} px, batch {given.batch}, asymmetric, {_threads()} threads, cells per second:")
    print(f"  cellssl {ours:.2f}; the network alone {alone:.2f}; lightly's example {peer:.2f}")
    print(f"  cellssl / network alone {shares} (one number per round); cellssl / lightly {ours / peer:.2f}")


def show_memory(folder: Path, given: argparse.Namespace) -> None:
    """Print how much memory a hundred times the cells add to a training."""
    taken_mb = {}
    for cells in (1_000, 100_000):
        write_stack(folder, cells)
        taken_mb[cells] = measurement("memory", str(folder), given)["anonymous_mb"]
    small, large = taken_mb.values()
    print(f"anonymous memory: {small:.0f} MB with 1,000 crops, {large:.0f} MB with 100,000: {large - small:+.0f} MB")


def measurement(name: str, folder: str, given: argparse.Namespace) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    flags = ["--steps", str(given.steps), "--batch", str(given.batch)]
    command = [sys.executable, __file__, "--measure", name, "--folder", folder, *flags]
    measured: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return measured


def measure_ours(folder: Path, given: argparse.Namespace) -> dict[str, float]:
    """Time the tool's own loop, from the crops on disk to the updated weights, and between its steps the network alone.

    Both alternate within one process, so they run under the same conditions; the median step counts.
    """
    import torch

    from cellssl.device import autocast
    from cellssl.learning.training.loop import train

    state, plan = prepared(folder, {"context": branch(CONTEXT, symmetric=False)}, given.batch, CELLS)
    steps = train(state, plan)
    ready = torch.rand(given.batch, CHANNELS, SIDE_PX, SIDE_PX).contiguous(memory_format=torch.channels_last)

    def network_alone() -> None:
        state.optimizer.zero_grad(set_to_none=True)
        with autocast(plan.device, plan.dtype):
            features = state.encoder(ready)
        features.float().square().mean().backward()
        with torch.no_grad(), autocast(plan.device, plan.dtype):
            state.momentum_encoder(ready)

    seconds = [(seconds_of(lambda: next(steps)), seconds_of(network_alone)) for _ in range(given.steps + 2)][2:]
    ours, alone = np.median(seconds, axis=0)
    return {"cells_per_s": given.batch / ours, "alone_per_s": given.batch / alone}


def measure_lightly(folder: Path, given: argparse.Namespace) -> dict[str, float]:
    """Time MoCo v2 from lightly's own parts, assembled as in its documentation."""
    import os

    import torch
    import torchvision
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    from torch.utils.data import DataLoader

    trunk = torchvision.models.vgg13(weights=None).features
    query = torch.nn.Sequential(
        trunk, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), MoCoProjectionHead(512, 512, 128)
    )
    key = copy.deepcopy(query)
    deactivate_requires_grad(key)
    criterion = NTXentLoss(temperature=0.07, memory_bank_size=(1024, 128))
    optimizer = torch.optim.Adam(query.parameters(), lr=0.001, weight_decay=0.0001)
    loader = DataLoader(TwoViews(folder), given.batch, shuffle=True, drop_last=True, num_workers=os.cpu_count() or 1)

    def steps() -> Iterator[None]:
        while True:
            for x_query, x_key in loader:
                update_momentum(query, key, 0.99)
                seen = query(x_query)
                with torch.no_grad():
                    expected = key(x_key)
                loss = criterion(seen, expected)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                yield

    training = steps()
    return {"cells_per_s": given.batch / seconds_a_step(lambda: next(training), given.steps)}


class TwoViews:
    """A map-style data set, like those of lightly's transforms: an image in, a list of its views out."""

    def __init__(self, folder: Path) -> None:
        self.crops = np.load(folder / "crops.npy", mmap_mode="r")
        self.transform = torchvision_context(SIDE_PX)

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, row: int) -> list[Any]:
        import torch

        crop = torch.from_numpy((self.crops[row] >> 4).astype(np.uint8))
        return [self.transform(crop) for _ in range(2)]


def measure_memory(folder: Path, given: argparse.Namespace) -> dict[str, float]:
    """Measure the anonymous memory of a short training of a small network: mostly that of the crops."""
    from cellssl.learning.training.loop import train

    cells = len(np.load(folder / "crops.npy", mmap_mode="r"))
    small = {"encoder": {"name": "small", "widths": [4, 8]}, "input_px": 32}
    state, plan = prepared(folder, {"centre": branch(CENTRE)}, 128, cells, **small)
    steps = train(state, plan)
    for _ in range(12):
        next(steps)
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return {"anonymous_mb": int(found[1]) / 1024 if found else float("nan")}


MEASURES: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {
    "ours": measure_ours,
    "lightly": measure_lightly,
    "memory": measure_memory,
}


def branch(view: tuple[Any, ...], *, symmetric: bool = True) -> dict[str, Any]:
    """Return a branch with the paper's objective."""
    objective = {"name": "moco", "queue": 512, "symmetric": symmetric, "mask_same_cell": True}
    return {"view": list(view), "objective": objective}


def prepared(folder: Path, branches: dict[str, Any], batch: int, cells: int, **more: Any) -> Any:
    """Return state and plan as the stage builds them."""
    from cellssl.learning.training.memory import keep_freed_memory

    keep_freed_memory()
    import pandas as pd

    from cellssl.device import device_for
    from cellssl.stages.pretrain.networks import prepare
    from cellssl.stages.pretrain.settings import Settings
    from cellssl.stages.shared.scaled_crops import ScaledCrops

    table = pd.DataFrame({"part": "plate", "crop_row": range(cells)})
    scale = pd.DataFrame({"part": "plate", "channel": ["dna", "tubulin", "actin"], "low": 0.0, "high": 4095.0})
    part: Any = SimpleNamespace(file=lambda name: folder / name)
    crops = ScaledCrops({"plate": part}, scale, table)
    section = {"encoder": "vgg13", "batch": batch, "epochs": 1000, "branches": branches}
    settings = Settings.model_validate(section | more)
    return prepare(settings, crops, [str(row) for row in range(cells)], 0, device_for("auto"))


def write_stack(folder: Path, cells: int) -> None:
    """Write crops to disk: noise in the first few hundred, then a hole in the file, which takes no space on the
    disk.
    """
    shape = (cells, CHANNELS, SIDE_PX, SIDE_PX)
    noise = np.random.default_rng(0).integers(0, 4096, (min(cells, CELLS), *shape[1:]), dtype="<u2")
    with (folder / "crops.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<u2", "fortran_order": False, "shape": shape})
        begin = file.tell()
        file.write(noise.tobytes())
        file.truncate(begin + 2 * int(np.prod(shape)))


def seconds_of(step: Callable[[], object]) -> float:
    """Time one step."""
    start_s = time.perf_counter()
    step()
    return time.perf_counter() - start_s


def seconds_a_step(step: Callable[[], object], steps: int) -> float:
    """Return the mean over the timed steps, after two warm-up steps."""
    for _ in range(2):
        step()
    start_s = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start_s) / steps


def _threads() -> int:
    import torch

    return torch.get_num_threads()


if __name__ == "__main__":
    main()
