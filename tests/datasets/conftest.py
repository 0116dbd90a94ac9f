"""Fixtures for tests of data sets: tiny plates on disk, and the command line with a store of its own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_datasets import write_image_table
from made_up_screen import write_screen

from cellssl.cli import invoke

Fetched = tuple[int, Path, dict[str, object]]


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    """Write plate.csv and its images into a folder: two plates of two wells with two fields each."""
    return write_image_table(tmp_path)


@pytest.fixture
def set_up(tmp_path: Path) -> Path:
    """Write a small published screen into a folder, and a recipe for a part of it."""
    return write_screen(tmp_path)


@pytest.fixture
def cellssl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Fetched]:
    """Run a command with a store of its own: exit code, the artifact's folder, its card; on failure {"stderr": ...}."""

    def command(*words: str, store: str = "store") -> Fetched:
        code = invoke([*words, "--store", str(tmp_path / store)])
        captured = capsys.readouterr()
        if code:
            return code, Path(), {"stderr": captured.err}
        path = Path(captured.out.strip())
        return code, path, json.loads((path / "artifact.json").read_text(encoding="utf-8"))

    return command
