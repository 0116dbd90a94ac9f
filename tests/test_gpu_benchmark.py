"""The benchmark for GPUs runs: its code is tried on a CPU, with a tiny network."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPT = REPOSITORY / "benchmarks" / "gpu.py"
QUICK = ("eager", "views", "lightly-device", "lightly-loader")
"""Rows that compile nothing."""


def measured(folder: Path, *words: str) -> dict[str, Any]:
    """Return what the benchmark writes, by row; modules in `folder` come before those that are installed."""
    command = [sys.executable, SCRIPT, "--device", "cpu", "--tiny", "--out", folder / "gpu.json", *words]
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads((folder / "gpu.json").read_text())
    assert all(row["row"] in done.stdout for row in written["rows"])
    return {row["row"]: row for row in written["rows"]}


def test_every_row_has_an_interval_and_ours_a_ratio_to_lightly(tmp_path: Path) -> None:
    rows = measured(tmp_path, "--rows", ",".join(QUICK))
    assert len(rows) == len(QUICK) and not any(row["note"] for row in rows.values())
    for row in rows.values():
        assert 0 < row["cells_per_s"]["low"] <= row["cells_per_s"]["value"] <= row["cells_per_s"]["high"]
    assert rows["cellssl, eager"]["times lightly, float32, views from a DataLoader"]["value"] > 0
    assert rows["cellssl, eager"]["teraflops"]["value"] > 0 and "paper_minutes" not in rows["cellssl, eager"]


def test_a_library_that_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "lightly.py").write_text("raise ModuleNotFoundError('there is none', name='lightly')")
    rows = measured(tmp_path, "--rows", "lightly-device")
    assert rows["lightly, float32, views on the device"]["note"] == "lightly is not installed"


@pytest.mark.soak
def test_all_rows_run(tmp_path: Path) -> None:
    rows = measured(tmp_path)
    assert {row["row"]: row["note"] for row in rows.values() if row["note"]} == {}
