"""Several processes train as one: the same losses as one process, one writer, and no process waits for one that
ended.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cellssl.device import device_for
from cellssl.errors import UsageError
from cellssl.learning.training.batch_norm import SyncBatchNorm2d, convert_sync_batch_norm
from cellssl.learning.training.distributed import SINGLE_PROCESS, Group, check_batch
from cellssl.rank import Rank

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TESTS = str(Path(__file__).resolve().parents[2])


def start(folder: Path, *words: object) -> subprocess.Popen[str]:
    """Start torchrun with two processes."""
    plain = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": plain, "cwd": folder}
    return subprocess.Popen([*TORCHRUN, *map(str, words)], **pipes)


def in_two_processes(folder: Path, *codes: str) -> list[list[Any]]:
    """Run pieces of code one after the other in two processes; return for each piece the `result` by rank."""
    opening = """
        import json, pathlib, torch
        from cellssl.rank import Rank
        from cellssl.learning.training.distributed import process_group
        rank, results = Rank.from_environment(), []
        with process_group(rank, torch.device("cpu")) as group:
    """
    pieces = "".join(f"{textwrap.dedent(code).strip()}\nresults.append(result)\n" for code in codes)
    closing = '\npathlib.Path(f"{rank.number}.json").write_text(json.dumps(results))'
    script = textwrap.dedent(opening).strip() + "\n" + textwrap.indent(pieces, "    ") + closing
    (folder / "script.py").write_text(script)
    process = start(folder, "script.py")
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    by_rank = [json.loads((folder / f"{number}.json").read_text()) for number in (0, 1)]
    return [list(of_piece) for of_piece in zip(*by_rank, strict=True)]


# One process.


def test_the_rank_comes_from_torchrun_and_is_a_single_process_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Rank.from_environment() == Rank(0, 1, 0) and Rank().is_main
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "here"}.items():
        monkeypatch.setenv(name, value)
    assert Rank.from_environment() == Rank(3, 4, 1) and not Rank.from_environment().is_main
    monkeypatch.delenv("MASTER_ADDR")  # a cluster may set the others for reasons of its own
    assert Rank.from_environment() == Rank()


@pytest.mark.parametrize(("cells", "count"), [(12, 3), (13, 3), (4, 4), (7, 2)])
def test_the_shares_together_are_the_batch_and_their_sizes_differ_by_one_at_most(cells: int, count: int) -> None:
    shares = [Group(Rank(number, count)).share(np.arange(cells)) for number in range(count)]
    assert np.concatenate(shares).tolist() == list(range(cells))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_batch_smaller_than_the_number_of_processes_is_an_error_with_a_hint() -> None:
    check_batch(4, Rank(0, 4))
    with pytest.raises(UsageError, match="a batch of 4 cells cannot be shared among 5 processes") as caught:
        check_batch(4, Rank(0, 5))
    assert "start 4 processes or fewer" in caught.value.hint


def test_a_process_without_a_gpu_of_its_own_is_an_error() -> None:
    assert device_for("cpu", Rank(1, 2, 1)) == torch.device("cpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="GPU 'cuda:1' was asked for"):
            device_for("cuda", Rank(1, 2, 1))


def test_batch_norm_of_another_class_is_an_error_and_with_one_process_nothing_changes() -> None:
    strange = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    assert convert_sync_batch_norm(strange, SINGLE_PROCESS, torch.device("cpu"))[0] is strange[0]  # type: ignore[index]
    with pytest.raises(UsageError, match="batch norm of the class BatchNorm1d"):
        convert_sync_batch_norm(strange, Group(Rank(0, 2)), torch.device("cpu"))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batch_norm_that_contains_its_activation_is_an_error_on_every_device(device: str) -> None:
    """If torch's batch norm replaced timm's, the network would silently train without any activation."""
    import timm

    with pytest.raises(UsageError, match="batch norm of the class BatchNormAct2d"):
        convert_sync_batch_norm(timm.create_model("tf_efficientnet_lite0"), Group(Rank(0, 2)), torch.device(device))


def test_synchronised_batch_norm_keeps_weights_names_and_evaluation() -> None:
    before = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4))
    before[1].running_mean.copy_(torch.arange(4.0))
    crops = torch.rand(3, 2, 8, 8)
    expected, names = before.eval()(crops), list(before.state_dict())
    after = convert_sync_batch_norm(before, Group(Rank(0, 2)), torch.device("cpu")).eval()
    assert isinstance(after[1], SyncBatchNorm2d) and list(after.state_dict()) == names  # type: ignore[index]
    torch.testing.assert_close(after(crops), expected)


# Two real processes.


BATCH_NORM = """
    import copy
    from cellssl.learning.training.batch_norm import convert_sync_batch_norm
    torch.manual_seed(0)
    crops, pull = torch.randn(7, 5, 6, 6) * 3 + 2, torch.randn(7, 5, 6, 6)
    plain = torch.nn.Sequential(torch.nn.BatchNorm2d(5))
    torch.nn.init.uniform_(plain[0].weight)
    ours = convert_sync_batch_norm(copy.deepcopy(plain), group, torch.device("cpu"))
    whole = crops.clone().requires_grad_()
    own = group.share(crops).clone().requires_grad_()
    expected, seen = plain(whole), ours(own)
    (expected * pull).sum().backward()
    (seen * group.share(pull)).sum().backward()
    group.all_reduce_gradients(ours, torch.nn.Module())
    pairs = [(seen, group.share(expected)), (own.grad, group.share(whole.grad))]
    pairs += [(a.grad, b.grad) for a, b in zip(ours.parameters(), plain.parameters())]
    pairs += [(a, b) for a, b in zip(ours.buffers(), plain.buffers())]
    result = [float((a - b).abs().max() / b.abs().max()) for a, b in pairs]
"""
GATHERING = """
    whole = torch.arange(5 * 2.0).view(1, 5, 2)
    own = group.share(whole[0])[None].clone().requires_grad_()
    seen = group.gather(own, 5)
    (seen ** 2).sum().backward()
    result = [seen.tolist() == whole.tolist(), own.grad.tolist() == (2 * own).tolist(), own.shape[1]]
"""
TRAINING = """
    from dataclasses import replace
    from learning.conftest import MadeUpCrops, settings_of
    from cellssl.learning.training.loop import train
    from cellssl.learning.training.positives import Partners, Positives
    from cellssl.learning.training.validation import validation_loss
    from cellssl.stages.pretrain.networks import keys_of, prepare, crop_reader
    branches = {"context": {"weight": 0.4, "positives": {}}, "centre": {"mask_same_cell": True, "queue": 9}}
    settings = settings_of(branches, batch=5, epochs=4, weight_decay=0.01, clip_norm=5.0)
    crops = MadeUpCrops(13)
    ids, numbers = [f"cell {i}" for i in range(13)], torch.arange(13).numpy()
    positives = {"context": Positives(Partners.of(numbers // 5, numbers[:, None]), 0.5)}
    state, plan = prepare(settings, crops, ids, 0, torch.device("cpu"), group, positives=positives)
    plan = replace(plan, read_every=4 if group.rank.count > 1 else 1)
    losses = [event.metrics for event in train(state, plan)]
    others = keys_of([f"other {i}" for i in range(13)])
    validation = validation_loss(state, plan, crop_reader(crops, plan.device), others, positives)
    ends = [float(weight.double().sum()) for weight in state.encoder.state_dict().values()]
    queue = plan.branches[0].objective.queue.double().sum().item()
    result = [losses, validation, ends, queue]
"""


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The results of all three pieces by rank, from one start of two processes, which takes longer than the rest."""
    names = ("batch norm", "gathering", "training")
    return dict(
        zip(names, in_two_processes(tmp_path_factory.mktemp("two"), BATCH_NORM, GATHERING, TRAINING), strict=True)
    )


def test_batch_norm_over_two_processes_equals_torch_s_over_the_whole_batch(together: dict[str, list[Any]]) -> None:
    """Outputs, gradients of crops and weights, and running statistics; shares of 3 and 4 cells."""
    assert max(map(max, together["batch norm"])) < 1e-5


def test_gathered_features_are_the_whole_batch_and_gradients_flow_back_to_the_own_share(
    together: dict[str, list[Any]],
) -> None:
    assert together["gathering"] == [[True, True, 2], [True, True, 3]]


def test_two_processes_train_as_one_process_does(together: dict[str, list[Any]]) -> None:
    """An encoder with batch norm, two branches, one with positives, batches of 5, so shares of 2 and 3 cells."""
    namespace: dict[str, Any] = {"torch": torch, "group": SINGLE_PROCESS}
    exec(textwrap.dedent(TRAINING), namespace)
    alone = namespace["result"]
    for result in together["training"]:
        for ours, theirs in zip(alone[0], result[0], strict=True):
            assert theirs == pytest.approx(ours, rel=1e-4, abs=1e-5)
        assert result[1] == pytest.approx(alone[1], rel=1e-4)
        assert result[2] == pytest.approx(alone[2], rel=1e-4, abs=1e-4)
        assert result[3] == pytest.approx(alone[3], rel=1e-4, abs=1e-4)


# Through the command line; the recipe and its undisturbed result are those of test_state.


def lines(store: Path) -> list[dict[str, float]]:
    found = [*store.glob("pretrain/*/metrics.jsonl")]
    return [json.loads(line) for line in found[0].read_text().splitlines() if line.endswith("}")] if found else []


def wait_for_steps(store: Path, process: subprocess.Popen[str], steps: int) -> None:
    for _ in range(6000):
        if len(lines(store)) >= steps or process.poll() is not None:
            break
        time.sleep(0.02)
    assert process.poll() is None and len(lines(store)) >= steps


def pretrain(folder: Path, recipe: Path, store: Path, *flags: str) -> subprocess.Popen[str]:
    fixed = ("--device", "cpu", "--set", "pretrain.precision=float32", "--set", "pretrain.batch=15")
    return start(folder, "-m", "cellssl", "pretrain", recipe, "--store", store, *fixed, *flags)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_torchrun_stopped_killed_and_run_again_gives_the_losses_of_one_process(
    tmp_path: Path,
) -> None:
    from learning.training.test_state import finish, prepared

    fixed = ("--set", "pretrain.precision=float32", "--set", "pretrain.batch=15")
    recipe, store, undisturbed = prepared(tmp_path, *fixed)

    stopped = pretrain(tmp_path, recipe, store)
    wait_for_steps(store, stopped, 2)
    stopped.send_signal(signal.SIGTERM)
    _, err = stopped.communicate(timeout=100)
    assert stopped.returncode != 0 and "stopped by SIGTERM" in err
    saved = len(lines(store))
    assert list(store.glob("pretrain/*.partial/scratch/last.ckpt")) and saved >= 2

    interrupted = pretrain(tmp_path, recipe, store)
    wait_for_steps(store, interrupted, saved + 2)
    children = Path(f"/proc/{interrupted.pid}/task/{interrupted.pid}/children")
    if children.is_file():
        os.kill(int(children.read_text().split()[-1]), signal.SIGKILL)
        _, err = interrupted.communicate(timeout=100)
        assert interrupted.returncode == 1 and "last good checkpoint of step" in err

    out, err = finish(pretrain(tmp_path, recipe, store))
    assert out == str(next(store.glob("pretrain/*"))) and "continuing after step" in err  # only the main process prints
    ours, theirs = (lines(folder) for folder in (store, undisturbed.parents[1]))
    np.testing.assert_allclose([m["loss"] for m in ours], [m["loss"] for m in theirs], rtol=1e-4)
    card = json.loads((Path(out) / "artifact.json").read_text())
    assert card["run"]["processes"] == 2 and "all 2 processes" in card["run"]["batch_norm"]


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_waiting_processes_end_with_a_main_process_that_has_nothing_to_do(tmp_path: Path) -> None:
    """A dry run; a recipe that fails; and an artifact that another process finishes while the main process waits."""
    from learning.training.test_state import finish, prepared
    from learning.training.test_state import start as alone

    fixed = ("--set", "pretrain.precision=float32", "--set", "pretrain.batch=15", "--set", "pretrain.epochs=40")
    recipe, store, _ = prepared(tmp_path, *fixed)
    out, _ = finish(pretrain(tmp_path, recipe, store, *fixed[4:], "--dry-run"))
    assert "1 of" in out
    began_s = time.monotonic()
    _, err = finish(pretrain(tmp_path, recipe, store, "--plate", "P1"), expected=1)
    assert "not made plate by plate" in err and time.monotonic() - began_s < 28  # torchrun kills after 30 s
    first = alone("pretrain", recipe, store, *fixed)
    wait_for_steps(store, first, 2)
    second = pretrain(tmp_path, recipe, store, *fixed[4:])
    assert finish(first)[0] == finish(second)[0]


def test_other_commands_started_in_several_processes_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('name = "r"\n')
    plain = {**os.environ, "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost"}
    command = [sys.executable, "-m", "cellssl", "segment", "r.toml"]
    done = subprocess.run(command, cwd=tmp_path, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "segment was started in several processes" in done.stderr
    assert "torchrun --nproc-per-node N" in done.stderr
