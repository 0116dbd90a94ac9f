"""Faults in unattended runs: damaged recipes, full disks, changing clocks; one sentence, a code, no half-made file."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from chain import ENVIRONMENT, RECIPE, Chain, Said, run, say, start
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellssl.artifacts.card import read_card
from cellssl.randomness import generator

LINES = RECIPE.strip().splitlines()
ODD = [
    "",
    "=",
    "[",
    "]]",
    "name",
    '"""',
    "'",
    "nan",
    "-1",
    "1e400",
    "99999999999999999999",
    "true",
    "{}",
    "[[]]",
    "\0",
    "é\u2028",
]
ODD += [
    '{ name = "moco" }',
    "[arm.x.embed]",
    "[pretrain]",
    "1979-05-27",
    "0x",
    "\\",
    "../../x",
    "x" * 300,
    "inf",
    '"' * 5,
]
PIECES = st.one_of(st.sampled_from(ODD), st.text(max_size=5), st.sampled_from(LINES))


@st.composite
def damaged_recipes(draw: st.DrawFn) -> str:
    """Return the recipe of the tests with a few lines removed, doubled, cut, mixed or overwritten."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(lines) - 1))
        key, equals, value = lines[place].partition(" = ")
        damage = draw(st.sampled_from(["value", "value", "key", "lost", "doubled", "cut", "joined"]))
        piece = draw(PIECES)
        lines[place : place + 1] = {
            "value": [f"{key}{equals}{piece}"],
            "key": [f"{piece}{equals}{value}"],
            "lost": [],
            "doubled": [lines[place], lines[place]],
            "cut": [lines[place][: draw(st.integers(0, len(lines[place])))]],
            "joined": [lines[place], piece],
        }[damage]
        lines = lines or [""]
    return "\n".join(lines)


def is_read_or_refused(folder: Path, text: str) -> None:
    """Assert that a dry run exits with 0, or with 2, one sentence and at most one line of cure, and no traceback."""
    recipe = folder / "r.toml"
    recipe.write_bytes(text.encode("utf-8", "surrogatepass"))
    said = say("run", recipe, "--store", folder / "store", "--dry-run", "--to", "embed", "-q")
    assert said.code in (0, 2), (text, said.err)
    if said.code == 2:
        error, *cure = said.err.rstrip("\n").split("\n")
        assert error.startswith("error: "), text
        assert len(error) < 1500, text
        assert [line[:8] for line in cure] in ([], ["  cure: "]), (text, said.err)
    assert not (folder / "store").exists() or not list((folder / "store").glob("*/*/artifact.json"))


QUICK = settings(
    max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)


@QUICK
@given(damaged_recipes())
def test_a_damaged_recipe_is_read_or_refused_in_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    is_read_or_refused(tmp_path_factory.getbasetemp(), text)


@pytest.mark.soak
@settings(parent=QUICK, max_examples=10_000, derandomize=False)
@given(damaged_recipes())
def test_ten_thousand_damaged_recipes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    is_read_or_refused(tmp_path_factory.getbasetemp(), text)


def cheap_fetch(recipe: Path, root: Path) -> list[object]:
    values = ["fetch.dataset.doses=1", "fetch.dataset.control_wells=1", "fetch.dataset.sites_per_well=1"]
    return ["fetch", recipe, "--store", root, *(word for value in values for word in ("--set", value))]


def test_a_full_disk_is_an_error_with_a_cure_and_with_more_space_the_same_command_resumes(
    chain: Chain, small_disk: Path
) -> None:
    words = cheap_fetch(chain.recipe, small_disk / "store")
    full = run(*words, "--log-file", small_disk / "night.log")
    assert full.code == 1, full.err
    assert "is full" in full.err and "cellssl gc" in full.err
    assert "Traceback" not in full.err
    assert not list(small_disk.glob("store/*/*/artifact.json"))
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert say("verify", run(*words).line).code == 0
    assert not list(small_disk.glob("store/*/*.partial"))


def test_a_log_on_a_full_disk_is_given_up_and_the_work_continues(chain: Chain) -> None:
    said = chain.say("cluster", "--force", "--log-file", "/dev/full")
    assert "the log /dev/full cannot be written any more: No space left on device" in said.err
    assert said.line == str(chain.made("cluster").path)


def run_command(*words: object, **streams: object) -> subprocess.CompletedProcess[str]:
    """Run one command; streams that are not given are captured."""
    plain = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONUNBUFFERED"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    command = [sys.executable, "-m", "cellssl", *map(str, words)]
    return subprocess.run(command, env=plain, text=True, check=False, **pipes)


WORDS = [
    "--help",
    "--version",
    "split --help",
    "explain views",
    "status RECIPE --store STORE",
    "split RECIPE --store STORE",
]


@pytest.mark.parametrize("words", WORDS)
def test_a_stdout_that_cannot_be_written_is_an_error_with_a_cure(words: str, chain: Chain) -> None:
    given = {"RECIPE": chain.recipe, "STORE": chain.root}
    with Path("/dev/full").open("w") as full:
        said = run_command(*(given.get(word, word) for word in words.split()), stdout=full)
    assert said.returncode == 1
    *_, error, cure = said.stderr.splitlines()
    assert error == "error: stdout cannot be written: No space left on device" and cure.startswith("  cure: ")
    assert "Traceback" not in said.stderr and "Exception" not in said.stderr


def test_a_usage_error_exits_with_2_even_if_stderr_cannot_be_written() -> None:
    with Path("/dev/full").open("w") as full:
        assert run_command("nonsense", stderr=full).returncode == 2
        assert run_command("status", "nonsense", stderr=full).returncode == 2


JUMPING = """
import time
_true, _calls = time.time, [0]
def _jumping():
    _calls[0] += 1
    return _true() + 86_400 * 400 * (-1) ** _calls[0]
time.time = _jumping
"""
"""A clock that jumps a year forward or back at every call; Python runs this file at start."""


def test_neither_clock_nor_time_zone_changes_a_result(chain: Chain, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPING)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    cards = []
    for name, more in {"plain": {"TZ": "UTC"}, "odd": {"TZ": "Pacific/Kiritimati", "PYTHONPATH": path}}.items():
        said = run(*cheap_fetch(chain.recipe, tmp_path / name), env={**ENVIRONMENT, **more})
        card = json.loads((Path(said.line) / "artifact.json").read_text())
        assert 0 < card["run"]["seconds"] < 1000
        cards.append({key: value for key, value in card.items() if key not in ("run", "sha256")})
    assert cards[0] == cards[1]


def test_a_read_only_store_is_not_changed(chain: Chain, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in chain.root.glob("*/*/*")}
    said = say("split", chain.recipe, "--store", tmp_path / "mine", "--store", chain.root, "--set", "split.seed=7")
    assert Path(said.line).is_relative_to(tmp_path / "mine")
    assert {path: path.stat().st_mtime_ns for path in chain.root.glob("*/*/*")} == before


def test_a_store_that_was_moved_to_an_unusual_path_is_up_to_date(chain: Chain, tmp_path: Path) -> None:
    moved = tmp_path / "ein Ordner 'mit' ünd $HOME 細胞"
    shutil.copytree(chain.root, moved, ignore=shutil.ignore_patterns("*.partial", "*.lock"))
    said: Said = say("run", chain.recipe, "--store", moved)
    assert Path(said.line).is_relative_to(moved)
    assert "begins" not in said.err


KILLS = 200


def whole_run(chain: Chain, root: Path) -> subprocess.Popen[str]:
    """Start all arms and seeds in a new process group, so that workers die with it."""
    return start("run", chain.recipe, "--store", root, "--device", "cpu", "-q", start_new_session=True)


def kill_until_it_ends(chain: Chain, root: Path, longest_s: float, chance: np.random.Generator) -> int:
    """Run the same command until one try ends, killing each at a random time; return the number of kills."""
    killed = 0
    while True:
        process = whole_run(chain, root)
        try:
            _, err = process.communicate(timeout=chance.uniform(0.2, longest_s))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
            continue
        assert process.returncode == 0, err
        return killed


@pytest.mark.soak_long
def test_after_two_hundred_kills_at_random_times_the_chain_gives_the_same_bytes(chain: Chain, tmp_path: Path) -> None:
    began = time.monotonic()
    assert whole_run(chain, tmp_path / "whole").wait() == 0
    longest_s = time.monotonic() - began
    wanted = {path.parent: read_card(path).files for path in (tmp_path / "whole").glob("*/*/artifact.json")}
    chance, killed, turn = generator("test", "kills"), 0, 0
    while killed < KILLS:
        root = tmp_path / f"killed-{turn}"
        killed += kill_until_it_ends(chain, root, longest_s, chance)
        assert {path.relative_to(tmp_path / "whole") for path in wanted} == {
            path.parent.relative_to(root) for path in root.glob("*/*/artifact.json")
        }
        for path, files in wanted.items():
            assert read_card(root / path.relative_to(tmp_path / "whole")).files == files, path
        assert not list(root.glob("*/*.partial"))
        shutil.rmtree(root)
        turn += 1
        print(f"\n{killed} of {KILLS} killed", flush=True)  # noqa: T201 - progress of a long test
