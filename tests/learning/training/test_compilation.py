"""A compiled network computes what it computes uncompiled, up to rounding; nothing is compiled unasked."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from chain import Chain, run
from learning.training.test_threads import pretrain

from cellssl.config.settings import PluginField
from cellssl.errors import UsageError
from cellssl.learning.training.compilation import Decision, compile_encoders, decide, obstacle
from cellssl.learning.training.distributed import SINGLE_PROCESS, Group
from cellssl.learning.training.loop import train
from cellssl.learning.training.validation import validation_loss
from cellssl.rank import Rank
from cellssl.stages.pretrain.settings import Settings

CPU = torch.device("cpu")
NETWORK = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


@pytest.fixture(scope="session")
def _compiler() -> None:
    """Skip, with the reason, where torch.compile does not work."""
    if (reason := obstacle(CPU)) is not None:
        pytest.skip(f"torch.compile does not work here: {reason}")


def test_only_a_gpu_compiles_by_itself_and_false_never_does() -> None:
    assert (
        decide("auto", NETWORK, CPU, SINGLE_PROCESS) == decide(False, NETWORK, CPU, SINGLE_PROCESS) == Decision(False)
    )
    assert decide(False, NETWORK, torch.device("cuda"), SINGLE_PROCESS) == Decision(False)


def test_what_cannot_be_compiled_is_an_error_where_it_was_asked_for_and_a_word_where_not() -> None:
    two, gpu = Group(Rank(0, 2)), torch.device("cuda")
    with pytest.raises(UsageError, match="batch norm over several processes") as caught:
        decide(True, NETWORK, gpu, two)
    assert 'pretrain.compile = "auto"' in caught.value.hint
    said = decide("auto", NETWORK, gpu, two)
    assert not said.compiled and "the network is not compiled" in said.note


def test_a_machine_without_a_compiler_is_an_error_with_the_cure(tmp_path: Path) -> None:
    code = """
import torch
from cellssl.learning.training.compilation import decide
from cellssl.learning.training.distributed import SINGLE_PROCESS
decide(True, torch.nn.Linear(1, 1), torch.device("cpu"), SINGLE_PROCESS)
"""
    environment = {"PATH": str(tmp_path), "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "UsageError: pretrain.compile = true, but torch.compile cannot" in done.stderr


def test_the_setting_counts_as_written_and_its_default_does_not() -> None:
    branch = {"view": ["invert"]}
    counted = [
        Settings.model_validate({"branches": {"centre": branch}, **given}).fingerprint_values().get("compile")
        for given in ({}, {"compile": "auto"}, {"compile": True}, {"compile": False})
    ]
    assert counted == [None, None, True, False]


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("cuda_graphs", [pytest.param(False, marks=pytest.mark.soak), True])
def test_a_compiled_training_equals_an_eager_one_up_to_rounding(training: Any, cuda_graphs: bool) -> None:
    """With two branches and validation in between; on a CPU there are no CUDA graphs, but their rules are followed."""
    branches = {"context": {"weight": 0.4}, "centre": {"mask_same_cell": True, "queue": 9}}
    (compiled, plan), (eager, same) = training(branches), training(branches)
    compile_encoders(compiled, cuda_graphs=cuda_graphs)
    assert compiled.encoder.state_dict().keys() == eager.encoder.state_dict().keys()
    metrics = [[event.metrics for event in train(*one)] for one in ((compiled, plan), (eager, same))]
    for ours, theirs in zip(*metrics, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4)
    for name, value in eager.encoder.state_dict().items():
        torch.testing.assert_close(compiled.encoder.state_dict()[name], value, rtol=1e-3, atol=1e-3)
    losses = [
        validation_loss(one, replace(given, batches=replace(plan.batches, size=3)), plan.read, plan.cell_keys)
        for one, given in ((compiled, plan), (eager, same))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize(
    ("encoder", "side"),
    [
        ({"name": "small"}, 16),
        ({"name": "vgg11_bn", "standardise": True}, 32),
        ({"name": "resnet18"}, 32),
        ({"name": "vit", "dim": 8, "depth": 1}, 16),
        ({"name": "timm", "model": "tf_efficientnet_lite0"}, 32),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else str(value),
)
def test_nothing_in_an_encoder_interrupts_the_compiled_code(encoder: Any, side: int) -> None:
    if encoder["name"] == "timm":
        pytest.importorskip("timm")
    network = PluginField("cellssl.learning.encoders").choose(encoder).build(3)
    crops = torch.rand(4, 3, side, side).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        torch.compile(network, backend="eager", fullgraph=True, dynamic=False)(crops).float().sum().backward()


@pytest.mark.usefixtures("_compiler")
def test_a_training_compiles_once_for_each_kind_of_pass(training: Any) -> None:
    from torch._dynamo.utils import counters

    state, plan = training({"context": {}, "centre": {}}, epochs=5)
    compile_encoders(state)
    counters.clear()
    list(train(state, replace(plan, steps=2)))
    after_two = counters["stats"]["unique_graphs"]
    validation_loss(state, plan, plan.read, plan.cell_keys[:6])
    list(train(state, plan))
    assert counters["stats"]["unique_graphs"] == after_two == 2  # with and without gradient


@pytest.mark.soak
@pytest.mark.usefixtures("_compiler")
def test_a_compiled_training_that_is_stopped_and_resumed_has_the_bytes_of_an_uninterrupted_one_and_is_embedded(
    chain: Chain, tmp_path: Path
) -> None:
    compiled = ("--set", "pretrain.compile=true")
    alone, stopped = (chain.copy_cells(tmp_path / name) for name in ("alone", "stopped"))
    expected = pretrain(chain, alone, 1, *compiled)
    pretrain(chain, stopped, 1, *compiled, stop_after=2)
    resumed = pretrain(chain, stopped, 1, *compiled)
    eager = json.loads((chain.made("pretrain").path / "artifact.json").read_text())
    assert resumed["files"] == expected["files"] and resumed["fingerprint"] != eager["fingerprint"]
    assert [card["run"]["compiled"] for card in (expected, resumed, eager)] == [True, True, False]
    folder = Path(run("embed", chain.recipe, "--store", stopped, "--device", "cpu", *compiled).line)
    embedded = [pd.read_parquet(path / "embeddings.parquet") for path in (folder, chain.made("embed").path)]
    columns = [name for name in embedded[0] if name.startswith("emb_")]
    np.testing.assert_allclose(embedded[0][columns], embedded[1][columns], rtol=0.02, atol=0.02)
