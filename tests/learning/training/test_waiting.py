"""No step of a training waits for a GPU, for any objective; tried on a simulated device."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from learning.conftest import MadeUpCrops
from parts.test_objectives import CELLS, NAMES, small_settings
from parts.test_transforms import NAMES as TRANSFORMS
from parts.test_transforms import crops_of, example, keys_of
from simulated_device import DEVICE, simulated

from cellssl.learning.training.cell_metadata import CellMetadata
from cellssl.learning.training.loop import Plan, read_steps, train, train_unread
from cellssl.learning.training.state import TrainState
from cellssl.stages.pretrain.networks import keys_of as keys_of_cells
from cellssl.stages.pretrain.networks import prepare

STEPS = 8


def prepared(name: str, device: torch.device, **changes: Any) -> tuple[TrainState, Plan]:
    """Return state and plan of a training with two branches; the queue is full, and an epoch over, within few steps."""
    cells = [f"cell {i}" for i in range(CELLS)]
    columns: dict[str, list[object]] = {"compound": ["taxol", "DMSO"] * 7, "dose_micromolar": [0.1, 1.0] * 7}
    settings = small_settings(name, **changes)
    requested = {column: columns.get(column, ["a", "b"] * 7)[:CELLS] for column in settings.metadata_columns()}
    metadata = CellMetadata.from_columns(keys_of_cells(cells), requested)
    crops: Any = MadeUpCrops(CELLS)
    state, plan = prepare(settings, crops, cells, 0, device, metadata=metadata)
    return state, replace(plan, steps=STEPS, read_every=STEPS)


@pytest.mark.parametrize("name", NAMES)
def test_no_step_waits_for_a_gpu_and_reading_all_of_them_waits_once(name: str) -> None:
    with simulated() as waits:
        state, plan = prepared(name, DEVICE)
        waits.clear()
        unread = list(train_unread(state, plan))
        assert waits == []
        done, fault = read_steps(unread, plan)
        assert waits == ["aten._to_copy.default"] and fault is None
    expected = [event.metrics for event in train(*prepared(name, torch.device("cpu")))]
    for event, metrics in zip(done, expected, strict=True):
        assert event.metrics == pytest.approx(metrics, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(("name", "changes"), [("swav", {"frozen_epochs": 1.0}), ("dino", {"frozen_epochs": 1.0})])
def test_the_end_of_the_first_epochs_is_known_without_waiting(name: str, changes: Any) -> None:
    with simulated() as waits:
        state, plan = prepared(name, DEVICE, **changes)
        waits.clear()
        list(train_unread(state, plan))
    assert waits == []


@pytest.mark.parametrize("name", TRANSFORMS)
def test_rendering_a_view_does_not_wait_for_a_gpu(name: str) -> None:
    view, keys = example(name), keys_of(6)
    with simulated() as waits:
        on_device = crops_of(6).to(DEVICE)
        view.render(on_device, keys, 40)  # the first time, tables are copied that are kept
        waits.clear()
        rendered = view.render(on_device, keys, 40)
        assert waits == []
        torch.testing.assert_close(rendered.cpu(), view.render(crops_of(6), keys, 40))


def test_the_simulated_device_notices_what_waits() -> None:
    with simulated() as waits:
        values = torch.rand(4, 3, device=DEVICE)
        for wait in (
            lambda: values.sum().item(),
            lambda: values[values > 0.5],
            lambda: values[[1, 2]],
            lambda: bool((values > 2).any()),
            values.cpu,
            lambda: torch.ones(3).to(DEVICE),
        ):
            waits.clear()
            wait()
            assert len(waits) == 1
        waits.clear()
        values.add_(1).to("cpu", non_blocking=True)
        assert waits == []
        with pytest.raises(AssertionError, match="gets tensors of the CPU, of shapes"):
            values + torch.ones(4, 3)
