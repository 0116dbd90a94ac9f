"""views: print how many views per second a CPU renders, against torchvision's transforms one image at a time.

python benchmarks/views.py [--cells 64] [--rounds 8] [--threads 1 2]

Each library has a process of its own for every number of threads. They take turns, and the best round of each counts:
other work on the machine can only slow a round down. Drawing the parameters is included.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from pydantic import TypeAdapter
from torchvision.transforms import InterpolationMode, v2

from cellssl.learning.training.memory import keep_freed_memory
from cellssl.learning.view import View, ViewSettings
from cellssl.randomness import Keys, cell_keys, generator

SIZES = ((196, 196), (196, 64), (68, 64))
"""Sides of crops and of their views in px."""
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.125}
CONTEXT = (
    {"name": "color_jitter", **JITTER},
    {"name": "horizontal_flip"},
    {"name": "vertical_flip"},
    {"name": "rotate", "degrees": 360},
    {"name": "affine", "degrees": 20, "translate": 0.1, "shear": 10},
    {"name": "random_resized_crop", "scale": (0.9, 1.1)},
)


def torchvision_context(side: int) -> v2.Compose:
    """Return the same transforms from torchvision; its random_resized_crop draws again where a window is larger than
    the image.
    """
    bilinear = InterpolationMode.BILINEAR
    return v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.ColorJitter(**JITTER),
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.RandomRotation(360, interpolation=bilinear),
            v2.RandomAffine(20, translate=(0.1, 0.1), shear=10, interpolation=bilinear),
            v2.RandomResizedCrop(side, scale=(0.9, 1.1)),
        ]
    )


def cells(count: int, side: int) -> tuple[torch.Tensor, Keys]:
    """Return made-up crops (the speed does not depend on their content) and their keys."""
    pixels = generator("benchmark", "views").integers(0, 256, (count, 3, side, side), dtype="uint8")
    return torch.from_numpy(pixels), Keys(torch.from_numpy(cell_keys(str(number) for number in range(count))))


def renderers(who: str, count: int) -> list[Callable[[], object]]:
    """Return for each size what renders one view of every cell, by cellssl or by torchvision."""
    work: list[Callable[[], object]] = []
    for side, out in SIZES:
        crops, keys = cells(count, side)
        if who == "cellssl":
            work.append(partial(View(TypeAdapter(ViewSettings).validate_python(CONTEXT)).render, crops, keys, out))
        else:
            work.append(partial(image_by_image, torchvision_context(out), crops))
    return work


def image_by_image(transform: v2.Compose, crops: torch.Tensor) -> list[torch.Tensor]:
    """Return one view of every crop, as a data loader makes them."""
    return [transform(crop) for crop in crops]


def serve(who: str, count: int) -> None:
    """Render every size once for each line of input, and print the seconds of each size."""
    if who == "cellssl":
        keep_freed_memory()  # as in every training
    work = renderers(who, count)
    for _ in sys.stdin:
        print(json.dumps([seconds_of(render) for render in work]), flush=True)


def seconds_of(work: Callable[[], object]) -> float:
    """Time one call."""
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def server(who: str, threads: int, count: int) -> subprocess.Popen[str]:
    """Start a process that renders on request, with so many threads."""
    command = [sys.executable, __file__, "--serve", who, "--cells", str(count)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def one_round(process: subprocess.Popen[str]) -> list[float]:
    """Return the seconds that each size took."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    seconds: list[float] = json.loads(process.stdout.readline())
    return seconds


def main() -> None:
    """Compare on one thread and on two; each waits while the others work, so all run under the same conditions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--serve", choices=("cellssl", "torchvision"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.cells)
        return
    kinds = [(who, threads) for threads in given.threads for who in ("cellssl", "torchvision")]
    servers = {kind: server(*kind, given.cells) for kind in kinds}
    taken: dict[tuple[str, int], list[list[float]]] = {kind: [] for kind in kinds}
    for _ in range(given.rounds + 1):
        for kind, process in servers.items():
            taken[kind].append(one_round(process))
    for process in servers.values():
        process.communicate()
    for threads in given.threads:
        for number, (side, out) in enumerate(SIZES):
            ours, theirs = (
                given.cells / min(seconds[number] for seconds in taken[who, threads][1:])
                for who in ("cellssl", "torchvision")
            )
            print(
                f"{threads} thread{'s' if threads > 1 else ' '}  context views, {side:3} -> {out:3} px: cellssl"
                f" {ours:6.0f} views/s, torchvision {theirs:5.0f} views/s, ratio {ours / theirs:.1f}"
            )


if __name__ == "__main__":
    main()
