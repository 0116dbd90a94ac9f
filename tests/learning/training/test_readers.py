"""Crops arrive in order, the next ones are read in the meantime, and no set is too large for the memory."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cellssl.learning.training.readers import InMemoryReader, MemmapReader, prefetch

CPU = torch.device("cpu")
CROPS = np.arange(7 * 1 * 2 * 2, dtype=np.uint8).reshape(7, 1, 2, 2)
ROWS = [np.array([3, 1]), np.array([0, 6]), np.array([2, 2])]


def test_both_readers_give_the_same_crops() -> None:
    in_memory, memmapped = (
        InMemoryReader([CROPS[:3], CROPS[3:]], CROPS.shape, CPU),
        MemmapReader(lambda rows: CROPS[rows], CPU),
    )
    for read in (in_memory, memmapped):
        batches = list(prefetch(read, ROWS))
        assert [rows.tolist() for rows, _ in batches] == [rows.tolist() for rows in ROWS]
        assert all(np.array_equal(crops.numpy(), CROPS[rows]) for rows, crops in batches)


def test_a_process_reads_only_its_share() -> None:
    seen = []
    read = MemmapReader(lambda rows: seen.append(rows.tolist()) or CROPS[rows], CPU)  # type: ignore[func-returns-value]
    assert [len(crops) for _, crops in prefetch(read, ROWS, lambda rows: rows[:1])] == [1, 1, 1]
    assert seen == [[3], [0], [2]]


def test_the_crops_of_the_next_step_are_read_during_this_one() -> None:
    started = [threading.Event() for _ in ROWS]

    def read(rows: np.ndarray) -> np.ndarray:
        started[[rows is each for each in ROWS].index(True)].set()
        return CROPS[rows]

    steps = prefetch(MemmapReader(read, CPU), ROWS)
    next(steps)
    assert started[1].wait(timeout=10) and not started[2].is_set()
    steps.close()


def test_nothing_is_read_for_a_finished_training() -> None:
    assert list(prefetch(MemmapReader(lambda rows: 1 / 0, CPU), [])) == []  # type: ignore[arg-type, return-value]


def test_an_error_while_reading_is_raised_where_the_crops_are_used() -> None:
    def read(rows: np.ndarray) -> np.ndarray:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(prefetch(MemmapReader(read, CPU), ROWS))


def test_closing_the_generator_ends_its_thread() -> None:
    steps = prefetch(MemmapReader(lambda rows: CROPS[rows], CPU), ROWS)
    next(steps)
    steps.close()
    time.sleep(0.05)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


MEMORY = """
import re, sys
from pathlib import Path
import pandas as pd
from types import SimpleNamespace as Fake
from cellssl.learning.training.memory import keep_freed_memory
keep_freed_memory()
import torch
from cellssl.learning.training.loop import train
from cellssl.stages.shared.scaled_crops import ScaledCrops
from cellssl.stages.pretrain.networks import prepare
from cellssl.stages.pretrain.settings import Settings

folder, cells, side_px = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
scale = pd.DataFrame({"part": "plate", "channel": ["a", "b", "c"], "low": 0.0, "high": 4095.0})
table = pd.DataFrame({"part": "plate", "crop_row": range(cells)})
crops = ScaledCrops({"plate": Fake(file=lambda name: folder / name)}, scale, table)
view = [{"name": "center_crop", "side": 0.5}]
objective = {"name": "moco", "queue": 64, "dim": 8, "hidden_dim": 8}
settings = Settings.model_validate({
    "encoder": {"name": "small", "widths": [4, 8]}, "input_px": 32, "batch": 128, "epochs": 1000,
    "branches": {"centre": {"view": view, "objective": objective}},
})
state, plan = prepare(settings, crops, [str(row) for row in range(cells)], 0, torch.device("cpu"))
steps = train(state, plan)
for _ in range(12):
    next(steps)
print(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.soak
@pytest.mark.parametrize("side_px", [196, 28], ids=["from disk", "in memory"])
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="this system does not report anonymous memory")
def test_a_hundred_thousand_crops_need_at_most_300_mb_more_than_a_thousand(tmp_path: Path, side_px: int) -> None:
    taken_mb = {}
    for cells in (1_000, 100_000):
        sparse_stack(tmp_path / "crops.npy", (cells, 3, side_px, side_px))
        command = [sys.executable, "-c", MEMORY, str(tmp_path), str(cells), str(side_px)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        taken_mb[cells] = int(done.stdout) / 1024
    assert taken_mb[100_000] - taken_mb[1_000] < 300


def sparse_stack(path: Path, shape: tuple[int, ...]) -> None:
    """Write a stack of zeros that takes no space on the disk."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<u2", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + 2 * int(np.prod(shape)))
