"""side_by_side: print what trainings and whole recipes gain, or lose, by running at the same time.

    python benchmarks/side_by_side.py [--epochs 3] [--rounds 2] [--whole]

Every number is a ratio of wall times of two commands of this machine in one run, which alternate; the best of the
rounds counts. On a machine that does other work, look at the smallest of several runs.

- Two trainings of the demo that were started independently, over one: 1 where each has a core, 2 where they share one.
- The same for a network that trains on all cores (VGG11 at 32 px).
- `cellssl run` of the demo with a few epochs, one stage after another, over `--jobs auto`, which makes them at once:
  from the split to the report, and with --whole from nothing, as a user runs it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

STAGES_BEFORE = ("fetch", "segment", "split")
LARGE = ("--set", 'pretrain.encoder="vgg11"', "--set", "pretrain.input_px=32")


def main() -> None:
    """Make the cells once, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--whole", action="store_true", help="also run the demo as it is, which takes half an hour")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cells = Path(folder) / "cells"
        timed([["run", "demo", "--to", "split", "--store", str(cells)]])
        few = ("--set", f"pretrain.epochs={given.epochs}")
        show_trainings("the demo's network", cells, few, given.rounds)
        show_trainings("VGG11 at 32 px", cells, (*LARGE, "--set", f"pretrain.epochs={given.epochs / 3}"), given.rounds)
        show_run("the demo from the split on", cells, few, given.rounds)
        if given.whole:
            show_run("the demo from nothing", None, (), 1)


def show_trainings(what: str, cells: Path, words: Sequence[str], rounds: int) -> None:
    """Print how many times as long two trainings take at once as one alone."""
    one = two = float("inf")
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            stores = [copied(cells, Path(folder) / str(number)) for number in range(3)]
            commands = [["pretrain", "demo", "--arm", "context", *words, "--store", str(store)] for store in stores]
            one = min(one, timed(commands[:1]))
            two = min(two, timed(commands[1:]))
    print(f"{what}: two trainings at once take {two / one:.2f} times as long as one ({two:.1f} s, {one:.1f} s)")


def show_run(what: str, cells: Path | None, words: Sequence[str], rounds: int) -> None:
    """Print how many times as long a whole recipe takes one stage after another as with `--jobs auto`."""
    one = auto = float("inf")
    for _ in range(rounds):
        one = min(one, timed_run(cells, (*words, "--jobs", "1")))
        auto = min(auto, timed_run(cells, (*words, "--jobs", "auto")))
    print(f"{what}: --jobs auto is {one / auto:.2f} times as fast as --jobs 1 ({auto:.1f} s, {one:.1f} s)")


def timed_run(cells: Path | None, words: Sequence[str]) -> float:
    """Return the seconds of a run of the demo in a new store, which begins with the cells where they are given."""
    with tempfile.TemporaryDirectory() as folder:
        store = copied(cells, Path(folder) / "store") if cells is not None else Path(folder) / "store"
        return timed([["run", "demo", *words, "--store", str(store)]])


def copied(cells: Path, store: Path) -> Path:
    """Return a new store with the cells in it."""
    for stage in STAGES_BEFORE:
        shutil.copytree(cells / stage, store / stage)
    return store


def timed(commands: Sequence[Sequence[str]]) -> float:
    """Return the seconds until all of these commands, started together, have ended well."""
    began_s = time.perf_counter()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "cellssl", *words, "-q"],
            stdout=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
        )
        for words in commands
    ]
    codes = [process.wait() for process in processes]
    if any(codes):
        sys.exit(f"a command ended with exit code {max(codes)}")
    return time.perf_counter() - began_s


if __name__ == "__main__":
    main()
