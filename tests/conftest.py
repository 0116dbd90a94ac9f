"""What tests share: where the real data lie, and shapes in signatures checked while tests run."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from chain import chain, made_once  # noqa: F401
from forked import RUN
from jaxtyping import install_import_hook

CHECKED = ["cellssl.imaging", "cellssl.profiling", "cellssl.learning.warp", "cellssl.learning.training.diagnostics"]
install_import_hook(CHECKED, "beartype.beartype")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Tell the workers, before they are started, of which test run they are."""
    if not hasattr(config, "workerinput"):
        os.environ[RUN] = str(os.getpid())


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real microscopy data beside the repository; tests that need it skip where it is not."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)
