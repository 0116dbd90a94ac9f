"""chain: one tiny simulated plate, taken through the whole chain once a session, and commands to run on it."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cellssl.artifacts.store import Artifact, Store
from cellssl.cli import invoke
from cellssl.files import write_text

RECIPE = """
name = "tiny"
[fetch.dataset]
name = "simulated"
plates = 1
height_px = 256
width_px = 320
sites_per_well = 2
control_wells = 4
compounds = ["sim-nocodazole"]
doses = 4
cells_per_field = 400
workers = 1
[segment]
crop_px = 48
keep_labels = true
workers = 1
[split]
treated = { compounds = ["sim-nocodazole"] }
[pretrain]
encoder = { name = "small", widths = [8, 16] }
input_px = 32
epochs = 6
batch = 16
[pretrain.branches.context]
view = ["horizontal_flip", { name = "rotate", degrees = 180 }]
objective = { name = "moco", queue = 16, dim = 8, hidden_dim = 16 }
[evaluate]
neighbours = 5
[arm.intensities.embed]
model = "intensities"
"""
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is there: the number of threads decides the last bits of a training
ENVIRONMENT = {**os.environ, "NO_COLOR": "1"}


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line on stdout."""
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1, self.out
        return self.out.strip()


def say(*words: object) -> Said:
    """One command in this process."""
    out, err = io.StringIO(), io.StringIO()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = invoke([str(word) for word in words])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return Said(code, out.getvalue(), err.getvalue())


def start(*words: object, **more: object) -> subprocess.Popen[str]:
    """One command in a process of its own."""
    command = [sys.executable, "-m", "cellssl", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT, **more}
    return subprocess.Popen(command, text=True, **pipes)


def run(*words: object, **more: object) -> Said:
    """One command in a process of its own, to its end."""
    process = start(*words, **more)
    out, err = process.communicate(timeout=200)
    return Said(process.returncode, out, err)


@dataclass(frozen=True)
class Chain:
    """A recipe, and the store that holds all that it makes."""

    recipe: Path
    root: Path
    home: Path = Path("/nowhere")
    """The home directory of the process that made it all."""

    @property
    def store(self) -> Store:
        """The store to look things up in."""
        return Store(self.root)

    def say(self, command: str, *words: object) -> Said:
        """A command on this recipe and store, in this process."""
        return say(command, self.recipe, "--store", self.root, *words)

    def copy_cells(self, root: Path) -> Path:
        """Copy the fields, cells and split into another store, for tests of what comes after; return its root."""
        for stage in ("fetch", "segment", "split"):
            shutil.copytree(self.root / stage, root / stage)
        return root

    def made(self, stage: str, arm: str = "main") -> Artifact:
        """The artifact that the pointer of an arm names."""
        where = next((self.root / "by-recipe" / "tiny" / arm).glob(f"*/{stage}.json"))
        return self.store.get(stage, json.loads(where.read_text())["fingerprint"])


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """One for every process of the test run, since tests move its pointers."""
    folder = tmp_path_factory.getbasetemp() / "chain"
    folder.mkdir()
    recipe = folder / "tiny.toml"
    write_text(recipe, RECIPE)
    home = folder / "home"
    home.mkdir()
    plain = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("XDG_", "MPLCONFIG"))}
    said = run(
        "run", recipe, "--store", folder / "store", "--device", "cpu", env={**plain, "HOME": str(home)}, cwd=home
    )
    assert said.code == 0, said.err
    return Chain(recipe, folder / "store", home)
