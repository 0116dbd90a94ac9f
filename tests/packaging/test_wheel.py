"""The package: what the sdist and the wheel hold, and the tiny chain run from the wheel in a new environment."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path, PurePosixPath

import pytest
from conftest import REPOSITORY

MOVED = {
    "recipes/": "cellssl/_shipped/recipes/",
    "data-manifests/": "cellssl/_shipped/data-manifests/",
    "CITATION.cff": "cellssl/_shipped/CITATION.cff",
}
"""Where the wheel has what lies beside the package in a checkout."""
RECIPE = """
name = "tiny"
[fetch.dataset]
name = "simulated"
plates = 1
height_px = 192
width_px = 192
sites_per_well = 3
control_wells = 2
compounds = ["sim-nocodazole"]
doses = 1
cells_per_field = 200
workers = 1
[segment]
crop_px = 32
workers = 1
[split]
treated = { compounds = ["sim-nocodazole"] }
[pretrain]
encoder = { name = "small", widths = [4, 8] }
input_px = 32
epochs = 2
batch = 8
[pretrain.branches.context]
view = ["horizontal_flip"]
objective = { name = "moco", dim = 8, hidden_dim = 16 }
"""
"""As few cells as all stages can work with."""
WATCH = """
import sys

REPOSITORY, ENVIRONMENT = {repository!r}, {environment!r}


def refuse(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and arguments and isinstance(arguments[0], str):
        if arguments[0].startswith(REPOSITORY) and not arguments[0].startswith(ENVIRONMENT):
            raise PermissionError("the repository is read: " + arguments[0])


sys.addaudithook(refuse)
"""


@dataclass(frozen=True)
class Built:
    """What `python -m build` made of the files that git tracks."""

    tracked: tuple[str, ...]
    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a checkout")
    tracked = tuple(name for name in listed.stdout.split("\0") if (REPOSITORY / name).is_file())
    folder = tmp_path_factory.mktemp("package")
    for name in tracked:
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, folder / "source" / name)
    (folder / "source" / "artifacts").mkdir()
    (folder / "source" / "notes.txt").write_text("not of the project")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "source"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = (folder / "dist").glob("*.tar.gz"), (folder / "dist").glob("*.whl")
    return Built(tracked, sdist, wheel)


@pytest.fixture(scope="module")
def environment(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel; it has the dependencies of this Python, and may not read the repository."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", "--no-compile", built.wheel], check=True)
    own = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    # these are plain lines, so the .pth files there are not read, that of an editable cellssl among them
    others = [place for place in sys.path if place.endswith("site-packages")]
    (own / "zz_dependencies.pth").write_text("\n".join([*others, "import watch_the_repository", ""]))
    watch = WATCH.format(repository=f"{REPOSITORY}/", environment=f"{sys.prefix}/")
    (own / "watch_the_repository.py").write_text(watch)
    return folder


def run(environment: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A program of an environment, in a folder of its own, without what this process has in its variables."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    home = environment / "home"
    home.mkdir(exist_ok=True)
    plain = {**kept, "HOME": str(home), "OMP_NUM_THREADS": "1"}
    program = environment / "bin" / str(words[0])
    return subprocess.run(
        [program, *map(str, words[1:])], cwd=home, env=plain, capture_output=True, text=True, check=False
    )


def test_the_wheel_holds_every_file_of_the_package_and_what_the_recipes_need(built: Built) -> None:
    wanted = {name for name in built.tracked if name.startswith("cellssl/")}
    for here, there in MOVED.items():
        wanted |= {there + name.removeprefix(here) for name in built.tracked if name.startswith(here)}
    with zipfile.ZipFile(built.wheel) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        about = {PurePosixPath(name).name for name in wheel.namelist() if ".dist-info/" in name}
    assert held == wanted
    assert about == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "LICENSE"}
    suffixes = {PurePosixPath(name).suffix for name in held}
    assert suffixes >= {".css", ".j2", ".js", ".safetensors", ".toml", ".typed"}


def test_the_sdist_holds_files_that_git_tracks_and_nothing_else(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}
    assert held <= {*built.tracked, "PKG-INFO"}
    assert held >= {name for name in built.tracked if name.startswith(("cellssl/", "docs/", "recipes/", "tests/"))}


def test_the_page_of_the_package_leads_to_no_file_that_is_not_there(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
        page = message_from_bytes(wheel.read(metadata)).get_payload()
    assert isinstance(page, str) and page.startswith("# cellssl\n")
    assert not re.findall(r"\]\((?!http)[^)]*\)|<!--", page)


@pytest.mark.timeout(900)  # a build, an installation and a whole chain, beside other tests
def test_the_tiny_chain_runs_from_the_wheel_without_the_repository(environment: Path) -> None:
    where = "import cellssl; print(cellssl.__file__)"
    imported = run(environment, "python", "-c", where)
    assert Path(imported.stdout.strip()).is_relative_to(environment), imported.stderr
    home = environment / "home"
    (home / "tiny.toml").write_text(RECIPE)
    ran = run(environment, "cellssl", "run", "tiny.toml", "--jobs", 1)
    assert ran.returncode == 0, ran.stderr
    report = Path(ran.stdout.strip())
    assert report.is_relative_to(home) and (report / "report.html").stat().st_size > 100_000


def test_shipped_recipes_and_manifests_are_found_from_the_wheel(environment: Path) -> None:
    said = run(environment, "cellssl", "status", "bbbc021-taxol", "--store", "nothing")
    assert said.returncode == 0 and "fetch" in said.stdout, said.stderr


def test_the_watch_of_the_repository_sees_a_file_that_is_read(environment: Path) -> None:
    seen = run(environment, "python", "-c", f"open({str(REPOSITORY / 'README.md')!r})")
    assert "the repository is read" in seen.stderr


def test_every_extra_for_users_is_on_the_page_on_installing() -> None:
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (REPOSITORY / "docs" / "install.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert shown >= declared["optional-dependencies"].keys() - {"docs", "test"}
    assert f"cellssl-{declared['version']}-py3-none-any.whl" in page
