"""Disks that are full, failing or read-only: a sentence each, nothing lost, and afterwards the same bytes as ever."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain import RECIPE
from fault_injection import CALLS, ERRORS, EVERYTHING, HOW, Ended, FailingDisk, Fault, failing_disk

from cellssl.artifacts.card import read_card
from cellssl.artifacts.store import Artifact
from cellssl.randomness import generator

LIGHT = ("numpy", "cellssl.artifacts.export", "cellssl.artifacts.store", "cellssl.artifacts.crops", "cellssl.cli")
UNFINISHED = re.compile(r"\.tmp$|\.part$|\.partial$|\.aside")


def cards(root: Path) -> dict[str, dict[str, Any]]:
    """Return what does not differ from run to run of every finished result; assert that its files are as it says."""
    found = {}
    for path in root.glob("*/*/artifact.json"):
        if re.fullmatch(r"[0-9a-f]{12}", path.parent.name):
            assert Artifact(path.parent, read_card(path)).faults() == []
            card = json.loads(path.read_text())
            found[f"{card['kind']}/{card['fingerprint']}"] = {
                key: value for key, value in card.items() if key not in ("run", "sha256")
            }
    return found


def check_ending(ended: Ended, what: str) -> None:
    """Assert that a command ended well, or with one sentence, a cure and exit code 1.

    A lock whose file is stale was replaced by another machine, as far as this one can know: that is exit code 75.
    """
    is_stale_lock = "ESTALE" in what and "the lock" in ended.err
    assert ended.code in ((0, 1, 75) if is_stale_lock else (0, 1)), f"{what}: exit code {ended.code}\n{ended.err}"
    assert "Traceback" not in ended.err and "Exception" not in ended.err, f"{what}\n{ended.err}"
    if ended.code == 1:
        assert ended.failed, f"{what}\n{ended.err}"
        assert re.search(r"^error: .+\n  cure: .+$", ended.err, re.MULTILINE), f"{what}\n{ended.err}"


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FailingDisk]:
    with failing_disk(tmp_path_factory.mktemp("light"), LIGHT) as disk:
        yield disk


def small_faults(disk: FailingDisk, root: Path) -> Iterator[Fault]:
    """Yield a fault of every call that making a small result needs."""
    counted = disk.run("small", root, fault=Fault("write", 10**9, "EIO", root)).counted
    number = 0
    for call in CALLS:
        for nth in range(1, counted[call] + 1):
            number += 1
            yield Fault(call, nth, ERRORS[call][number % len(ERRORS[call])], root, HOW[number % 2 * 2])


def fails_and_continues(disk: FailingDisk, root: Path, faults: list[Fault]) -> Counter[int]:
    """Make a small result with each fault, then without; return how often the first ended with which code."""
    disk.run("small", root)
    wanted, codes = cards(root), Counter[int]()
    for fault in faults:
        shutil.rmtree(root)
        first = disk.run("small", root, fault=fault)
        check_ending(first, str(fault))
        assert all(wanted[name] == card for name, card in cards(root).items()), fault
        again = disk.run("small", root)
        assert again.code == 0, f"{fault}\n{first.err}\n{again.err}"
        assert cards(root) == wanted, fault
        assert not [path for path in root.rglob("*") if UNFINISHED.search(path.name)], fault
        codes[first.code] += 1
    return codes


def test_when_a_call_of_making_a_result_fails_it_is_said_and_the_next_run_gives_the_same_bytes(
    light: FailingDisk, tmp_path: Path
) -> None:
    faults = list(small_faults(light, tmp_path / "store"))
    codes = fails_and_continues(light, tmp_path / "store", faults[:: max(1, len(faults) // 40)])
    assert codes[1] > codes[0] > 0


@pytest.mark.soak
def test_when_any_call_of_making_a_result_fails_it_is_said_and_the_next_run_gives_the_same_bytes(
    light: FailingDisk, tmp_path: Path
) -> None:
    faults = list(small_faults(light, tmp_path / "store"))
    codes = fails_and_continues(light, tmp_path / "store", faults)
    print(f"\n{len(faults)} faults: {codes[1]} sentences, {codes[0]} without effect, {len(faults)} equal bytes")  # noqa: T201


SMALLER = {
    "sites_per_well = 2": "sites_per_well = 1",
    "control_wells = 4": "control_wells = 3",
    "doses = 4": "doses = 2",
    "epochs = 6": "epochs = 2",
    "height_px = 256": "height_px = 192",
    "width_px = 320": "width_px = 256",
}
STAGES = ("fetch", "segment", "split", "pretrain", "embed", "cluster", "evaluate", "hits", "report")
READERS = ("status", "verify", "gc")
DRAWS = 100


def smaller_recipe(path: Path) -> Path:
    text = RECIPE
    for before, after in SMALLER.items():
        assert before in text
        text = text.replace(before, after)
    path.write_text(text)
    return path


class Drill:
    """Commands on one recipe, each on a copy of what it needs from a store that was made without faults."""

    def __init__(self, disk: FailingDisk, folder: Path, seed: int) -> None:
        self.disk, self.whole, self.below = disk, folder / "whole", folder / "below"
        self.recipe = smaller_recipe(folder / "tiny.toml")
        self.chance = generator("test", "failing disk", seed)
        made = disk.run("run", self.recipe, "--store", self.whole, "--device", "cpu", "-q")
        assert made.code == 0, made.err
        self.wanted = cards(self.whole)
        self.counted: dict[tuple[str, ...], dict[str, int]] = {}

    def begin(self, command: str) -> None:
        """Copy what the command needs."""
        shutil.rmtree(self.below, ignore_errors=True)
        self.below.mkdir()
        if command in READERS:
            shutil.copytree(self.whole, self.below / "store")
        for stage in STAGES[: STAGES.index(command)] if command in STAGES else ():
            shutil.copytree(self.whole / stage, self.below / "store" / stage)

    def words(self, command: str) -> tuple[str, ...]:
        """Draw the flags of a command."""
        store = self.below / "store"
        if command == "gc":
            return "gc", "--store", str(store), "--yes"
        if command == "verify":
            cells = next(name for name in self.wanted if name.startswith("segment/"))
            return "verify", str(store / cells)
        words = ["run" if command == "report" else command, str(self.recipe), "--store", str(store)]
        if command == "status":
            return tuple(words)
        words += ["--device", "cpu", "--log-file", str(self.below / "log")]
        if command == "pretrain" and self.chance.random() < 0.7:
            words += ["--set", "pretrain.checkpoint_s=0.01"]
        if command == "fetch" and self.chance.random() < 0.5:
            words += ["--set", "fetch.dataset.workers=2"]
        if command == "segment" and self.chance.random() < 0.5:
            words += ["--set", "segment.workers=2"]
        if command != "report":
            words += ["--output", str(self.below / ("card.json" if self.chance.random() < 0.5 else "copy"))]
        return tuple(words)

    def draw(self) -> tuple[str, tuple[str, ...], Fault]:
        """Draw a command and one of its calls."""
        while True:
            command = str(self.chance.choice([*STAGES, *STAGES, *READERS]))
            words = self.words(command)
            if words not in self.counted:
                self.begin(command)
                self.counted[words] = self.disk.run(*words, fault=Fault("write", 10**9, "EIO", self.below)).counted
            call = str(self.chance.choice(CALLS))
            if count := self.counted[words][call]:
                how = str(self.chance.choice(HOW))
                nth = 1 + int(self.chance.integers(count) / (3 if how == "every" else 1))
                return command, words, Fault(call, nth, str(self.chance.choice(ERRORS[call])), self.below, how)

    def run(self, command: str, words: tuple[str, ...], fault: Fault) -> int:
        """Run a command with a fault and again without; return the exit code of the first try."""
        self.begin(command)
        first = self.disk.run(*words, fault=fault)
        what = f"{' '.join(words)}: {fault}: {first.first}"
        if not (first.code == 2 and "--log-file" in first.err):  # a log that cannot be opened is a wrong argument
            check_ending(first, what)
        store = self.below / "store"
        assert all(self.wanted[name] == card for name, card in cards(store).items()), what
        again = self.disk.run(*words)
        assert again.code == 0, f"{what}\n{first.err}\n{again.err}"
        made = cards(store)
        ready = STAGES[: STAGES.index(command) + 1] if command in STAGES else STAGES
        for name, card in self.wanted.items():
            if name.partition("/")[0] in STAGES[: len(ready) - 1] or (command == "report" or command in READERS):
                assert made.get(name) == card, f"{what}: {name}"
        assert any(name.startswith(f"{ready[-1]}/") for name in made), what
        for copied in (self.below / "copy").rglob("*"):
            assert copied.name.startswith(".") or copied.is_dir() or list(store.rglob(copied.name)), what
        assert not [path for path in store.rglob("*") if UNFINISHED.search(path.name)], what
        return first.code


@pytest.mark.soak
def test_a_hundred_faults_in_the_whole_chain_are_sentences_and_the_next_run_gives_the_same_bytes(
    tmp_path: Path,
) -> None:
    seed = int(np.random.SeedSequence().entropy) % 10**6  # type: ignore[arg-type,operator]
    print(f"\nseed {seed}")  # noqa: T201 - to repeat it
    codes = Counter[int]()
    with failing_disk(tmp_path / "disk", EVERYTHING) as disk:
        drill = Drill(disk, tmp_path, seed)
        for number in range(DRAWS):
            command, words, fault = drill.draw()
            code = drill.run(command, words, fault)
            codes[code] += 1
            print(f"{number + 1} of {DRAWS}: {command}, {fault}: exit code {code}", flush=True)  # noqa: T201
    print(f"{DRAWS} faults: {codes[1]} sentences, {codes[0]} without effect, {DRAWS} equal bytes")  # noqa: T201
