"""chain: one tiny simulated plate, taken through the whole chain once a session, and commands to run on it."""

import contextlib
import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forked import POSSIBLE, Forked

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
[cluster]
montage_cells = 4
[evaluate]
neighbours = 5
[hits]
null_size = 200
bootstrap_draws = 100
[arm.intensities.embed]
model = "intensities"
"""
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is there: the number of threads decides the last bits of a training
ENVIRONMENT = {**os.environ, "NO_COLOR": "1"}
LIMIT_S = 280
"""How long a command may take: a little less than a test may."""


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


def start(
    *words: object, fresh: bool | None = None, env: dict[str, str] | None = None, **more: Any
) -> subprocess.Popen[str] | Forked:
    """One command in a process of its own: forked from one that has imported everything, or `fresh`: a new Python.

    A test of what is imported is fresh, and so is by default a command with variables of its own, which libraries may
    read while they are imported.
    """
    if fresh is None:
        fresh = env is not None
    environment = ENVIRONMENT if env is None else env
    if POSSIBLE and not fresh and more.keys() <= {"cwd", "start_new_session"}:
        return Forked([str(word) for word in words], environment, **more)
    command = [sys.executable, "-m", "cellssl", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.Popen(command, text=True, env=environment, **pipes)


def run(*words: object, **more: Any) -> Said:
    """One command in a process of its own, to its end; arguments as of `start`."""
    process = start(*words, **more)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode is not None
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
def made_once(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Chain:
    """The tiny chain where it was made, for all processes of the test run; only to be read."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if hasattr(pytestconfig, "workerinput") else own) / "made"
    with folder.with_name("chain.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            make_chain(folder)
            (folder / "complete").touch()
    return Chain(folder / "tiny.toml", folder / "store", folder / "home")


@pytest.fixture(scope="session")
def chain(made_once: Chain, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """One for every process of the test run, since tests move its pointers: a copy of the one that is made once."""
    folder = shutil.copytree(made_once.recipe.parent, tmp_path_factory.getbasetemp() / "chain")
    return Chain(folder / "tiny.toml", folder / "store", folder / "home")


def make_chain(folder: Path) -> None:
    """Run the tiny recipe in a folder, by a Python whose home is in it, too."""
    shutil.rmtree(folder, ignore_errors=True)
    home = folder / "home"
    home.mkdir(parents=True)
    write_text(folder / "tiny.toml", RECIPE)
    plain = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("XDG_", "MPLCONFIG"))}
    words = ("run", folder / "tiny.toml", "--store", folder / "store", "--device", "cpu")
    said = run(*words, env={**plain, "HOME": str(home)}, cwd=home)
    assert said.code == 0, said.err
