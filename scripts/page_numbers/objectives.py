"""objectives: benchmarks of the objectives in; their accuracies, costs, and which factors of an image survive, out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import fmean, median
from typing import Any

from page_numbers import markdown
from page_numbers.algorithms import Algorithms, of_plugins, of_settings, of_stages
from page_numbers.workplace import Workplace, benchmark

EPOCHS, SEEDS = 8, (0, 1, 2)
FACTOR_EPOCHS, FACTOR_SEEDS = 5, (0, 1, 2, 3, 4)
ARM_TITLES = {"simclr": "SimCLR", "simclr + ifm": "SimCLR with IFM", "moco": "MoCo", "looc": "LooC"}
PAIR_TITLES = {("simclr + ifm", "simclr"): "IFM - without", ("looc", "moco"): "LooC - MoCo"}


def algorithms() -> Algorithms:
    """Return what the table of objectives stands on."""
    made = benchmark("objectives")
    found = of_stages("pretrain", "embed", "evaluate") | of_plugins("cellssl.datasets", "simulated")
    for row in made.ROWS.values():
        encoder = made.PATCHES if row["name"] == "mae" else made.CONVOLUTIONS
        found |= _of_branch(encoder, {"view": made.VIEW, "objective": row})
    return found


def factor_algorithms() -> Algorithms:
    """Return what the table of factors stands on."""
    made = benchmark("trifeature")
    found = of_stages("pretrain", "embed")
    for branch in made.ARMS.values():
        found |= _of_branch(made.CONVOLUTIONS, branch)
    return found


def _of_branch(encoder: Any, branch: Any) -> Algorithms:
    from cellssl.stages.pretrain.settings import Settings

    return of_settings(Settings.model_validate({"encoder": encoder, "branches": {"main": branch}}))


def table(work: Workplace) -> str:
    """Run what is missing of the benchmark; return accuracy and cost of every objective, best first."""
    made = benchmark("objectives")
    cells = made.load_or_simulate(work.folder / "cells.npz")
    runs = []
    for seed in SEEDS:
        for name, row in made.ROWS.items():
            one = work.kept(f"{name.replace(', ', '-')}-{seed}", partial(made.measure, cells, row, seed, EPOCHS))
            runs.append({"row": name, "seed": seed, **one})
    return as_table(runs)


def as_table(runs: Sequence[dict[str, Any]]) -> str:
    """Return the accuracies of the untrained encoders, and one row per objective, best first."""
    rows = {name: [run for run in runs if run["row"] == name] for name in dict.fromkeys(run["row"] for run in runs)}
    order = sorted(rows, key=lambda name: (_wins(rows[name]) < len(SEEDS), -fmean(_accuracies(rows[name]))))
    header = ["objective", "kNN accuracy, by seed", "above untrained in", "ms per step", "MB kept", "MB per step"]
    lines = [
        ["untrained", _by_seed([run["untrained"] for run in rows["moco"]]), "", "", "", ""],
        ["untrained, the encoder of `mae`", _by_seed([run["untrained"] for run in rows["mae"]]), "", "", "", ""],
    ]
    return markdown.table(header, [*lines, *(_line(name, rows[name]) for name in order)])


def _line(name: str, own: Sequence[dict[str, Any]]) -> list[str]:
    step_ms = f"{median(run['step_ms'] for run in own):.0f}"
    memory = f"{own[0]['state_mb']:.1f}", f"{own[0]['backward_mb']:.0f}"
    return [name, _by_seed(_accuracies(own)), f"{_wins(own)} of {len(own)}", step_ms, *memory]


def _accuracies(own: Sequence[dict[str, Any]]) -> list[float]:
    return [run["accuracy"] for run in own]


def _wins(own: Sequence[dict[str, Any]]) -> int:
    return sum(run["accuracy"] > run["untrained"] for run in own)


def _by_seed(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def factors(work: Workplace) -> str:
    """Run what is missing of the benchmark; return how well each factor is predicted, and the paired differences."""
    made = benchmark("trifeature")
    pixels, truth = made.images()
    runs = {
        (arm, seed): work.kept(f"{arm.replace(' ', '')}-{seed}", partial(_factor_run, made, arm, seed, pixels, truth))
        for arm in made.ARMS
        for seed in FACTOR_SEEDS
    }
    return factor_table(runs, made.FACTORS)


def _factor_run(made: Any, arm: str, seed: int, pixels: Any, truth: Any) -> dict[str, dict[str, float]]:
    """Train once; return the accuracies of every factor before and after."""
    import numpy as np

    train = np.arange(len(pixels)) % 3 > 0
    cells, branch = {"pixels": pixels}, made.ARMS[arm]
    state, plan = made.prepare_training(cells, train, branch, made.CONVOLUTIONS, seed, FACTOR_EPOCHS)
    before = made.linear_accuracy(state.encoder, pixels, truth, train)
    made.train_to_end(state, plan)
    return {"before": before, "after": made.linear_accuracy(state.encoder, pixels, truth, train)}


def factor_table(runs: dict[tuple[str, int], dict[str, dict[str, float]]], names: Sequence[str]) -> str:
    """Return one row per arm and one per difference."""
    arms = {"untrained": ("simclr", "before"), **{title: (arm, "after") for arm, title in ARM_TITLES.items()}}
    lines = [
        [title, *(markdown.mean_sd([runs[arm, seed][when][name] for seed in FACTOR_SEEDS], 3) for name in names)]
        for title, (arm, when) in arms.items()
    ]
    for (one, other), title in PAIR_TITLES.items():
        gains = [
            [runs[one, seed]["after"][name] - runs[other, seed]["after"][name] for seed in FACTOR_SEEDS]
            for name in names
        ]
        above = [f"above in {sum(gain > 0 for gain in each)} of {len(each)}" for each in gains]
        means = [markdown.mean_sd(each, 3, sign="+") for each in gains]
        lines.append([title, *(f"{mean}, {wins}" for mean, wins in zip(means, above, strict=True))])
    return markdown.table(["", *names], lines)
