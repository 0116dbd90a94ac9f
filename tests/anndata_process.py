"""anndata_process: lines of Python that need anndata in, what they print out, run with the libraries of .venv/anndata.

anndata for Python 3.11 takes no pandas above 2, so it lies beside the environment, with a pandas of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(sys.prefix) / "anndata"


def printed(code: str, *words: object, folder: Path | None = None) -> str:
    """What the lines print, with the words as sys.argv[1:], in a folder; skip the test where anndata is missing."""
    if not FOLDER.is_dir():
        pytest.skip("anndata is not installed: make .venv/.installed-test")
    command = [sys.executable, "-c", code, *map(str, words)]
    env = {**os.environ, "PYTHONPATH": str(FOLDER)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
