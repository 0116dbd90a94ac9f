"""The examples of docs/extending.md are complete: written into a copy of the package, they keep every contract."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from chain import ENVIRONMENT, run
from conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`cellssl/(\S+\.py)`\n\n```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
CONTRACTS = {
    "learning/transforms": "test_transforms",
    "learning/encoders": "test_encoders",
    "learning/objectives": "test_objectives",
    "datasets": "test_datasets",
    "imaging/segmenters": "test_segmenters",
    "profiling/clusterers": "test_clusterers",
    "profiling/normalisers": "test_normalisers",
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with every example of the page in it."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(REPOSITORY / "cellssl", folder / "cellssl", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("recipes", "data-manifests"):
        shutil.copytree(REPOSITORY / name, folder / name)
    for place, content in FILES.items():
        (folder / "cellssl" / place).write_text(content, encoding="utf-8")
    return folder / "cellssl"


def test_the_page_has_an_example_of_every_kind() -> None:
    assert {str(Path(place).parent) for place in FILES} == set(CONTRACTS)


def test_every_example_keeps_the_contract_of_its_kind(package: Path) -> None:
    contracts = [f"tests/parts/{name}.py" for name in CONTRACTS.values()]
    names = [Path(place).stem for place in FILES]
    options = ["-n", "0", "-vv", "-k", " or ".join(names)]
    words = ["-P", "-m", "pytest", *options, *contracts]  # -P: the copy, not the checkout
    plain = {**os.environ, "PYTHONPATH": str(package.parent)}
    done = subprocess.run(
        [sys.executable, *words], cwd=REPOSITORY, env=plain, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    for name in names:
        passed = re.findall(rf"\[[^\]]*{name}[^\]]*\] PASSED", done.stdout)
        assert len(passed) >= 5, f"{name}: {done.stdout}"


def test_a_recipe_runs_on_the_examples_and_the_report_has_the_new_score(package: Path, tmp_path: Path) -> None:
    scores = package / "stages" / "report" / "scores.py"
    entry = re.search(r"An entry of `SCORES`:\n\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert entry is not None
    text = scores.read_text(encoding="utf-8")
    assert text.count("= (*CLUSTER_SCORES,") == 1
    scores.write_text(text.replace("= (*CLUSTER_SCORES,", f"= (\n{entry.group(1).strip()},\n*CLUSTER_SCORES,"))
    recipe = tmp_path / "new.toml"
    recipe.write_text(
        """
name = "new"
[fetch.dataset]
name = "discs"
[segment]
method = "otsu"
crop_px = 24
workers = 1
[split]
treated = { compounds = ["sim-shrink"] }
[pretrain]
encoder = { name = "two_convolutions", width = 8 }
epochs = 2
batch = 8
input_px = 24
[pretrain.branches.main]
view = ["gamma"]
objective = { name = "cosine", hidden_dim = 8, dim = 4 }
[cluster]
method = "ward"
""",
        encoding="utf-8",
    )
    environment = {**ENVIRONMENT, "PYTHONPATH": str(package.parent)}
    said = run("run", recipe, "--store", tmp_path / "store", "--device", "cpu", env=environment, cwd=tmp_path)
    assert said.code == 0, said.err
    with (Path(said.line) / "scores.csv").open(encoding="utf-8") as file:
        assert 0.5 <= float(next(csv.DictReader(file))["largest_share"]) <= 1
    assert "largest cluster" in (Path(said.line) / "report.html").read_text(encoding="utf-8")
