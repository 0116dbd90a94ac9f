"""trifeature: prints which of three independent factors of an image a contrastive loss keeps: colour, shape, texture.

    nice python benchmarks/trifeature.py --out /tmp/trifeature [--epochs 5] [--seeds 0 1 2 3 4]

Every image shows one of 8 shapes in one of 8 colours with one of 8 textures, at a random place, size and rotation. Two
questions: does implicit feature modification keep more factors (SimCLR, views that do not change the colour), and does
LooC keep the colour where the views change it (compared with MoCo with the same settings)? Each factor is predicted by
linear regression from the trunk; differences are paired by seed and printed whatever their sign. After Hermann and
Lampinen 2020 (arXiv:2006.12433). Results are kept in --out, so that the same command continues where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from objectives import ALL_PAIRS, CONVOLUTIONS, INPUT_PX, QUEUED, prepare_training, represent, train_to_end

KINDS, SIDE_PX, IMAGES, RIDGE = 8, 40, 2304, 1.0
FACTORS = ("colour", "shape", "texture")
PLAIN = ("horizontal_flip", {"name": "random_resized_crop", "scale": (0.5, 1.0)})
JITTER = {"name": "color_jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.5}
ARMS: dict[str, dict[str, Any]] = {
    "simclr": {"view": PLAIN, "objective": {"name": "simclr", **ALL_PAIRS}},
    "simclr + ifm": {"view": PLAIN, "objective": {"name": "simclr", **ALL_PAIRS, "ifm_epsilon": 0.1}},
    "moco": {"view": (JITTER, *PLAIN), "objective": {"name": "moco", **QUEUED}},
    "looc": {"view": (JITTER, *PLAIN), "objective": {"name": "looc", **QUEUED, "sensitive_to": ("color_jitter",)}},
}
PAIRS = (("simclr + ifm", "simclr"), ("looc", "moco"))


def main() -> None:
    """Run every arm and seed, then print the differences."""
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    import torch

    torch.set_num_threads(1)
    pixels, factors = images()
    train = np.arange(IMAGES) % 3 > 0
    runs: dict[tuple[str, int], dict[str, float]] = {}
    for seed in arguments.seeds:
        for arm, branch in ARMS.items():
            kept = arguments.out / f"{arm.replace(' ', '')}-{seed}-{arguments.epochs}.json"
            if not kept.is_file():
                state, plan = prepare_training({"pixels": pixels}, train, branch, CONVOLUTIONS, seed, arguments.epochs)
                start = (
                    linear_accuracy(state.encoder, pixels, factors, train) if arm == "simclr" else {}
                )  # the same for all arms
                train_to_end(state, plan)
                after = linear_accuracy(state.encoder, pixels, factors, train)
                kept.write_text(json.dumps({**after, **{f"untrained {name}": value for name, value in start.items()}}))
                print(f"{arm:13} seed {seed}: {after}", flush=True)
            runs[arm, seed] = json.loads(kept.read_text())
    show(runs, arguments.seeds, arguments.epochs)


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("trifeature"))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    return parser.parse_args()


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (n, 3, y, x) and the factors of each image (n, 3); all combinations occur about equally often."""
    from cellssl.randomness import generator

    rng = generator("benchmark", "trifeature")
    combinations = np.stack(np.unravel_index(np.arange(IMAGES) % KINDS**3, (KINDS,) * 3), axis=1)
    factors = combinations[rng.permutation(IMAGES)]
    return np.stack([image(rng, *row) for row in factors]), factors


def image(rng: np.random.Generator, colour: int, shape: int, texture: int) -> np.ndarray:
    """Return one image with random nuisances: place, size, rotation, phase of the texture, noise."""
    import colorsys

    y, x = (np.mgrid[:SIDE_PX, :SIDE_PX] - (SIDE_PX - 1) / 2 + rng.uniform(-4, 4, (2, 1, 1))) / (SIDE_PX / 2)
    turn, size = rng.uniform(0, 2 * math.pi), rng.uniform(0.55, 0.8)
    u, v = (x * math.cos(turn) + y * math.sin(turn)) / size, (y * math.cos(turn) - x * math.sin(turn)) / size
    inside = outline(shape, u, v)
    light = 0.3 + 0.7 * pattern(texture, x * SIDE_PX / 2, y * SIDE_PX / 2, rng.uniform(0, 2 * math.pi, 2))
    red_green_blue = np.array(colorsys.hsv_to_rgb(colour / KINDS, 0.8, 1.0))
    drawn = np.where(inside, light, 0.0) * red_green_blue[:, None, None] + 0.1
    return (255 * (drawn + rng.normal(0, 0.02, drawn.shape)).clip(0, 1)).astype(np.uint8)


def outline(shape: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return whether points lie inside the shape: disc, ring, polygons, cross, flowers or bar."""
    far, angle = np.hypot(u, v), np.arctan2(v, u)

    def polygon(corners: int) -> np.ndarray:
        sector = 2 * math.pi / corners
        return far * np.cos((angle + sector / 2) % sector - sector / 2) < math.cos(math.pi / corners)

    choices = (
        lambda: far < 0.9,
        lambda: (far < 1.0) & (far > 0.5),
        lambda: polygon(3),
        lambda: polygon(4),
        lambda: (np.minimum(abs(u), abs(v)) < 0.28) & (np.maximum(abs(u), abs(v)) < 0.95),
        lambda: far < 0.65 + 0.3 * np.cos(5 * angle),
        lambda: far < 0.65 + 0.3 * np.cos(3 * angle),
        lambda: (abs(u) < 1.0) & (abs(v) < 0.4),
    )
    return np.asarray(choices[shape]())


def pattern(texture: int, x: np.ndarray, y: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """Return the brightness in [0, 1]: flat, stripes, checks, dots or rings, with wavelengths in px."""
    a, b = phase
    choices = (
        lambda: np.full_like(x, 0.7),
        lambda: np.sin(2 * math.pi * x / 4 + a) > 0,
        lambda: np.sin(2 * math.pi * y / 8 + a) > 0,
        lambda: np.sin(2 * math.pi * (x + y) / 6 + a) > 0,
        lambda: np.sin(2 * math.pi * x / 6 + a) * np.sin(2 * math.pi * y / 6 + b) > 0,
        lambda: np.sin(2 * math.pi * x / 10 + a) * np.sin(2 * math.pi * y / 10 + b) > 0,
        lambda: np.sin(2 * math.pi * x / 5 + a) + np.sin(2 * math.pi * y / 5 + b) > 0.8,
        lambda: np.sin(2 * math.pi * np.hypot(x, y) / 5 + a) > 0,
    )
    return np.asarray(choices[texture](), float)


def linear_accuracy(encoder: Any, pixels: np.ndarray, factors: np.ndarray, train: np.ndarray) -> dict[str, float]:
    """Return the fraction of test images whose factor ridge regression on standardised features predicts correctly."""
    vectors = represent(encoder, pixels).astype(np.float64)
    sd = vectors[train].std(axis=0)
    normal = (vectors - vectors[train].mean(axis=0)) / np.where(sd > 0, sd, 1.0)
    features = np.hstack([normal, np.ones((IMAGES, 1))])
    accuracies = {}
    for name, column in zip(FACTORS, factors.T, strict=True):
        wanted = np.eye(KINDS)[column[train]]
        weights = np.linalg.solve(
            features[train].T @ features[train] + RIDGE * np.eye(features.shape[1]), features[train].T @ wanted
        )
        accuracies[name] = float(((features[~train] @ weights).argmax(axis=1) == column[~train]).mean())
    return accuracies


def show(runs: dict[tuple[str, int], dict[str, float]], seeds: list[int], epochs: int) -> None:
    """Print every arm, then every difference."""
    print(f"\n{epochs} epochs of {IMAGES * 2 // 3} images at {INPUT_PX} px; linear regression, chance {1 / KINDS:.3f}")
    print(f"{'':22}" + "".join(f"{name:>20}" for name in FACTORS))
    untrained = [[runs["simclr", seed][f"untrained {name}"] for seed in seeds] for name in FACTORS]
    print(f"{'untrained':22}" + "".join(f"{mean_sd(each):>20}" for each in untrained))
    for arm in ARMS:
        print(f"{arm:22}" + "".join(f"{mean_sd([runs[arm, seed][name] for seed in seeds]):>20}" for name in FACTORS))
    for one, other in PAIRS:
        gains = [[runs[one, seed][name] - runs[other, seed][name] for seed in seeds] for name in FACTORS]
        print(f"{f'{one} - {other}':22}" + "".join(f"{mean_sd(each, '+'):>20}" for each in gains))
        above = [f"{sum(gain > 0 for gain in each)} of {len(each)}" for each in gains]
        print(f"{'  above in':22}" + "".join(f"{each:>20}" for each in above))


def mean_sd(values: list[float], sign: str = "") -> str:
    """Return mean ± standard deviation over seeds (ddof 1)."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else math.nan
    return f"{np.mean(values):{sign}.3f} ± {deviation:.3f}"


if __name__ == "__main__":
    main()
