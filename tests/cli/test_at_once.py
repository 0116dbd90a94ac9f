"""Stages at once: the bytes, pointers, exit codes and saved work of one after another, on one console."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from chain import LIMIT_S, Chain, Said, run, start
from forked import Forked

from cellssl.files import write_text

LONG = ("--set", "pretrain.epochs=20")


def recipe_of(chain: Chain, folder: Path) -> Path:
    """The tiny recipe with two arms that are trained, and two seeds."""
    name, _, rest = chain.recipe.read_text().strip().partition("\n")
    write_text(folder / "tiny.toml", f"{name}\nseeds = [0, 1]\n{rest}\n[arm.other.pretrain]\nlearning_rate = 0.002\n")
    return folder / "tiny.toml"


def pretrainings(recipe: Path, store: Path, jobs: str, *words: str, both_arms: bool = False) -> tuple[str, ...]:
    """A command that makes two trainings per arm."""
    flags = ("--device", "cpu", "--to", "pretrain", "--jobs", jobs, *(() if both_arms else ("--arm", "main")))
    return ("run", str(recipe), "--store", str(store), *flags, *words)


def files_of(store: Path, *stages: str) -> dict[str, object]:
    """The bytes of all artifacts of some stages, as their cards list them."""
    cards = [card for stage in stages for card in sorted(store.glob(f"{stage}/*/artifact.json"))]
    return {str(card.relative_to(store)): json.loads(card.read_text())["files"] for card in cards}


def pointers_of(store: Path) -> dict[str, str]:
    return {str(one.relative_to(store)): one.read_text() for one in (store / "by-recipe").rglob("*.json")}


def stopped(process: Forked, store: Path, *numbers: signal.Signals, count: int = 2) -> Said:
    """Signal a command as soon as so many trainings have some steps, and wait for its end."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        logs = [log.read_bytes().count(b"\n") for log in store.glob("pretrain/*.partial/metrics.jsonl")]
        if sum(lines > 3 for lines in logs) >= count:
            break
        time.sleep(0.02)
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.1)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode is not None
    return Said(process.returncode, out, err)


def test_two_jobs_make_the_bytes_and_pointers_of_one_and_name_the_arm_in_every_line(
    chain: Chain, tmp_path: Path
) -> None:
    recipe = recipe_of(chain, tmp_path)
    words = ("run", recipe, "--device", "cpu", "--arm", "main", "--to", "evaluate")
    one, two = (chain.copy_cells(tmp_path / name) for name in ("one", "two"))
    log = tmp_path / "log.jsonl"
    assert run(*words, "--store", one, "--jobs", "1").line
    said = run(*words, "--store", two, "--jobs", "2", "--log-file", log, "--log-format", "json")
    assert said.line and files_of(one, "pretrain", "embed", "evaluate") == files_of(
        two, "pretrain", "embed", "evaluate"
    )
    assert pointers_of(one) == pointers_of(two)
    assert re.search(r"^pretrain main seed 1: 0 of \d+ steps", said.err, re.MULTILINE), said.err
    progress = [event for event in map(json.loads, log.read_text().splitlines()) if event["event"] == "progress"]
    assert {event.get("seed") for event in progress if event["stage"] == "pretrain"} == {0, 1}


def test_a_signal_saves_all_that_is_made_at_once_and_the_next_run_goes_on_to_the_same_bytes(
    chain: Chain, tmp_path: Path
) -> None:
    recipe = recipe_of(chain, tmp_path)
    plain, broken = (chain.copy_cells(tmp_path / name) for name in ("plain", "broken"))
    said = stopped(start(*pretrainings(recipe, broken, "2", *LONG)), broken, signal.SIGINT)  # type: ignore[arg-type]
    assert said.code == 130 and "Traceback" not in said.err
    assert len(list(broken.glob("pretrain/*.partial/scratch/last.ckpt"))) >= 2, "both have a checkpoint"
    assert not list(broken.glob("pretrain/*.lock"))
    assert run(*pretrainings(recipe, broken, "2", *LONG)).err.count("continuing after step") == 2
    assert run(*pretrainings(recipe, plain, "1", *LONG)).code == 0
    assert files_of(plain, "pretrain") == files_of(broken, "pretrain")


@pytest.mark.soak
def test_a_second_signal_and_a_kill_leave_no_process_and_nothing_that_keeps_the_next_run_from_its_end(
    chain: Chain, tmp_path: Path
) -> None:
    recipe, store = recipe_of(chain, tmp_path), chain.copy_cells(tmp_path / "store")
    for numbers, code in (((signal.SIGTERM, signal.SIGTERM), 143), ((signal.SIGKILL,), -9)):
        process = start(*pretrainings(recipe, store, "2", *LONG))
        said = stopped(process, store, *numbers)  # type: ignore[arg-type]
        assert said.code in (code, -numbers[0]) and "Traceback" not in said.err, said.err
    assert run(*pretrainings(recipe, store, "2", *LONG)).code == 0
    assert len(files_of(store, "pretrain")) == 2


def test_a_stage_that_fails_ends_the_command_with_its_code_after_what_is_beside_it(
    chain: Chain, tmp_path: Path
) -> None:
    recipe, store = recipe_of(chain, tmp_path), chain.copy_cells(tmp_path / "store")
    recipe.write_text(recipe.read_text().replace("learning_rate = 0.002", "learning_rate = 1e30"))
    said = run(*pretrainings(recipe, store, "3", *LONG, both_arms=True))
    assert said.code == 1 and "Traceback" not in said.err, said.err
    assert re.search(r"^pretrain other seed \d: failed", said.err, re.M)
    assert "error: " in said.err.splitlines()[-2] and "cure: " in said.err.splitlines()[-1]
    assert not list(store.glob("pretrain/*.lock"))
    main = {seed for seed in ("0", "1") if f"pretrain main seed {seed}: begins" in said.err}
    assert main and main == {seed for seed in main if f"pretrain main seed {seed}: done" in said.err}


def test_a_process_that_dies_is_an_error_that_names_the_stage(chain: Chain, tmp_path: Path) -> None:
    recipe, store = recipe_of(chain, tmp_path), chain.copy_cells(tmp_path / "store")
    process = start(*pretrainings(recipe, store, "2", *LONG))
    deadline = time.monotonic() + LIMIT_S
    locks: list[Path] = []
    while time.monotonic() < deadline and len(locks) < 2:
        locks = list(store.glob("pretrain/*.lock"))
        time.sleep(0.05)
    os.kill(json.loads(locks[0].read_text())["pid"], signal.SIGKILL)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert re.search(r"^error: pretrain \w+ seed \d: its process died \(signal 9, SIGKILL\)", err, re.MULTILINE), err


@pytest.mark.parametrize("no_wait", [pytest.param(False, marks=pytest.mark.soak), True])
def test_two_commands_at_once_share_the_work_or_one_says_busy(chain: Chain, tmp_path: Path, *, no_wait: bool) -> None:
    recipe, store = recipe_of(chain, tmp_path), chain.copy_cells(tmp_path / "store")
    words = pretrainings(recipe, store, "2", *(("--no-wait",) if no_wait else ()))
    processes = [start(*words) for _ in range(2)]
    ends = [process.communicate(timeout=LIMIT_S) for process in processes]
    codes = sorted(process.returncode for process in processes)
    assert codes == [0, 0] or (no_wait and codes == [0, 75]) or (no_wait and codes == [75, 75]), ends
    assert run(*pretrainings(recipe, store, "2")).code == 0
    assert len(files_of(store, "pretrain")) == 2
