"""A shared model opens without cellssl, and gives the vectors that cellssl gives; its folder is whole, or says so."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain import Chain, say

from cellssl.artifacts import embeddings
from cellssl.artifacts.card import read_card
from cellssl.artifacts.crops import open_crops
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_cells

WITHOUT = """
import sys, importlib.abc
class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nothing())
sys.path[:0] = [{folder!r}]
"""
"""What begins a program in which some libraries are not installed, and the folder of a model is at hand."""


def run_without(blocked: tuple[str, ...], folder: Path, program: str) -> None:
    """Run a program in a new Python that lacks some libraries."""
    text = WITHOUT.format(blocked=blocked, folder=str(folder)) + program
    done = subprocess.run([sys.executable, "-P", "-c", text], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def shared(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of the tiny chain, exported; tests only read it."""
    folder = tmp_path_factory.mktemp("shared") / "my model"
    said = say("export", chain.made("pretrain").path, folder, "--store", chain.root, "--license", "mit")
    assert said.line == str(folder)
    return folder


def crops_of(chain: Chain) -> dict[str, Any]:
    """The raw crops of the embedded cells of the chain, the scale of their plate, and the vectors cellssl has made."""
    (segment,) = (
        Artifact(path.parent, read_card(path.parent))
        for path in chain.root.glob("segment/*/artifact.json")
        if (path.parent / "crops.npy").is_file()
    )
    metadata, vectors = embeddings.read(chain.made("embed").file("embeddings.parquet"))
    cells = read_cells(chain.made("segment")).set_index("cell_id").loc[metadata["Metadata_cell_id"]]
    return {"crops": open_crops(segment.file("crops.npy"))[cells["crop_row"].to_numpy()], "vectors": vectors}


def test_plain_torch_gives_the_vectors_that_cellssl_wrote(chain: Chain, shared: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "cells.npz", **crops_of(chain))
    run_without(
        ("cellssl", "torchvision", "timm", "pandas", "scipy"),
        shared,
        f"""
import numpy as np
from load_model import EXPECTED, embed
cells = np.load({str(tmp_path / "cells.npz")!r})
levels = [[one[name] for one in EXPECTED["plates"]] for name in ("low", "high")]
difference = np.abs(embed(cells["crops"], *levels).numpy() - cells["vectors"])
assert len(difference) > 300 and difference.max() < 1e-4, difference.max()
assert embed(cells["crops"][:1], *levels).shape == (1, cells["vectors"].shape[1])
""",
    )
