"""The page docs/unattended.md: the shell script, the cron line and the makefile that it shows work as they stand."""

import fcntl
import re
import shutil
import subprocess
from pathlib import Path

import forked
import pytest
from chain import ENVIRONMENT, Chain
from conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "unattended.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The first block of a language."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def night(chain: Chain, tmp_path: Path) -> Path:
    """A working folder as the page asks for: the script, a recipe, and the program in .venv/bin."""
    (tmp_path / "night.sh").write_text(block("bash"))
    shutil.copy(chain.recipe, tmp_path / "tonight.toml")
    program = tmp_path / ".venv/bin/cellssl"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {forked.program()} "$@"\n')
    program.chmod(0o755)
    return tmp_path


def shell(command: str, folder: Path, store: Path) -> subprocess.CompletedProcess[str]:
    environment = {**ENVIRONMENT, "CELLSSL_STORE": str(store)}
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def cron_command(folder: Path) -> str:
    """What cron would hand to the shell, with this folder in the place of the page's."""
    line = block("cron").splitlines()[-1]
    assert re.fullmatch(r"(\S+ +){5}.*", line)
    assert "%" not in line  # cron makes it a line's end
    command = line.split(maxsplit=5)[5]
    return command.replace("/data/screen", f"'{folder}'")


def test_the_cron_line_runs_the_script_and_its_mail_says_how_it_went(chain: Chain, night: Path) -> None:
    said = shell(cron_command(night), night, chain.root)
    assert said.returncode == 0, said.stdout + said.stderr
    done, costs, log = said.stdout.splitlines()
    assert done.startswith(f"done: {chain.root}/report/")
    assert costs.startswith("the finished stages took ")
    assert "up to date" in (night / log.removeprefix("log: ")).read_text()


def test_the_first_night_by_hand_goes_as_the_page_says(chain: Chain, night: Path) -> None:
    shown = block("sh")
    kept = [line for line in shown.splitlines() if not line.startswith(("mkdir", "cd", "ln", "crontab"))]
    assert len(kept) == 3 and len(shown.splitlines()) == 7
    for line in kept:
        said = shell(line, night, chain.root)
        assert said.returncode == 0, said.stdout + said.stderr
    mail = said.stdout.splitlines()
    example = re.search(r"```\n(done: .*?)```", PAGE, re.DOTALL)
    assert example is not None
    assert [line.split()[0] for line in mail] == [line.split()[0] for line in example[1].splitlines()]
    assert "metrics=" not in (night / mail[-1].removeprefix("log: ")).read_text()


def test_a_failure_is_in_the_mail_with_its_reason_and_code(chain: Chain, night: Path) -> None:
    (night / "tonight.toml").write_text('name = "x"\n[segment]\ncroppx = 3\n')
    said = shell(cron_command(night), night, chain.root)
    assert said.returncode == 2
    assert "FAILED with exit code 2" in said.stdout
    assert "did you mean 'crop_px'?" in said.stdout


def test_while_last_nights_job_works_nothing_is_started(chain: Chain, night: Path) -> None:
    with (night / "night.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = shell(cron_command(night), night, chain.root)
    assert said.returncode == 75
    assert "last night's job still works" in said.stdout
    assert not list(night.glob("*.log"))


def test_the_script_has_twenty_lines() -> None:
    assert len(block("bash").splitlines()) <= 20


def test_the_makefile_makes_every_card_and_asks_the_store_each_time(chain: Chain, night: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    (night / "Makefile").write_text(block("make"))
    make = "PATH=$PWD/.venv/bin:$PATH make cards/cluster.json RECIPE=tonight.toml"
    said = shell(f"{make} -s", night, chain.root)
    assert said.returncode == 0, said.stderr
    names = ["cluster", "embed", "fetch", "pretrain", "segment", "split"]
    assert sorted(path.stem for path in (night / "cards").iterdir()) == names
    again = shell(f"{make} -n", night, chain.root).stdout
    assert all(f"cellssl {name} tonight.toml" in again for name in names)


def test_the_workflows_are_copied_by_the_commands_that_are_shown(night: Path) -> None:
    for name in ("snakemake", "nextflow"):
        (line,) = [line for line in PAGE.splitlines() if line.startswith(f"cellssl workflow {name}")]
        for _ in range(2):  # the second one is up to date
            assert shell(f"PATH=$PWD/.venv/bin:$PATH {line}", night, night / "store").returncode == 0
        for path in (REPOSITORY / "recipes" / name).rglob("*"):
            assert (night / "workflow" / path.relative_to(REPOSITORY / "recipes" / name)).exists()
        (night / "workflow").rename(night / name)
    for flag, path in re.findall(r"--(snakefile|profile) workflow/(\S+)", PAGE):
        assert (night / "snakemake" / path).exists(), flag
    said = shell(".venv/bin/cellssl workflow snakemake nextflow", night, night / "store")
    assert said.returncode == 2 and "has the workflow for nextflow" in said.stderr
    (night / "snakemake/Snakefile").write_text("mine")
    said = shell(".venv/bin/cellssl workflow snakemake snakemake", night, night / "store")
    assert said.returncode == 2 and "is there already and differs" in said.stderr
    assert (night / "snakemake/Snakefile").read_text() == "mine"
