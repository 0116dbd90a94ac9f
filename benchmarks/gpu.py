"""gpu: print how fast the paper's training runs on a GPU, how, and beside lightly; write it as JSON, too.

    python benchmarks/gpu.py --out gpu.json                  # six minutes at most, on one H100 or H200
    python benchmarks/gpu.py --device cpu --tiny             # the same code in seconds; its numbers mean nothing

VGG13 at 196 px, batches of 128 cells, two branches, symmetric MoCo v2: so four views per cell and step. Rows:
the network eager, compiled, eager with convolutions that cuDNN chooses by trial, and compiled with CUDA graphs; the
views alone, as they are and with compiled colour operations; and the same work from lightly's and torchvision's parts,
with views from a DataLoader, and with views on the device, where torchvision draws once for a whole batch.

Rows take turns, a block of steps each, so that a GPU that gets warm slows all of them; only the row with a DataLoader
runs alone, because its workers would work ahead during the turns of the others. The interval is a bootstrap over
blocks. Shares are of --peak; an H100 or H200 does 989e12 operations per second in bfloat16 without sparsity.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from objectives import Cells
from views import CONTEXT, JITTER, torchvision_context

from cellssl.device import device_for
from cellssl.errors import UsageError
from cellssl.learning.training.loop import Plan, train
from cellssl.learning.training.state import TrainState
from cellssl.learning.view import render_all
from cellssl.randomness import Keys, generator

PAPER_CELLS, PAPER_EPOCHS, PAPER_BATCH = 2450, 400, 128
PAPER_STEPS = math.ceil(PAPER_EPOCHS * PAPER_CELLS / PAPER_BATCH)
CENTRE = (*CONTEXT[:4], {"name": "center_crop", "side": 0.5})
VIEWS = {"context": CONTEXT, "centre": CENTRE}
PEAKS = {"H100": 989.0, "H200": 989.0}
"""1e12 operations per second in bfloat16 without sparsity, as the maker gives them for the SXM form."""
RESAMPLES = 2000
STARTING_SHARE = 0.45
"""Share of the time after which no further row is prepared, so that those that are get measured."""
FEWEST_BLOCKS = 2
"""Blocks of every row that was prepared, however late it is."""
ALONE_RESERVE_S = 70.0
"""Seconds that are left for the row with a DataLoader: its workers start, fill their queue, and are measured."""


@dataclass(frozen=True)
class Sizes:
    """The work of a step, and how often it is measured."""

    encoder: Any = "vgg13"
    side_px: int = 196
    batch: int = PAPER_BATCH
    cells: int = PAPER_CELLS
    queue: int = 1024
    block: int = 20
    """Steps between two reads of the clock."""
    blocks: int = 10
    workers: int = os.cpu_count() or 1
    alone_s: float = 40.0
    """Seconds for the row with a DataLoader."""


TINY = Sizes({"name": "small", "widths": [4, 8]}, 16, 4, 12, 8, block=2, blocks=2, workers=1, alone_s=1.0)


@dataclass
class Row:
    """What was measured of one way to do the work; None where it was not measured, and why in `note`."""

    name: str
    note: str = ""
    seconds: list[float] = field(default_factory=list)
    """Of every block."""
    steps: list[int] = field(default_factory=list)
    """In every block."""
    start_s: float | None = None
    """Seconds until the first block was over: compiling, trials, starting workers."""
    waiting: list[float] = field(default_factory=list)
    """Share of every block in which the step waited for crops or views."""
    memory_gb: float | None = None
    waits_per_step: float | None = None
    """How often a step made the CPU wait for the GPU."""


Block = Callable[[], tuple[int, float]]
"""Does a block of steps; returns how many, and the share of the time in which they waited for data."""


def noise(sizes: Sizes) -> Cells:
    """Return crops of noise in memory."""
    shape = (min(sizes.cells, 256), 3, sizes.side_px, sizes.side_px)
    pixels = generator("benchmark", "gpu").integers(0, 256, shape, dtype="uint8")
    return Cells(np.resize(pixels, (sizes.cells, *shape[1:])))


def prepared(sizes: Sizes, device: torch.device) -> tuple[TrainState, Plan]:
    """Return state and plan as the stage builds them, with a block of steps between two reads of the metrics."""
    from cellssl.stages.pretrain.networks import prepare
    from cellssl.stages.pretrain.settings import Settings

    objective = {"name": "moco", "queue": sizes.queue, "symmetric": True, "mask_same_cell": True}
    branches = {name: {"view": list(view), "objective": objective} for name, view in VIEWS.items()}
    branches["context"]["weight"] = 0.4
    section = {"encoder": sizes.encoder, "batch": sizes.batch, "epochs": 10_000, "branches": branches}
    crops: Any = noise(sizes)
    ids = [str(row) for row in range(len(crops))]
    state, plan = prepare(Settings.model_validate(section), crops, ids, 0, device)
    return state, replace(plan, read_every=sizes.block)


def training(sizes: Sizes, device: torch.device, *, compiled: bool = False, graphs: bool = False) -> Block:
    """Return a block of the tool's own loop."""
    from cellssl.learning.training.compilation import compile_encoders

    state, plan = prepared(sizes, device)
    if compiled:
        compile_encoders(state, cuda_graphs=graphs)
    steps = train(state, plan)

    def block() -> tuple[int, float]:
        done = [next(steps) for _ in range(sizes.block)]
        return len(done), done[-1].timings["waiting_share"]

    return block


def training_with_trials(sizes: Sizes, device: torch.device) -> Block:
    """Return a block of the loop in which cuDNN tries its algorithms for each shape once."""
    block = training(sizes, device)

    def with_trials() -> tuple[int, float]:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            return block()

    return with_trials


def views_alone(sizes: Sizes, device: torch.device, *, compiled: bool = False) -> Block:
    """Return a block in which only the views of a step are rendered."""
    _, plan = prepared(sizes, device)
    step = iter(range(10**9))

    def block() -> tuple[int, float]:
        with compiled_colours() if compiled else nullcontext():
            for _ in range(sizes.block):
                rows = plan.batches.rows(next(step))
                crops, keys = plan.read(rows), Keys(plan.cell_keys[torch.from_numpy(rows)])
                for branch in plan.branches:
                    render_all(branch.views, crops, keys.fold(int(rows[0]), branch.name), plan.side_px)
        return sizes.block, 0.0

    return block


_COMPILED: dict[str, Any] = {}


@contextmanager
def compiled_colours() -> Iterator[None]:
    """Let colour jitter run compiled operations, for any number of cells at once."""
    from cellssl.learning.transforms import color_jitter

    before = color_jitter.OPERATIONS
    for name, change, _ in before:
        _COMPILED.setdefault(name, torch.compile(change, dynamic=True))
    color_jitter.OPERATIONS = tuple((name, _COMPILED[name], nothing) for name, _, nothing in before)
    try:
        yield
    finally:
        color_jitter.OPERATIONS = before


def torchvision_centre(side: int) -> Any:
    """Return the transforms of the branch "centre" from torchvision."""
    from torchvision.transforms import InterpolationMode, v2

    return v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.ColorJitter(**JITTER),
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.RandomRotation(360, interpolation=InterpolationMode.BILINEAR),
            v2.CenterCrop(side // 2),
            v2.Resize(side),
        ]
    )


class FourViews:
    """A map-style data set, like those of lightly's transforms: an image in, two views of each branch out."""

    def __init__(self, sizes: Sizes) -> None:
        self.crops = torch.from_numpy(noise(sizes).pixels)
        self.transforms = [torchvision_context(sizes.side_px), torchvision_centre(sizes.side_px)]

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, row: int) -> list[torch.Tensor]:
        return [transform(self.crops[row]) for transform in self.transforms for _ in range(2)]

    def batch(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Return the views of a batch on its device; each transform draws once for all of its images."""
        crops = self.crops[rows]
        return [transform(crops) for transform in self.transforms for _ in range(2)]


class Lightly:
    """The same networks, losses and optimiser from lightly's own parts, assembled as in its documentation."""

    def __init__(self, sizes: Sizes, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        from lightly.loss import NTXentLoss
        from lightly.models.modules import MoCoProjectionHead
        from lightly.models.utils import deactivate_requires_grad

        self.device, self.dtype = device, dtype
        trunk, width = lightly_trunk(sizes)
        self.query = torch.nn.ModuleList([trunk, *[MoCoProjectionHead(width, 512, 128) for _ in VIEWS]]).to(device)
        self.key = copy.deepcopy(self.query)
        deactivate_requires_grad(self.key)
        memory = (max(sizes.queue, sizes.batch), 128)
        self.losses = [[NTXentLoss(0.07, memory_bank_size=memory).to(device) for _ in range(2)] for _ in VIEWS]
        self.optimizer = torch.optim.Adam(self.query.parameters(), lr=0.001, weight_decay=0.0001)

    def step(self, views: list[torch.Tensor]) -> None:
        """Train one step on two views of each branch."""
        from lightly.models.utils import update_momentum

        from cellssl.device import autocast

        update_momentum(self.query, self.key, 0.99)
        total = torch.zeros((), device=self.device)
        for number, losses in enumerate(self.losses):
            pair = views[2 * number : 2 * number + 2]
            with autocast(self.device, self.dtype):
                seen = [self._project(self.query, number, view) for view in pair]
                with torch.no_grad():
                    expected = [self._project(self.key, number, view) for view in pair]
            total = (
                total
                + (losses[0](seen[0].float(), expected[1].float()) + losses[1](seen[1].float(), expected[0].float()))
                / 2
            )
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()

    def _project(self, network: Any, branch: int, view: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = network[1 + branch](network[0](view))
        return projected


def lightly_trunk(sizes: Sizes) -> tuple[torch.nn.Module, int]:
    """Return the same encoder, and the number of its features; VGG13 from torchvision."""
    import torchvision

    if sizes.encoder == "vgg13":
        features = torchvision.models.vgg13(weights=None).features
        return torch.nn.Sequential(features, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()), 512
    from cellssl.config.settings import PluginField

    network = PluginField("cellssl.learning.encoders").choose(sizes.encoder).build(3)
    return network, network.out_dim


def lightly_on_device(sizes: Sizes, device: torch.device, dtype: torch.dtype = torch.float32) -> Block:
    """Return a block of lightly's training with views on the device."""
    trained, data = Lightly(sizes, device, dtype), FourViews(sizes)
    data.crops = data.crops.to(device)

    def block() -> tuple[int, float]:
        for _ in range(sizes.block):
            trained.step(data.batch(torch.randperm(len(data), device=device)[: sizes.batch]))
        return sizes.block, 0.0

    return block


def lightly_with_loader(sizes: Sizes, device: torch.device) -> Block:
    """Return a block of lightly's training with views from a DataLoader; its first batches were made before."""
    from torch.utils.data import DataLoader

    trained = Lightly(sizes, device)
    loader = DataLoader(
        FourViews(sizes), sizes.batch, shuffle=True, drop_last=True, num_workers=sizes.workers,
        pin_memory=device.type == "cuda", persistent_workers=True,
    )  # fmt: skip

    def endless() -> Iterator[list[torch.Tensor]]:
        while True:
            yield from loader

    batches = endless()

    def block(steps: int = max(1, sizes.block // 4)) -> tuple[int, float]:
        began_s, waited_s = time.perf_counter(), 0.0
        for _ in range(steps):
            asked_s = time.perf_counter()
            views = [view.to(device, non_blocking=True) for view in next(batches)]
            waited_s += time.perf_counter() - asked_s
            trained.step(views)
        finish(device)
        return steps, waited_s / (time.perf_counter() - began_s)

    block(2 * sizes.workers)  # so many batches are ready before the first step
    return block


TAKING_TURNS: dict[str, Callable[[Sizes, torch.device], Block]] = {
    "eager": training,
    "compiled": partial(training, compiled=True),
    "views": views_alone,
    "views-compiled": partial(views_alone, compiled=True),
    "lightly-device": lightly_on_device,
    "lightly-device-bfloat16": partial(lightly_on_device, dtype=torch.bfloat16),
    "eager-trials": training_with_trials,
    "compiled-graphs": partial(training, compiled=True, graphs=True),
}
ALONE: dict[str, Callable[[Sizes, torch.device], Block]] = {"lightly-loader": lightly_with_loader}
TITLES = {
    "eager": "cellssl, eager",
    "compiled": "cellssl, compiled",
    "views": "cellssl, views alone",
    "views-compiled": "cellssl, views alone, colours compiled",
    "lightly-device": "lightly, float32, views on the device",
    "lightly-device-bfloat16": "lightly, bfloat16, views on the device",
    "eager-trials": "cellssl, eager, cuDNN tries algorithms",
    "compiled-graphs": "cellssl, compiled, CUDA graphs",
    "lightly-loader": "lightly, float32, views from a DataLoader",
}
"""The ways to do the work, in the order in which they are prepared: what is most likely to fail comes last."""


def finish(device: torch.device) -> None:
    """Wait until the device has done all."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(sizes: Sizes, device: torch.device, names: list[str], deadline_s: float) -> list[Row]:
    """Return what was measured of these rows, until the time is over."""
    rows = {name: Row(TITLES[name]) for name in names}
    start_until_s = time.monotonic() + STARTING_SHARE * (deadline_s - time.monotonic())
    turns_until_s = deadline_s - (ALONE_RESERVE_S if ALONE.keys() & set(names) else 0.0)
    blocks = {}
    for name in (name for name in TAKING_TURNS if name in names):
        if time.monotonic() < start_until_s:
            blocks[name] = started(rows[name], TAKING_TURNS[name], sizes, device)
    for number in range(sizes.blocks):
        for name, block in blocks.items():
            if block is not None and (number < FEWEST_BLOCKS or time.monotonic() < turns_until_s):
                one_more(rows[name], block, device)
    blocks.clear()
    for name in names:
        if name in ALONE and (block := started(rows[name], ALONE[name], sizes, device)) is not None:
            until_s = min(deadline_s, time.monotonic() + sizes.alone_s)
            while len(rows[name].seconds) < FEWEST_BLOCKS or time.monotonic() < until_s:
                one_more(rows[name], block, device)
    return list(rows.values())


def started(
    row: Row, build: Callable[[Sizes, torch.device], Block], sizes: Sizes, device: torch.device
) -> Block | None:
    """Return a block that was run once, or None where it cannot run; note its memory and what makes it wait."""
    began_s, before = time.perf_counter(), memory_bytes(device, reset=True)
    try:
        block = build(sizes, device)
        block()
        finish(device)
        row.start_s = time.perf_counter() - began_s
        row.waits_per_step = count_waits(block, device)
    except ModuleNotFoundError as error:
        row.note = f"{error.name} is not installed"
    except Exception as error:  # a row that fails must not take the others with it
        traceback.print_exc()
        row.note = f"failed: {type(error).__name__}"
    else:
        row.memory_gb = (memory_bytes(device) - before) / 1e9
        print(f"{row.name}: ready after {row.start_s:.0f} s", file=sys.stderr)
        return block
    print(f"{row.name}: {row.note}", file=sys.stderr)
    return None


def one_more(row: Row, block: Block, device: torch.device) -> None:
    """Measure one block."""
    finish(device)
    began_s = time.perf_counter()
    steps, waiting = block()
    finish(device)
    row.seconds.append(time.perf_counter() - began_s)
    row.steps.append(steps)
    row.waiting.append(waiting)


def memory_bytes(device: torch.device, *, reset: bool = False) -> float:
    """Return the peak of the device's memory, or with `reset` what is in use; on a CPU of the process."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return float(torch.cuda.max_memory_allocated(device))
    from cellssl.engine.resources import peak_memory_mb

    return 1e6 * peak_memory_mb()


def count_waits(block: Block, device: torch.device) -> float | None:
    """Return how often a step waits for the GPU, as torch warns of it; None on a CPU."""
    if device.type != "cuda":
        return None
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            steps, _ = block()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(one.message) for one in seen) / steps


def operations_per_step(sizes: Sizes, device: torch.device) -> float:
    """Return the floating-point operations of one step, counted by torch in an eager one."""
    from torch.utils.flop_counter import FlopCounterMode

    state, plan = prepared(sizes, device)
    steps = train(state, replace(plan, read_every=1))
    with FlopCounterMode(display=False) as counter:
        next(steps)
    return float(counter.get_total_flops())


def rates(row: Row, batch: int) -> np.ndarray | None:
    """Return cells per second: measured, then of every bootstrap sample of the blocks; None where none was measured."""
    if not row.seconds:
        return None
    seconds, steps = np.array(row.seconds), np.array(row.steps)
    chosen = generator("benchmark", "bootstrap").integers(0, len(seconds), (RESAMPLES, len(seconds)))
    samples = steps[chosen].sum(axis=1) / seconds[chosen].sum(axis=1)
    return batch * np.array([steps.sum() / seconds.sum(), *samples])


def summary(row: Row, peers: list[Row], sizes: Sizes, operations: float, peak: float | None) -> dict[str, Any]:
    """Return the numbers of a row for the table and the JSON file."""
    found: dict[str, Any] = {
        "row": row.name,
        "note": row.note,
        "blocks": len(row.seconds),
        "steps": sum(row.steps),
        "start_s": row.start_s,
        "memory_gb": row.memory_gb,
        "waits_per_step": row.waits_per_step,
        "data_wait": float(np.average(row.waiting, weights=row.seconds)) if row.seconds else None,
    }
    own = rates(row, sizes.batch)
    if own is None:
        return found
    trains = "views alone" not in row.name
    terms = {"cells_per_s": own}
    if trains:
        terms["teraflops"] = own / sizes.batch * operations / 1e12
        if peak is not None:
            terms["share_of_peak"] = terms["teraflops"] / peak
    if trains and sizes != TINY:
        terms["paper_minutes"] = PAPER_STEPS * PAPER_BATCH / own / 60
    for peer in peers:
        theirs = rates(peer, sizes.batch)
        if trains and theirs is not None and peer is not row:
            terms[f"times {peer.name}"] = own / theirs
    for name, values in terms.items():
        low, high = np.quantile(values[1:], (0.025, 0.975))
        found[name] = {"value": float(values[0]), "low": float(low), "high": float(high)}
    return found


def show(found: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(
        f"{'':44}{'cells/s (95 % interval)':>28}{'1e12/s':>8}{'peak':>7}{'wait':>7}{'GB':>7}{'waits':>7}  paper's run"
    )
    for one in found:
        speed = one.get("cells_per_s")
        if speed is None:
            print(f"{one['row']:44}{one['note'] or 'not measured: the time was over'}")
            continue
        text = f"{speed['value']:,.1f} ({speed['low']:,.1f} to {speed['high']:,.1f})"
        line = f"{one['row']:44}{text:>28}"
        if "teraflops" in one:
            share, waits = one.get("share_of_peak"), one["waits_per_step"]
            line += f"{one['teraflops']['value']:8.1f}{'-' if share is None else format(share['value'], '.1%'):>7}"
            line += f"{one['data_wait']:7.1%}{one['memory_gb']:7.1f}{'-' if waits is None else f'{waits:.2f}':>7}"
        if "paper_minutes" in one:
            minutes = one["paper_minutes"]
            line += f"  {minutes['value']:,.1f} min ({minutes['low']:,.1f} to {minutes['high']:,.1f})"
        print(line)
    for one in found:
        for name, ratio in one.items():
            if name.startswith("times ") and one["row"].startswith("cellssl"):
                print(f"{one['row']} / {name[6:]}: {ratio['value']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny network and few steps, to try the code")
    parser.add_argument("--rows", default=",".join(TITLES), help="which rows, of %(default)s")
    parser.add_argument("--peak", type=float, help="1e12 operations per second; known for an H100 and an H200")
    parser.add_argument("--budget-s", type=float, default=330.0, help="aim of the whole run, which may last 30 s more")
    parser.add_argument("--out", type=Path, help="the JSON file")
    given = parser.parse_args()
    names = given.rows.split(",")
    if unknown := set(names) - TITLES.keys():
        parser.error(f"there is no row {', '.join(sorted(unknown))}")
    deadline_s = time.monotonic() + given.budget_s
    try:
        sizes, device = TINY if given.tiny else Sizes(), device_for(given.device)
    except UsageError as error:
        parser.error(f"{error.message}; {error.hint}")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    peak = given.peak or next((peak for model, peak in PEAKS.items() if model in name), None)
    operations = operations_per_step(sizes, device)
    rows = measure(sizes, device, names, deadline_s)
    peers = [row for row in rows if row.name.startswith("lightly")]
    found = [summary(row, peers, sizes, operations, peak) for row in rows]
    print(f"{sizes.encoder}, {sizes.side_px} px, batch {sizes.batch}, {len(VIEWS)} branches, symmetric, on {name}:")
    show(found)
    if given.out is not None:
        about = {"device": name, "torch": torch.__version__, "tiny": given.tiny, "operations_per_step": operations}
        given.out.write_text(json.dumps({**about, "peak_1e12": peak, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
