"""Training is never lost: a checkpoint is whole or missing, and a killed and resumed run gives the same bytes."""

import errno
import hashlib
import json
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import chain
import pytest
import torch
from forked import Forked

from cellssl.artifacts.store import Draft, Store
from cellssl.cli import invoke
from cellssl.errors import BusyError, FailedError, IntegrityError
from cellssl.events import Note, Saved
from cellssl.learning.training.freezing import freeze
from cellssl.learning.training.loop import train
from cellssl.learning.training.state import optimizer_for
from cellssl.stages.pretrain.checkpoints import Checkpoints
from cellssl.stages.pretrain.training import run_training


def test_a_checkpoint_restores_every_tensor_and_the_step(training: Any, tmp_path: Path) -> None:
    (state, plan), (other, _) = training(seed=0), training(seed=1)
    list(train(state, plan))
    state.save(tmp_path / "last.ckpt")
    other.load(tmp_path / "last.ckpt")
    other.save(tmp_path / "again.ckpt")
    one, same = (torch.load(tmp_path / name, weights_only=True) for name in ("last.ckpt", "again.ckpt"))
    assert tensors(one) == tensors(same) and one["step"] == same["step"] == plan.steps
    assert {"encoder", "momentum_encoder", "objectives", "optimizer"} < one.keys()


def test_modules_within_a_frozen_one_are_trained_where_only_its_own_weights_are_frozen(training: Any) -> None:
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3))
    network.register_parameter("class_token", torch.nn.Parameter(torch.zeros(3)))
    freeze(network, ["class_token", "0.weight", "0.bias"])
    replace(training()[0], encoder=network).train()
    assert [module.training for module in (network, *network)] == [False, False, True]


def tensors(saved: Any) -> dict[str, bytes]:
    """Return every tensor within nested dicts and lists, as bytes, by its path."""
    if isinstance(saved, torch.Tensor):
        return {"": saved.contiguous().numpy().tobytes()}
    inner = saved.items() if isinstance(saved, dict) else enumerate(saved) if isinstance(saved, list) else ()
    return {f"/{key}{path}": content for key, value in inner for path, content in tensors(value).items()}


def test_a_checkpoint_of_a_fused_optimiser_is_continued_as_this_device_computes(training: Any, tmp_path: Path) -> None:
    """As when a training that began on a GPU goes on on a CPU; and the other way round."""
    (plain, plan), (fused, same) = training(), training()
    for group in fused.optimizer.param_groups:
        group["fused"] = True
    for state, given in ((plain, plan), (fused, same)):
        list(train(state, replace(given, steps=2)))
    for saved, loading, own in ((fused, plain, None), (plain, fused, True)):
        saved.save(tmp_path / "last.ckpt")
        loading.load(tmp_path / "last.ckpt")
        assert {group["fused"] for group in loading.optimizer.param_groups} == {own}
    assert [event.step for event in train(plain, replace(plan, steps=4))] == [3, 4]


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04 half of a zip"])
def test_a_file_that_is_no_checkpoint_is_an_error_with_a_hint(training: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"last\.ckpt cannot be loaded") as caught:
        training()[0].load(tmp_path / "last.ckpt")
    assert caught.value.hint == "remove that file, and run the same command again to start from step 0"


def test_half_a_checkpoint_is_an_error(training: Any, tmp_path: Path) -> None:
    state, _ = training()
    state.save(tmp_path / "last.ckpt")
    whole = (tmp_path / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityError, match="cannot be loaded"):
        state.load(tmp_path / "last.ckpt")


@pytest.mark.parametrize("other", [{"encoder": {"name": "small", "widths": [4, 8]}}, {"branches": {"border": {}}}])
def test_a_checkpoint_of_other_networks_is_an_error(training: Any, tmp_path: Path, other: Any) -> None:
    training(**other)[0].save(tmp_path / "last.ckpt")
    with pytest.raises(IntegrityError, match="cannot be loaded"):
        training()[0].load(tmp_path / "last.ckpt")


@pytest.mark.parametrize("content", [[1, 2], {"step": 3}, {"step": 1, "encoder": 5}])
def test_a_torch_file_without_a_training_state_is_an_error(training: Any, tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(IntegrityError, match="cannot be loaded"):
        training()[0].load(tmp_path / "last.ckpt")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no device that is always full")
def test_a_full_disk_is_reported_as_such(training: Any) -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        training()[0].save(Path("/dev/full"))
    assert caught.value.errno == errno.ENOSPC


def test_an_unknown_optimiser_is_an_error() -> None:
    with pytest.raises(ValueError, match="no optimiser 'adamm'"):
        optimizer_for("adamm", [], 0.0)


# The stage: what is written when, with a real draft and no command line.


class FreeLock:
    """A lock that no other process wants."""

    def check_held(self) -> None: ...


def draft_in(folder: Path) -> Draft:
    (folder / "made.partial").mkdir(exist_ok=True)
    return Draft(folder / "made.partial", folder / "made", FreeLock())  # type: ignore[arg-type]


def pretrain_events(state: Any, plan: Any, draft: Draft, checkpoint_s: float = 0.0) -> Any:
    return run_training(state, plan, draft, checkpoint_s=checkpoint_s)


def until_saved(events: Any, step: int) -> None:
    while next(events) != Saved(step):
        pass


def lines(draft: Draft, name: str = "metrics.jsonl") -> list[int]:
    return [json.loads(line)["step"] for line in draft.file(name).read_text().splitlines()]


def test_closing_the_generator_leaves_a_checkpoint_of_the_last_step(training: Any, tmp_path: Path) -> None:
    (state, plan), draft = training(), draft_in(tmp_path)
    events = pretrain_events(state, plan, draft, checkpoint_s=3600)
    for _ in range(1 + 4):  # the start, then four steps
        next(events)
    events.close()
    resumed, _ = training()
    resumed.load(draft.scratch() / "last.ckpt")
    assert resumed.step == 4 and lines(draft) == lines(draft, "timings.jsonl") == [1, 2, 3, 4]


def test_lines_after_the_checkpoint_are_written_again_and_half_a_line_is_removed(training: Any, tmp_path: Path) -> None:
    (state, plan), draft = training(), draft_in(tmp_path)
    until_saved(pretrain_events(state, plan, draft), 2)
    for name in ("metrics.jsonl", "timings.jsonl"):
        with draft.file(name).open("a") as log:
            log.write('{"step": 3}\n{"step": 4, "lo')
    list(pretrain_events(state, plan, draft))
    assert lines(draft) == lines(draft, "timings.jsonl") == list(range(1, plan.steps + 1))


def test_a_nan_loss_leaves_the_last_checkpoint(training: Any, tmp_path: Path) -> None:
    (state, plan), draft = training(), draft_in(tmp_path)
    events = pretrain_events(state, plan, draft)
    until_saved(events, 3)
    before = (draft.scratch() / "last.ckpt").read_bytes()
    state.encoder.features[0].weight.data.fill_(torch.inf)
    with pytest.raises(FailedError, match="at step 4"):
        list(events)
    assert (draft.scratch() / "last.ckpt").read_bytes() == before


def test_an_error_says_which_checkpoint_is_left(training: Any, tmp_path: Path) -> None:
    (state, plan), draft = training(), draft_in(tmp_path)
    events = pretrain_events(state, plan, draft)
    until_saved(events, 3)
    state.encoder.features[0].weight.data.fill_(torch.inf)
    with pytest.raises(FailedError, match="at step 4; the last good checkpoint of step 3 is kept"):
        list(events)
    fresh, plan = training()
    fresh.encoder.features[0].weight.data.fill_(torch.inf)
    (tmp_path / "other").mkdir()
    with pytest.raises(FailedError, match="at step 1; the last good checkpoint was not written yet"):
        list(pretrain_events(fresh, plan, draft_in(tmp_path / "other")))


def test_a_collapse_gives_a_warning_while_it_happens(training: Any, tmp_path: Path) -> None:
    (state, plan), draft = training(epochs=30, learning_rate=1e-9), draft_in(tmp_path)
    for head in (state.objectives["branch_centre"].projector, state.objectives["branch_centre"].momentum_projector):
        torch.nn.init.zeros_(head[2].weight)  # every cell is projected to the bias
    events = list(pretrain_events(state, plan, draft))
    warnings = [place for place, event in enumerate(events) if isinstance(event, Note)]
    assert len(warnings) == 1 and warnings[0] < len(events) // 2
    assert "branch centre is collapsing: at step 20" in events[warnings[0]].text


def test_event_files_hold_every_step_once_even_after_a_killed_process(training: Any, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (state, plan), draft = training(), draft_in(tmp_path)
    checkpoint, kept = draft.scratch() / "last.ckpt", tmp_path / "kept.ckpt"
    events = run_training(state, plan, draft, checkpoint_s=0, tensorboard=True)
    until_saved(events, 4)
    shutil.copy(checkpoint, kept)
    until_saved(events, 7)
    events.close()
    shutil.copy(kept, checkpoint)  # as after a kill: event files and metrics hold more steps than the checkpoint
    (state, plan), draft = training(), draft_in(tmp_path)
    list(run_training(state, plan, draft, checkpoint_s=3600, tensorboard=True))
    board = EventAccumulator(str(draft.path / "tensorboard"))
    board.Reload()
    written = {event.step: event.value for event in board.Scalars("centre/loss")}
    expected = [json.loads(line)["centre/loss"] for line in draft.file("metrics.jsonl").read_text().splitlines()]
    assert written == pytest.approx(dict(enumerate(expected, start=1)))
    assert len([name for name in draft.extras if name.startswith("tensorboard/events")]) == 2


def test_event_files_of_earlier_processes_are_not_part_of_the_result_either(training: Any, tmp_path: Path) -> None:
    (state, plan), draft = training(), draft_in(tmp_path)
    events = run_training(state, plan, draft, checkpoint_s=0, tensorboard=True)
    until_saved(events, 2)
    events.close()
    (state, plan), draft = training(), draft_in(tmp_path)
    list(run_training(state, plan, draft, checkpoint_s=3600))
    assert any(name.startswith("tensorboard/events") for name in draft.extras)


def test_weights_that_overflow_in_the_last_step_are_an_error(training: Any, tmp_path: Path) -> None:
    state, plan = training(optimizer="sgd", learning_rate=3e38, weight_decay=1e6, epochs=0.25)
    assert plan.steps == 1
    with pytest.raises(FailedError, match="weights are infinite or nan after step 1"):
        list(pretrain_events(state, plan, draft_in(tmp_path)))


def test_infinite_weights_do_not_replace_the_last_good_checkpoint(training: Any, tmp_path: Path) -> None:
    (state, plan), draft = training(), draft_in(tmp_path)
    events = pretrain_events(state, plan, draft)
    until_saved(events, 3)
    before = (draft.scratch() / "last.ckpt").read_bytes()
    state.objectives["branch_centre"].projector[0].bias.data[0] = torch.inf
    events.close()
    assert (draft.scratch() / "last.ckpt").read_bytes() == before


class FillsTheDisk:
    """A state whose checkpoint is written only by half."""

    def is_finite(self) -> bool:
        return True

    def save(self, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fills_up_while_saving_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"good")
    full: Any = FillsTheDisk()
    with pytest.raises(OSError, match="No space left"):
        Checkpoints(tmp_path).save(full)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"last.ckpt": b"good"}


def test_temporary_files_of_a_killed_process_are_not_part_of_the_result(tmp_path: Path) -> None:
    partial = Store(tmp_path).partial("pretrain", "0123456789ab")
    (partial / "scratch").mkdir(parents=True)
    for name in (".encoder.safetensors.1f2e3d4c.tmp", "scratch/.last.ckpt.00c0ffee.tmp", "scratch/last.ckpt"):
        (partial / name).write_bytes(b"half")
    with Store(tmp_path).drafting("pretrain", "0123456789ab"):
        left = [path.name for path in partial.rglob("*") if path.is_file()]
    assert left == ["last.ckpt"]


class TakenOver:
    """A lock that another process has taken over."""

    def check_held(self) -> None:
        raise BusyError("taken over")


def test_the_checkpoint_stays_until_the_result_is_complete(tmp_path: Path) -> None:
    from cellssl.artifacts.card import Card

    draft = Draft(draft_in(tmp_path).path, tmp_path / "made", TakenOver())  # type: ignore[arg-type]
    (draft.scratch() / "last.ckpt").write_bytes(b"days of work")
    draft.file("encoder.safetensors").write_bytes(b"weights")
    with pytest.raises(BusyError):
        draft.commit(Card("pretrain", 1, "0123456789ab", section={}, inputs={}, outside={}, files={}))
    assert (draft.scratch() / "last.ckpt").read_bytes() == b"days of work"


# Real processes, through the command line.

RECIPE = """
name = "tiny"
[fetch.dataset]
name = "simulated"
plates = 1
compounds = ["sim-nocodazole"]
doses = 3
control_wells = 3
sites_per_well = 1
height_px = 256
width_px = 256
cells_per_field = 400.0
[segment]
crop_px = 32
[split]
treated = { compounds = ["sim-nocodazole"] }
shares = [0.8, 0.1, 0.1]
[pretrain]
encoder = { name = "small", widths = [8, 16] }
batch = 16
epochs = 8
checkpoint_s = 0
[pretrain.branches.context]
weight = 0.4
view = ["horizontal_flip", { name = "rotate", degrees = 180 }]
objective = { name = "moco", mask_same_cell = true, queue = 50, dim = 16, hidden_dim = 32 }
[pretrain.branches.centre]
view = [{ name = "center_crop", side = 0.5 }, "vertical_flip"]
objective = { name = "moco", mask_same_cell = true, queue = 50, dim = 16, hidden_dim = 32 }
"""


Process = subprocess.Popen[str] | Forked


def start(command: str, recipe: Path, store: Path, *flags: str) -> Process:
    return chain.start(command, recipe, "--store", store, "--device", "cpu", *flags)


def finish(process: Process, expected: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == expected, err
    return out.strip(), err


def wait_for(process: Process, there: Callable[[], bool]) -> bool:
    """Return True once the condition holds, False when the process ends before."""
    while process.poll() is None:
        if there():
            return True
        time.sleep(0.001)
    return False


def steps_saved(store: Path) -> int:
    """Return the number of steps in the metrics, which are flushed before every checkpoint."""
    logs = list(store.glob("pretrain/*.partial/metrics.jsonl"))
    saved = list(store.glob("pretrain/*.partial/scratch/last.ckpt"))
    return logs[0].read_text().count("\n") if logs and saved else 0


def prepared(folder: Path, *flags: str) -> tuple[Path, Path, Path]:
    """Return the recipe, a store with everything before pretrain, and the undisturbed pretrain artifact in another
    store.
    """
    recipe = folder / "tiny.toml"
    recipe.write_text(RECIPE)
    finish(start("run", recipe, folder / "killed", "--to", "split", *flags))
    shutil.copytree(folder / "killed", folder / "undisturbed")
    in_this_process(["pretrain", str(recipe), "--store", str(folder / "undisturbed"), "--device", "cpu", *flags])
    (undisturbed,) = (folder / "undisturbed/pretrain").iterdir()
    return recipe, folder / "killed", undisturbed


def in_this_process(arguments: list[str]) -> None:
    """Run the same command within this process, which has loaded torch already."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert invoke(arguments) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def assert_same_result(killed: Path, undisturbed: Path) -> None:
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in undisturbed.iterdir())
    cards = [json.loads((folder / "artifact.json").read_text()) for folder in (killed, undisturbed)]
    for card in cards:
        del card["run"], card["sha256"]  # the card's own checksum, which covers `run` too
    assert cards[0] == cards[1]
    for name, entry in cards[1]["files"].items():
        assert hashlib.sha256((killed / name).read_bytes()).hexdigest() == entry["sha256"], name


@pytest.fixture(scope="module")
def once_prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return prepared(tmp_path_factory.mktemp("prepared"))


def test_stopped_killed_and_run_again_ends_in_the_same_bytes(
    once_prepared: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    recipe, cells, undisturbed = once_prepared
    store = shutil.copytree(cells, tmp_path / "killed")

    stopped = start("pretrain", recipe, store)
    assert wait_for(stopped, lambda: steps_saved(store) >= 3)
    stopped.send_signal(signal.SIGTERM)
    out, err = finish(stopped, expected=143)
    assert out == "" and "stopped by SIGTERM" in err and "run the same command again to go on from there" in err
    saved = steps_saved(store)
    assert saved >= 3

    killed = start("pretrain", recipe, store)
    assert wait_for(killed, lambda: steps_saved(store) > saved)
    time.sleep(random.uniform(0, 0.05))
    killed.kill()
    finish(killed, expected=-signal.SIGKILL)

    out, err = finish(start("pretrain", recipe, store))
    assert "continuing after step" in err
    assert_same_result(Path(out), undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a real file system of a few megabytes."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only a superuser may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_an_error_and_nothing_is_lost(once_prepared: tuple[Path, Path, Path], small_disk: Path) -> None:
    recipe, cells, undisturbed = once_prepared
    store = shutil.copytree(cells, small_disk / "store")
    stopped = start("pretrain", recipe, store)
    assert wait_for(stopped, lambda: steps_saved(store) >= 3)
    stopped.send_signal(signal.SIGTERM)
    finish(stopped, expected=143)
    (checkpoint,) = store.glob("pretrain/*.partial/scratch/last.ckpt")
    before = checkpoint.read_bytes()

    with pytest.raises(OSError, match="No space left"), (small_disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(b"x" * 4096)
    _, err = finish(start("pretrain", recipe, store), expected=1)
    assert "is full" in err and "free some space" in err
    assert checkpoint.read_bytes() == before
    (small_disk / "ballast").unlink()
    out, err = finish(start("pretrain", recipe, store))
    assert "continuing after step" in err
    assert_same_result(Path(out), undisturbed)


def written(store: Path, pattern: str) -> Callable[[], bool]:
    return lambda: any(store.glob(f"pretrain/*.partial/{pattern}"))


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_killed_at_thirty_random_moments_ends_in_the_same_bytes(tmp_path: Path) -> None:
    flags = ("--set", "pretrain.epochs=60", "--set", "pretrain.early_stopping={ patience = 1000 }")
    recipe, store, undisturbed = prepared(tmp_path, *flags)
    kills = 0
    while kills < 30:
        before = steps_saved(store)
        process = start("pretrain", recipe, store, *flags)
        moments = [
            lambda: True,  # while it starts
            lambda before=before: steps_saved(store) > before,
            lambda before=before: steps_saved(store) > before + 1,
            written(store, "scratch/.last.ckpt.*.tmp"),  # while it saves
            written(store, "scratch/.lowest-*.ckpt.*.tmp"),  # or saves the lowest point of the validation loss
        ]
        reached = wait_for(process, random.choice(moments))
        time.sleep(random.uniform(0, 0.1))
        process.kill()
        out, err = process.communicate()
        if not reached or process.returncode == 0:
            pytest.fail(f"it ended before it was killed, after {kills} kills: {out} {err}")
        kills += 1
    for pattern in (".encoder.safetensors.*.tmp", "encoder.safetensors", "heads.safetensors", "artifact.json"):
        process = start("pretrain", recipe, store, *flags)  # while it finishes
        wait_for(process, written(store, pattern))
        process.kill()
        process.communicate()
    out, _ = finish(start("pretrain", recipe, store, *flags))
    assert_same_result(Path(out), undisturbed)
    embedded = [Path(finish(start("embed", recipe, folder, *flags))[0]) for folder in (store, undisturbed.parents[1])]
    assert_same_result(*embedded)
