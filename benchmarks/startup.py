"""How long `cellssl` takes to say something, against a bare start of the library that reads its command line.

    python benchmarks/startup.py            # prints ratios, all measured in one run, turn by turn

`--help` may take 0.4 s and "up to date" 1 s on an idle machine; `python -c "import typer"` is the least that any
program of this kind takes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

TURNS = 9
CELLSSL = (sys.executable, "-m", "cellssl")
LIMITS_S = {"cellssl --help": 0.4, "cellssl status demo": 1.0, "cellssl fetch, up to date": 1.0}
TINY = ("--set", "fetch.dataset.doses=1", "--set", "fetch.dataset.control_wells=1", "--set", "fetch.dataset.plates=1")


def spent_s(command: tuple[str, ...]) -> tuple[float, float]:
    """Wall and processor seconds of one process."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    """Every command in turn, so that a machine that slows down slows all of them."""
    with tempfile.TemporaryDirectory() as folder:
        fetch = (*CELLSSL, "fetch", "demo", "--store", str(Path(folder) / "store"), *TINY)
        commands = {
            'python -c "import typer"': (sys.executable, "-c", "import typer"),
            "cellssl --help": (*CELLSSL, "--help"),
            "cellssl status demo": (*CELLSSL, "status", "demo", "--store", folder),
            "cellssl fetch, up to date": fetch,
        }
        for command in commands.values():
            spent_s(command)  # makes what is then up to date, and fills the disk's cache
        turns = [{name: spent_s(command) for name, command in commands.items()} for _ in range(TURNS)]
    walls = {name: median(turn[name][0] for turn in turns) for name in commands}
    processors = {name: min(turn[name][1] for turn in turns) for name in commands}
    least = next(iter(commands))
    print(f"{'command':28} {'wall s':>7} {'CPU s':>7} {'CPU / typer':>12}  limit s")
    for name in commands:
        ratio = processors[name] / processors[least]
        limit = f"{LIMITS_S[name]:.1f}" if name in LIMITS_S else ""
        print(f"{name:28} {walls[name]:7.2f} {processors[name]:7.2f} {ratio:12.1f}  {limit}")


if __name__ == "__main__":
    main()
