"""small_step: print what a step of the demo's training costs, against the networks alone, and where the time goes.

python benchmarks/small_step.py [--rounds 40]

The settings are those of recipes/demo.toml: the encoder `small`, 48 px from crops of 68 px, batches of 128, two
branches with MoCo. The networks alone do their part of a step, on tensors that are ready: forward and backward of
encoder and projector, forward of their momentum copies, for every branch. All parts alternate with whole steps in one
process, each by itself, on one thread; the medians of their processor times are printed, which other work on the
machine changes less than the time on the clock.
"""

from __future__ import annotations

import argparse
import os
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

CELLS, CROP_PX, CHANNELS = 1500, 68, 3
RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "demo.toml"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # read by torch when it is loaded, and by whoever renders
    from cellssl.learning.training.memory import keep_freed_memory

    keep_freed_memory()
    show(measured(parts_of_a_step(), given.rounds))


def measured(parts: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of processor time of every part in every round, after three rounds of warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds + 3):
        for name, work in parts.items():
            start_s = time.process_time()
            work()
            taken[name].append(1000 * (time.process_time() - start_s))
    return {name: times[3:] for name, times in taken.items()}


def show(taken: dict[str, list[float]]) -> None:
    """Print the ratio and the share of every part; what no part explains is the rest."""
    from cellssl.learning.training.drawing import STEPS_AT_ONCE

    parts = {name: median(times) for name, times in taken.items()}
    parts["drawing of views"] /= STEPS_AT_ONCE
    parts["loss"] -= parts.pop("projectors of the loss")  # they are counted among the networks
    step, encoders = parts.pop("step"), parts.pop("encoders alone")
    parts["rest"] = step - sum(parts.values())
    print(f"a step of the demo on one thread: {step:.1f} ms")
    print(f"  {step / parts['networks']:.2f} times encoders and projectors on ready tensors")
    print(f"  {step / encoders:.2f} times the encoders alone")
    for name, ms in parts.items():
        print(f"  {name:20} {ms:7.2f} ms  {ms / step:6.1%}")


def prepared() -> Any:
    """Return state and plan of the demo's training, as the stage builds them."""
    import numpy as np
    from objectives import Cells

    from cellssl.device import device_for
    from cellssl.stages.pretrain.networks import prepare
    from cellssl.stages.pretrain.settings import Settings

    section = tomllib.loads(RECIPE.read_text(encoding="utf-8"))["pretrain"]
    settings = Settings.model_validate(section | {"epochs": 100_000})
    shape = (CELLS, CHANNELS, CROP_PX, CROP_PX)
    crops: Any = Cells(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    return prepare(settings, crops, [str(cell) for cell in range(CELLS)], 0, device_for("cpu"))


def parts_of_a_step() -> dict[str, Callable[[], object]]:
    """Return the step and its parts, each to be called again and again.

    The parts that change weights work on a second state, so that the steps are those of a real training.
    """
    import torch

    from cellssl.device import autocast
    from cellssl.learning.methods.base import MethodInput, ema_update
    from cellssl.learning.training.diagnostics import feature_statistics, read_metrics
    from cellssl.learning.training.drawing import STEPS_AT_ONCE, drawn_steps
    from cellssl.learning.training.loop import train

    state, plan = prepared()
    other, beside = prepared()
    steps = train(state, plan)
    size, views = plan.batches.size, len(plan.branches[0].views)
    ready = torch.rand(views * size, CHANNELS, plan.side_px, plan.side_px).contiguous(memory_format=torch.channels_last)
    cells = plan.cell_keys[:size]
    features, keys = torch.rand(views, size, state.encoder.out_dim), torch.rand(views, size, state.encoder.out_dim)
    shape = (CHANNELS, CROP_PX, CROP_PX)
    drawn = drawn_steps(plan.drawer, plan.cells_of, range(plan.steps), shape, in_background=False)
    rows = plan.batches.rows(0)
    crops = plan.read(rows)

    def networks(with_projectors: bool = True) -> None:
        for branch in beside.branches:
            with autocast(plan.device, plan.dtype):
                online = other.encoder(ready)
            seen = branch.objective.projector(online.float()) if with_projectors else online.float()
            seen.square().mean().backward()
            with torch.no_grad(), autocast(plan.device, plan.dtype):
                momentum = other.momentum_encoder(ready)
            if with_projectors:
                with torch.no_grad():
                    branch.objective.momentum_projector(momentum.float())

    def losses() -> None:
        for branch in beside.branches:
            online = features.clone().requires_grad_()
            branch.objective(MethodInput(online, keys, cells))[0].backward()

    def projectors() -> None:
        for branch in beside.branches:
            online = features.clone().requires_grad_()
            branch.objective.projector(online).square().mean().backward()
            with torch.no_grad():
                branch.objective.momentum_projector(keys)

    def update() -> None:
        other.optimizer.step()
        ema_update(other.momentum_encoder, other.encoder, plan.momentum)
        for branch in beside.branches:
            branch.objective.after_step()

    def metrics() -> None:
        found = {"gradient_norm": other.clip_gradient(plan.clip_norm)}
        for branch in beside.branches:
            found |= {branch.name + name: value for name, value in feature_statistics(features[0], 1).items()}
        read_metrics([found], plan.device)

    def draw() -> None:
        for _ in range(STEPS_AT_ONCE):
            next(drawn)

    def render() -> None:
        for each in latest:
            each.render(crops)

    latest = next(drawn)
    return {
        "step": lambda: next(steps),
        "networks": networks,
        "encoders alone": lambda: networks(with_projectors=False),
        "rendering of views": render,
        "loss": losses,
        "projectors of the loss": projectors,
        "update of weights": update,
        "metrics": metrics,
        "reading": lambda: plan.read(rows),
        "drawing of views": draw,
    }


if __name__ == "__main__":
    main()
