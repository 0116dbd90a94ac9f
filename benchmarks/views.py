"""views: print how many views per second a CPU renders, against torchvision's transforms one image at a time.

python benchmarks/views.py [--cells 64] [--rounds 5]
"""

import argparse
import time
from collections.abc import Callable

import torch
from pydantic import TypeAdapter
from torchvision.transforms import InterpolationMode, v2

from cellssl.learning.view import View, ViewSettings
from cellssl.randomness import Keys, cell_keys, generator

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


def views_per_second(render: Callable[[], object], views: int, rounds: int) -> float:
    """Return the best of some rounds: other work on the machine can only slow a round down."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        render()
        seconds.append(time.perf_counter() - start)
    return views / min(seconds)


def cells(count: int, side: int) -> tuple[torch.Tensor, Keys]:
    """Return made-up crops (the speed does not depend on their content) and their keys."""
    pixels = generator("benchmark", "views").integers(0, 256, (count, 3, side, side), dtype="uint8")
    return torch.from_numpy(pixels), Keys(torch.from_numpy(cell_keys(str(number) for number in range(count))))


def compare(count: int, rounds: int, side: int, out: int) -> None:
    """Print both speeds and their ratio; the two alternate, so that they run under the same conditions."""
    crops, keys = cells(count, side)
    view, peer = View(TypeAdapter(ViewSettings).validate_python(CONTEXT)), torchvision_context(out)
    view.render(crops, keys, out)
    ours, theirs = 0.0, 0.0
    for _ in range(rounds):
        ours = max(ours, views_per_second(lambda: view.render(crops, keys, out), count, 1))
        theirs = max(theirs, views_per_second(lambda: [peer(crop) for crop in crops], count, 1))
    print(
        f"context views, {side} -> {out} px: cellssl {ours:.0f} views/s, torchvision {theirs:.0f} views/s,"
        f" ratio {ours / theirs:.1f} ({torch.get_num_threads()} threads)"
    )


def main() -> None:
    """Compare with all cores, then with one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    for threads in (torch.get_num_threads(), 1):
        torch.set_num_threads(threads)
        compare(given.cells, given.rounds, 196, 196)
        compare(given.cells, given.rounds, 196, 64)


if __name__ == "__main__":
    main()
