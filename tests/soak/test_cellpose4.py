"""cellpose 4, installed in an environment of its own: what can be tested without its weights."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import REPOSITORY

SCRIPT = """
import json, sys
from pathlib import Path

import numpy as np, torch
from cellpose.vit import CPSAM
from cellssl.errors import UsageError
from cellssl.imaging.segmenters import cellpose

files = cellpose.Settings(model="cpsam").downloads()
said = {"installed": cellpose.installed()[1], "downloads": [file.place for file in files]}
try:
    cellpose.Settings(model="cyto3").check()
except UsageError as error:
    said["old name"] = error.message
file = Path(sys.argv[1])
torch.save(CPSAM().state_dict(), file)
image = np.random.default_rng(0).integers(0, 4000, (200, 300)).astype(np.uint16)
segmenter = cellpose.Settings(weights=file).prepare((), "cpu")
labels = segmenter.segment(image)
said |= {"shape": labels.shape, "type": str(labels.dtype), "ran": segmenter.ran()}
try:
    old = Path(sys.argv[2])
    cellpose.Settings(weights=old).prepare((), "cpu").segment(image)
except UsageError as error:
    said["old file"] = error.message
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that finds cellpose 4 first, and everything else where this one does."""
    folder = tmp_path_factory.mktemp("cellpose4")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    found = folder / "bin" / "python"
    own = subprocess.check_output([found, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    (Path(own.strip()) / "zz_everything_else.pth").write_text(sysconfig.get_path("purelib"))
    wanted = ["cellpose>=4,<5", "segment-anything"]
    subprocess.run([found, "-m", "pip", "install", "--quiet", "--no-deps", *wanted], check=True)
    return found


@pytest.mark.soak
def test_cellpose_4_is_run_by_its_own_names_and_files(python: Path, tmp_path: Path, shared_data: Path) -> None:
    old = shared_data / "weights" / "cellpose3_cyto_from_scellseg.pth"
    ran = subprocess.run(
        [python, "-c", SCRIPT, tmp_path / "drawn", old], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    print(said)
    assert said["installed"].startswith("4.") and said["ran"]["cellpose"] == said["installed"]
    assert said["downloads"] == ["cellpose/cpsam"]
    assert "has no network 'cyto3'" in said["old name"]
    assert said["shape"] == [200, 300] and said["type"] == "int32"
    assert "is not a network of cellpose 4" in said["old file"]
