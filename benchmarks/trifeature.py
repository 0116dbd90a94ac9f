"""trifeature: prints which of three independent factors of an image a contrastive loss keeps: colour, shape, texture.

    nice python benchmarks/trifeature.py --out /tmp/trifeature [--epochs 5] [--seeds 0 1 2 3 4]

Every image shows one of 8 shapes in one of 8 colours with one of 8 textures, at a drawn place, size and turn. Two
questions: does implicit feature modification keep more (SimCLR, views that leave the colour alone), and does LooC keep
the colour where the views change it (against MoCo with the same knobs)? Each factor is read out linearly from the
trunk; differences are paired by seed and printed whatever their sign. After Hermann and Lampinen 2020
(arXiv:2006.12433). Runs are kept in --out, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from objectives import ALL_PAIRS, CONVOLUTIONS, INPUT_PX, QUEUED, prepared, represented, trained

KINDS, SIDE_PX, IMAGES, RIDGE = 8, 40, 2304, 1.0
FACTORS = ("colour", "shape", "texture")
PLAIN = ("horizontal_flip", {"name": "random_resized_crop", "scale": (0.5, 1.0)})
JITTER = {"name": "color_jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.5}
ARMS: dict[str, dict[str, Any]] = {
    "simclr": {"view": PLAIN, "objective": {"name": "simclr", **ALL_PAIRS}},
    "simclr + ifm": {"view": PLAIN, "objective": {"name": "simclr", **ALL_PAIRS, "ifm_epsilon": 0.1}},
    "moco": {"view": (JITTER, *PLAIN), "objective": {"name": "moco", **QUEUED}},
    "looc": {"view": (JITTER, *PLAIN), "objective": {"name": "looc", **QUEUED, "keep": ("color_jitter",)}},
}
PAIRS = (("simclr + ifm", "simclr"), ("looc", "moco"))


def main() -> None:
    """Every arm and seed, then the differences."""
    given = parsed()
    given.out.mkdir(parents=True, exist_ok=True)
    import torch

    torch.set_num_threads(1)
    pixels, factors = images()
    train = np.arange(IMAGES) % 3 > 0
    runs: dict[tuple[str, int], dict[str, float]] = {}
    for seed in given.seeds:
        for arm, branch in ARMS.items():
            kept = given.out / f"{arm.replace(' ', '')}-{seed}-{given.epochs}.json"
            if not kept.is_file():
                state, plan = prepared({"pixels": pixels}, train, branch, CONVOLUTIONS, seed, given.epochs)
                start = read_out(state.encoder, pixels, factors, train) if arm == "simclr" else {}  # of all arms
                trained(state, plan)
                after = read_out(state.encoder, pixels, factors, train)
                kept.write_text(json.dumps({**after, **{f"untrained {name}": value for name, value in start.items()}}))
                print(f"{arm:13} seed {seed}: {after}", flush=True)
            runs[arm, seed] = json.loads(kept.read_text())
    show(runs, given.seeds, given.epochs)


def parsed() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("trifeature"))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    return parser.parse_args()


def images() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 3, y, x) and the three factors of each image (n, 3), all combinations as often as possible."""
    from cellssl.randomness import generator

    chance = generator("benchmark", "trifeature")
    combinations = np.stack(np.unravel_index(np.arange(IMAGES) % KINDS**3, (KINDS,) * 3), axis=1)
    factors = combinations[chance.permutation(IMAGES)]
    return np.stack([image(chance, *row) for row in factors]), factors


def image(chance: np.random.Generator, colour: int, shape: int, texture: int) -> np.ndarray:
    """One of them, with nuisances drawn: place, size, turn, phase of the texture, noise."""
    import colorsys

    y, x = (np.mgrid[:SIDE_PX, :SIDE_PX] - (SIDE_PX - 1) / 2 + chance.uniform(-4, 4, (2, 1, 1))) / (SIDE_PX / 2)
    turn, size = chance.uniform(0, 2 * math.pi), chance.uniform(0.55, 0.8)
    u, v = (x * math.cos(turn) + y * math.sin(turn)) / size, (y * math.cos(turn) - x * math.sin(turn)) / size
    inside = outline(shape, u, v)
    light = 0.3 + 0.7 * pattern(texture, x * SIDE_PX / 2, y * SIDE_PX / 2, chance.uniform(0, 2 * math.pi, 2))
    red_green_blue = np.array(colorsys.hsv_to_rgb(colour / KINDS, 0.8, 1.0))
    drawn = np.where(inside, light, 0.0) * red_green_blue[:, None, None] + 0.1
    return (255 * (drawn + chance.normal(0, 0.02, drawn.shape)).clip(0, 1)).astype(np.uint8)


def outline(shape: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Whether a point lies inside: disc, ring, polygons, a cross, and flowers."""
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
    """Light in [0, 1] by wavelength and kind, in px: flat, stripes, checks, dots and rings."""
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


def read_out(encoder: Any, pixels: np.ndarray, factors: np.ndarray, train: np.ndarray) -> dict[str, float]:
    """Share of the other images whose factor ridge regression of standardised features on its kinds tells."""
    vectors = represented(encoder, pixels).astype(np.float64)
    spread = vectors[train].std(axis=0)
    normal = (vectors - vectors[train].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    known = np.hstack([normal, np.ones((IMAGES, 1))])
    told = {}
    for name, column in zip(FACTORS, factors.T, strict=True):
        wanted = np.eye(KINDS)[column[train]]
        weights = np.linalg.solve(
            known[train].T @ known[train] + RIDGE * np.eye(known.shape[1]), known[train].T @ wanted
        )
        told[name] = float(((known[~train] @ weights).argmax(axis=1) == column[~train]).mean())
    return told


def show(runs: dict[tuple[str, int], dict[str, float]], seeds: list[int], epochs: int) -> None:
    """Every arm, then every difference."""
    print(f"\n{epochs} epochs of {IMAGES * 2 // 3} images at {INPUT_PX} px; linear read-out, chance {1 / KINDS:.3f}")
    print(f"{'':22}" + "".join(f"{name:>20}" for name in FACTORS))
    untrained = [[runs["simclr", seed][f"untrained {name}"] for seed in seeds] for name in FACTORS]
    print(f"{'untrained':22}" + "".join(f"{spread(each):>20}" for each in untrained))
    for arm in ARMS:
        print(f"{arm:22}" + "".join(f"{spread([runs[arm, seed][name] for seed in seeds]):>20}" for name in FACTORS))
    for one, other in PAIRS:
        gains = [[runs[one, seed][name] - runs[other, seed][name] for seed in seeds] for name in FACTORS]
        print(f"{f'{one} - {other}':22}" + "".join(f"{spread(each, '+'):>20}" for each in gains))
        above = [f"{sum(gain > 0 for gain in each)} of {len(each)}" for each in gains]
        print(f"{'  above in':22}" + "".join(f"{each:>20}" for each in above))


def spread(values: list[float], sign: str = "") -> str:
    """Mean ± standard deviation over seeds (ddof 1)."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else math.nan
    return f"{np.mean(values):{sign}.3f} ± {deviation:.3f}"


if __name__ == "__main__":
    main()
