"""What the dependencies weigh: megabytes on disk, which dependency brings a library in, and seconds of an import.

    python benchmarks/dependencies.py            # in an environment with cellssl and nothing else
    python benchmarks/dependencies.py --least-mb 5

Import times are those of a fresh process, as the median of three, in units of a bare start of Python, since seconds
differ between machines; they count the processor and not the wait for a disk. The last column says what loads a
library: every command, stages, or only what the recipe asks for.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, requires
from statistics import median

from packaging.requirements import Requirement

TURNS = 3
MODULES = {
    "cellpose": "cellpose.models",
    "matplotlib": "matplotlib.figure",
    "pillow": "PIL.Image",
    "pyarrow": "pyarrow.parquet",
    "rich": "rich.progress",
    "scikit-image": "skimage.measure._regionprops, skimage.segmentation._watershed",
    "scikit-learn": "sklearn.cluster",
    "scipy": "scipy.ndimage, scipy.stats",
}
"""What is imported, where that is not the name of the library."""
STARTS = {
    "every command": ("pydantic", "typer"),
    "progress, in a terminal": ("rich",),
    "stages that compute": (
        *("jaxtyping", "joblib", "numpy", "pandas", "pyarrow"),
        *("scikit-learn", "scipy", "threadpoolctl", "torch"),
    ),
    "images": ("pillow", "tifffile"),
    "compressed TIFFs": ("imagecodecs",),
    "plates and formats of instruments": ("openreadout",),
    "plate maps in Excel files": ("openpyxl",),
    "downloads": ("requests", "urllib3"),
    "segmentation": ("scikit-image",),
    "files of weights": ("safetensors",),
    "ResNet, VGG; MNIST, CIFAR": ("torchvision",),
    "figures and the report": ("jinja2", "matplotlib"),
    'segment.method = "cellpose"': ("cellpose",),
}  # fmt: skip
"""When cellssl loads each of its direct dependencies."""


@dataclass(frozen=True)
class Row:
    """One library: its size on disk, through which dependencies it comes, and its import."""

    name: str
    size_mb: float
    through: tuple[str, ...]
    """Direct dependencies of cellssl that need it; empty where it is one itself."""
    starts: float | None
    """Seconds of an import, in units of a bare start of Python; None for what comes through others."""


def key(name: str) -> str:
    """The name of a distribution as packaging compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted_by(name: str, extras: tuple[str, ...] = ()) -> list[Requirement]:
    """What a distribution needs on this machine, with some of its extras."""
    wanted = [Requirement(line) for line in requires(name) or ()]
    chosen = ("", *extras)
    return [one for one in wanted if one.marker is None or any(one.marker.evaluate({"extra": by}) for by in chosen)]


def needed(name: str) -> set[str]:
    """What a distribution needs, and what that needs, and so on."""
    found: set[str] = set()
    seen: set[tuple[str, tuple[str, ...]]] = set()
    left = deque(wanted_by(name))
    while left:
        one = left.popleft()
        asked = (key(one.name), tuple(sorted(one.extras)))
        if asked not in seen and is_installed(one.name):
            seen.add(asked)
            found.add(asked[0])
            left += wanted_by(*asked)
    return found


def is_installed(name: str) -> bool:
    """Whether there is such a distribution here; what only another system needs is not."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def size_mb(found: Distribution) -> float:
    """The files that were installed for a distribution; what Python compiles is not counted."""
    places = [file.locate() for file in found.files or ()]
    return sum(place.stat().st_size for place in places if place.suffix != ".pyc" and place.is_file()) / 1e6


def import_s(code: str) -> float:
    """The seconds of processor time in which a fresh Python runs a line: the median of several."""
    return median(_processor_s(code) for _ in range(TURNS))


def _processor_s(code: str) -> float:
    timed = f"import time\n{code}\nprint(time.process_time())"
    return float(subprocess.check_output([sys.executable, "-P", "-c", timed], text=True))


def main() -> None:
    """Print one row for every library, the largest first, and what all of them take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--least-mb", type=float, default=0.0, help="Leave out smaller libraries that come through others."
    )
    least_mb = parser.parse_args().least_mb
    began_s = time.perf_counter()
    direct = sorted({key(one.name) for one in wanted_by("cellssl")})
    through = {name: needed(name) for name in direct}
    bare_s = import_s("")
    rows = []
    for name in sorted({*direct, *(one for some in through.values() for one in some)}):
        starts = import_s(f"import {MODULES.get(name, name)}") / bare_s if name in direct else None
        by = () if name in direct else tuple(one for one in direct if name in through[one])
        rows.append(Row(name, size_mb(distribution(name)), by, starts))
    when = {name: words for words, names in STARTS.items() for name in names}
    print(f"{'library':26} {'MB':>7} {'import':>7}  needed by, or when it is loaded")
    for row in sorted(rows, key=lambda row: -row.size_mb):
        if row.starts is not None or row.size_mb >= least_mb:
            starts = "" if row.starts is None else f"{row.starts:.1f}"
            print(f"{row.name:26} {row.size_mb:7.1f} {starts:>7}  {', '.join(row.through) or when.get(row.name, '?')}")
    only = {name: sum(row.size_mb for row in rows if row.name == name or row.through == (name,)) for name in direct}
    print(f"\n{'all':26} {sum(row.size_mb for row in rows):7.1f}")
    for name, alone_mb in sorted(only.items(), key=lambda item: -item[1])[:6]:
        print(f"{name:26} {alone_mb:7.1f}          with what only it needs")
    print(
        f"\na bare start of Python takes {bare_s:.3f} s of a processor; all took {time.perf_counter() - began_s:.0f} s"
    )


if __name__ == "__main__":
    main()
