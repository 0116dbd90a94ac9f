"""What a simulated device cannot show: on a real GPU no step waits, and compiled code computes the same."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from learning.conftest import MadeUpCrops, settings_of
from learning.training.test_waiting import STEPS, prepared
from parts.test_objectives import NAMES

from cellssl.learning.training.compilation import compile_encoders
from cellssl.learning.training.loop import Plan, read_steps, train, train_unread
from cellssl.learning.training.memory_format import not_channels_last
from cellssl.learning.training.state import TrainState
from cellssl.stages.pretrain.networks import prepare

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
GPU = torch.device("cuda")


@pytest.fixture
def _waiting_is_an_error() -> Iterator[None]:
    """Let torch raise an error where this process waits for the GPU; a test begins with a step that may wait."""
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("_waiting_is_an_error")
@pytest.mark.parametrize("name", NAMES)
def test_no_step_waits(name: str) -> None:
    state, plan = prepared(name, GPU)
    steps = train_unread(state, plan)
    unread = [next(steps)]
    torch.cuda.set_sync_debug_mode("error")
    unread += steps
    torch.cuda.set_sync_debug_mode("default")
    done, fault = read_steps(unread, plan)
    assert len(done) == STEPS and fault is None


def test_every_convolution_has_channels_last() -> None:
    assert not_channels_last(*prepared("byol", GPU)) == []


def on_gpu() -> tuple[TrainState, Plan]:
    """Return a training with two branches in float32, whose gradients add up."""
    crops: Any = MadeUpCrops(13)
    settings = settings_of({"context": {"weight": 0.4}, "centre": {"mask_same_cell": True, "queue": 9}}, epochs=4)
    return prepare(settings, crops, [f"cell {i}" for i in range(13)], 0, GPU)


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_a_compiled_training_equals_an_eager_one_up_to_rounding(cuda_graphs: bool) -> None:
    (compiled, plan), (eager, same) = on_gpu(), on_gpu()
    compile_encoders(compiled, cuda_graphs=cuda_graphs)
    metrics = [[event.metrics for event in train(*one)] for one in ((compiled, plan), (eager, same))]
    for ours, theirs in zip(*metrics, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.02)
        assert ours["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=0.05)


def test_the_metrics_do_not_depend_on_how_often_they_are_read() -> None:
    each, together = (
        [event.metrics for event in train(state, replace(plan, read_every=interval))]
        for interval, (state, plan) in ((1, on_gpu()), (20, on_gpu()))
    )
    for ours, theirs in zip(each, together, strict=True):
        assert ours == pytest.approx(theirs, rel=0.02, abs=1e-3)
