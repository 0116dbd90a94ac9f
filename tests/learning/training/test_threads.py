"""The number of torch's threads is chosen once per training, from its network, and kept when it is resumed."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from chain import ENVIRONMENT, Chain, run, start

from cellssl.config.settings import PluginField
from cellssl.device import allowed_cores, allowed_threads, cores_of_process, granted_cores
from cellssl.errors import IntegrityError, UsageError
from cellssl.learning.threads import SMALL_NETWORK, network_size, threads_for, torch_threads
from cellssl.stages.shared.arithmetic import FILE, Arithmetic

ENCODERS = PluginField("cellssl.learning.encoders")
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
HERE = Arithmetic(2, "cpu", "float32", "AVX2")


def test_a_small_network_gets_one_thread_and_a_larger_one_all_that_are_allowed() -> None:
    assert [threads_for(SMALL_NETWORK - 1, 8), threads_for(SMALL_NETWORK, 8), threads_for(SMALL_NETWORK, 1)] == [
        1,
        8,
        1,
    ]


@pytest.mark.parametrize(
    "encoder, side_px, millions",
    [("small", 48, 8.46), ("resnet18", 224, 1813.56), ("vgg11", 224, 7485.46)],  # without torchvision's classifiers
)
def test_multiply_adds_are_those_of_the_published_networks(encoder: str, side_px: int, millions: float) -> None:
    chosen = ENCODERS.choose(encoder)
    counted = network_size(chosen.build(3), 3, side_px)
    assert counted.multiply_adds / 1e6 == pytest.approx(millions, rel=0.002)
    assert chosen.network_size(3, side_px) in (counted, None)


def test_allowed_threads_are_those_of_the_user_else_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, expected in (("3", 3), ("4,2", 4), ("", allowed_cores())):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert allowed_threads() == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    with pytest.raises(UsageError, match="'many' is not a number of threads"):
        allowed_threads()
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert cores_of_process.__wrapped__() == 1


def test_granted_cores_count_more_than_the_variable_and_those_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with granted_cores(1):
        assert (allowed_cores(), allowed_threads()) == (1, 1)
        with granted_cores(None), torch_threads(5):
            assert (allowed_cores(), allowed_threads(), torch.get_num_threads()) == (5, 5, 5)
    assert allowed_threads() == 3


@pytest.mark.parametrize(("given", "then"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), (PASSIVE, "None")])
def test_threads_that_wait_sleep_soon_unless_the_user_says_how_they_wait(given: dict[str, str], then: str) -> None:
    code = "import os, cellssl.cli; cellssl.cli.invoke(['--version']); print(os.environ.get('GOMP_SPINCOUNT'))"
    plain = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    said = subprocess.run([sys.executable, "-c", code], env=plain | given, capture_output=True, text=True, check=True)
    assert said.stdout.split()[-1] == then


def test_threads_are_set_within_the_context_alone() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_the_first_process_decides_and_a_change_of_the_rest_is_said(tmp_path: Path) -> None:
    assert HERE.kept(tmp_path, resumed=False) == (HERE, "")
    elsewhere = Arithmetic(8, "cpu", "float32", "AVX512")
    assert elsewhere.kept(tmp_path, resumed=True) == (
        Arithmetic(2, "cpu", "float32", "AVX512"),
        "this training began with instruction_set AVX2, not AVX512",
    )
    assert Arithmetic(8, "cpu", "float32", "AVX2").kept(tmp_path, resumed=True) == (HERE, "")
    assert replace(HERE, compiled=True).kept(tmp_path, resumed=True) == (HERE, "")
    (tmp_path / FILE).write_text("{")
    with pytest.raises(IntegrityError, match=FILE):
        HERE.kept(tmp_path, resumed=True)


def test_a_training_that_can_no_longer_be_compiled_goes_on_without_and_says_so(tmp_path: Path) -> None:
    compiled = replace(HERE, compiled=True)
    assert compiled.kept(tmp_path, resumed=False) == compiled.kept(tmp_path, resumed=True) == (compiled, "")
    assert HERE.kept(tmp_path, resumed=True) == (HERE, "this training began with compiled True, not False")
    (tmp_path / FILE).write_text(
        json.dumps({"threads": 2, "device": "cpu", "precision": "float32", "instruction_set": "AVX2"})
    )
    assert compiled.kept(tmp_path, resumed=True) == (HERE, "")  # begun by an earlier version


def test_a_partial_of_an_earlier_version_says_that_its_threads_are_unknown(tmp_path: Path) -> None:
    assert "not known how many threads" in HERE.kept(tmp_path, resumed=True)[1]


def pretrain(chain: Chain, store: Path, threads: int, *words: str, stop_after: int | None = None) -> dict[str, object]:
    """Train the tiny recipe with an OMP_NUM_THREADS of its own; stop it after a checkpoint, or return its card."""
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": str(threads), "GOMP_SPINCOUNT": "0"}  # wait without using a core
    command = (
        "pretrain",
        chain.recipe,
        "--store",
        store,
        "--device",
        "cpu",
        "--set",
        "pretrain.checkpoint_s=0",
        *words,
    )
    if stop_after is None:
        return json.loads((Path(run(*command, env=environment).line) / "artifact.json").read_text())
    process = start(*command, env=environment)
    while process.poll() is None:
        logs = list(store.glob("pretrain/*.partial/metrics.jsonl"))
        if logs and logs[0].read_bytes().count(b"\n") > stop_after:
            process.send_signal(signal.SIGTERM)
            break
    assert process.communicate()[0] == "" and process.returncode == 143
    return {}


@pytest.mark.soak
def test_a_large_network_stopped_and_resumed_under_other_threads_has_the_bytes_of_an_uninterrupted_one(
    chain: Chain, tmp_path: Path
) -> None:
    large = ("--set", "pretrain.encoder={ name = 'small', widths = [64, 128, 512] }", "--set", "pretrain.epochs=3")
    alone, stopped = (chain.copy_cells(tmp_path / name) for name in ("alone", "stopped"))
    expected = pretrain(chain, alone, 2, *large)
    pretrain(chain, stopped, 2, *large, stop_after=1)
    resumed = pretrain(chain, stopped, 1, *large)
    assert resumed["files"] == expected["files"]
    assert [(card["run"]["threads"], card["run"]["OMP_NUM_THREADS"]) for card in (expected, resumed)] == [
        (2, "2"),
        (2, "1"),
    ]
    assert resumed["run"]["instruction_set"] == torch.backends.cpu.get_cpu_capability()


def test_a_small_network_its_embeddings_and_scores_do_not_depend_on_the_number_of_threads(
    chain: Chain, tmp_path: Path
) -> None:
    store = chain.copy_cells(tmp_path / "store")
    words = (chain.recipe, "--store", store, "--device", "cpu")
    for command in (("run", *words, "--arm", "main", "--to", "cluster"), ("evaluate", *words)):
        assert run(*command, env={**ENVIRONMENT, "OMP_NUM_THREADS": "3"}).line
    for stage in ("pretrain", "embed", "cluster", "evaluate"):
        again, first = (root / stage / chain.made(stage).fingerprint for root in (store, chain.root))
        cards = [json.loads((folder / "artifact.json").read_text()) for folder in (again, first)]
        assert cards[0]["files"] == cards[1]["files"], stage
