"""How fast files are hashed, against `sha256sum` in as many processes; and what the hash cache saves.

    python benchmarks/hashing.py [FOLDER]       # prints ratios, all measured in one run, turn by turn

FOLDER holds real files, such as images of a plate, which are hashed instead of 200 made-up ones of 2 MB. All files are
in the memory of the operating system after the first turn, so this measures the program and not the disk. The goal is
80 % of what `sha256sum` reads. Then the first and the later `status` of 20,000 images of 15 kB are timed: 10 s and 1 s
at most on an idle machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from cellssl.artifacts.hashing import hash_files
from cellssl.device import allowed_cores

TURNS = 5
SMALL, SMALL_BYTES = 20_000, 15_000
RECIPE = """
name = "hashing"
[fetch.dataset]
name = "image_table"
table = "plate.csv"
channels = { dna = "dna" }
columns = { plate = "plate", well = "well", site = "site", compound = "compound" }
[pretrain.branches.main]
view = ["horizontal_flip"]
"""


def ours(files: list[Path]) -> None:
    """Hash with our threads."""
    for _ in hash_files(files):
        pass


def sha256sum(files: list[Path]) -> None:
    """Hash with one `sha256sum` per core; each gets a few files at a time, as the threads do."""
    each = max(1, min(50, len(files) // (4 * allowed_cores())))
    command = ["xargs", "-0", "-P", str(allowed_cores()), "-n", str(each), "sha256sum"]
    names = "\0".join(map(str, files)).encode()
    subprocess.run(command, input=names, stdout=subprocess.DEVNULL, check=True)


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(files: list[Path]) -> None:
    """Print the rates of both and their ratio."""
    size = sum(file.stat().st_size for file in files)
    turns = [(seconds(lambda: ours(files)), seconds(lambda: sha256sum(files))) for _ in range(TURNS)]
    mine, theirs = (size / median(column) / 1e6 for column in zip(*turns, strict=True))
    ratio = median(other / own for own, other in turns)
    words = f"{len(files):,} files of {size / len(files) / 1e3:,.0f} kB"
    print(f"{words:32} {mine:8,.0f} MB/s, sha256sum {theirs:8,.0f} MB/s, ratio {ratio:.2f}")


def made_up(folder: Path, count: int, size: int) -> list[Path]:
    """Write files of random bytes that begin like a TIFF file."""
    folder.mkdir()
    files = [folder / f"{number:06d}.tif" for number in range(count)]
    for file in files:
        file.write_bytes(b"II*\0" + os.urandom(size - 4))
    return files


def time_status(folder: Path, images: list[Path]) -> None:
    """Print how long the first and later `status` of a recipe with these images take."""
    rows = [f"P,A{number // 100:03d},{number % 100},DMSO,{image}" for number, image in enumerate(images)]
    (folder / "plate.csv").write_text("\n".join(["plate,well,site,compound,dna", *rows]) + "\n")
    (folder / "r.toml").write_text(RECIPE)
    command = [sys.executable, "-m", "cellssl", "status", str(folder / "r.toml"), "--store", str(folder / "store")]
    walls = []
    for _ in range(4):
        before = os.times()
        wall = seconds(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True))
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        walls.append(f"{wall:.1f} s ({cpu:.1f} s CPU)")
    print(f"status of {len(images):,} images: first {walls[0]}, then {', '.join(walls[1:])}")


def main() -> None:
    """Compare on real or made-up files, then time `status`."""
    print(f"{allowed_cores()} threads against {cores()} processes, median of {TURNS} turns")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if len(sys.argv) > 1:
            real = sorted(path for path in Path(sys.argv[1]).rglob("*") if path.is_file() and path.stat().st_size)
        else:
            real = made_up(folder / "large", 200, 2_000_000)
        small = made_up(folder / "small", SMALL, SMALL_BYTES)
        compare(real)
        compare(small)
        time_status(folder, small)


if __name__ == "__main__":
    main()
