"""Training is a function of recipe, seed and cells: repeatable, resumable, and it stops before nan reaches the
weights.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cellssl.errors import FailedError, UsageError
from cellssl.learning.methods.base import MethodInput, Objective
from cellssl.learning.training.loop import Plan, train, train_step
from cellssl.learning.training.state import TrainState

BRANCHES = {"context": {"weight": 0.4}, "centre": {"weight": 1.0, "mask_same_cell": True, "queue": 9}}


def all_tensors(state: TrainState) -> dict[str, Tensor]:
    """Return every tensor that a checkpoint holds, by name."""
    parts = {"fast": state.encoder, "slow": state.momentum_encoder, "heads": state.objectives}
    tensors = {
        f"{part}.{name}": tensor for part, module in parts.items() for name, tensor in module.state_dict().items()
    }
    for number, remembered in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in remembered.items()}
    return {name: tensor.clone() for name, tensor in tensors.items()}


def assert_same_bits(one: TrainState, other: TrainState) -> None:
    ours, theirs = all_tensors(one), all_tensors(other)
    assert one.step == other.step and ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def run(state: TrainState, plan: Plan) -> list[dict[str, float]]:
    return [event.metrics for event in train(state, plan)]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"optimizer": "sgd"},
        {"optimizer": "adamw", "schedule": "cosine", "warmup_epochs": 1, "epochs": 6},
        {"clip_norm": 0.1, "input_px": 12},
        {"precision": "bfloat16"},
    ],
    ids=str,
)
def test_saved_and_resumed_equals_never_stopped(training: Any, tmp_path: Path, given: Any) -> None:
    undisturbed, plan = training(BRANCHES, **given)
    expected = run(undisturbed, plan)
    seen: list[dict[str, float]] = []
    for stop in (3, 4, plan.steps):  # new networks each time, as a new process would build them
        state, plan = training(BRANCHES, **given)
        if seen:
            state.load(tmp_path / "last.ckpt")
        seen += run(state, replace(plan, steps=stop))
        state.save(tmp_path / "last.ckpt")
    assert seen == expected
    assert_same_bits(state, undisturbed)


def test_the_same_seed_twice_gives_the_same_bits(training: Any) -> None:
    one, plan = training(BRANCHES, epochs=6)
    torch.rand(5)  # the state of torch's own generator must not matter
    other, again = training(BRANCHES, epochs=6)
    assert run(one, plan) == run(other, again)
    assert_same_bits(one, other)


def test_another_seed_gives_other_weights_and_views(training: Any) -> None:
    metrics = [run(*training(BRANCHES, seed=seed))[0]["centre/loss"] for seed in (0, 1)]
    assert metrics[0] != metrics[1]


def test_the_number_of_threads_changes_only_rounding(training: Any) -> None:
    """Sums in convolutions are split among threads; bits are equal only with the same number of threads."""
    threads = torch.get_num_threads()
    losses = []
    for count in (1, 2):
        torch.set_num_threads(count)
        losses.append([metrics["loss"] for metrics in run(*training(BRANCHES))])
    torch.set_num_threads(threads)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def test_every_step_yields_an_event_with_its_number_and_metrics(training: Any) -> None:
    state, plan = training(BRANCHES)
    events = list(train(state, plan))
    assert [event.step for event in events] == list(range(1, plan.steps + 1))
    assert state.step == plan.steps and not list(train(state, plan))
    metrics = {"loss", "accuracy", "chance", "projection_spread", "feature_sd", "effective_rank"}
    of_branches = {f"{branch}/{metric}" for branch in BRANCHES for metric in metrics}
    assert set(events[0].metrics) == of_branches | {"loss", "learning_rate", "gradient_norm"}
    assert events[0].metrics["loss"] == pytest.approx(
        0.4 * events[0].metrics["context/loss"] + events[0].metrics["centre/loss"]
    )


def test_the_learning_rate_of_a_step_is_that_of_the_schedule(training: Any) -> None:
    state, plan = training(schedule="cosine", warmup_epochs=1, epochs=40)
    for event in train(state, replace(plan, steps=20)):
        assert event.metrics["learning_rate"] == plan.learning_rate(event.step - 1)
        assert {group["lr"] for group in state.optimizer.param_groups} == {event.metrics["learning_rate"]}


def test_the_momentum_encoder_starts_equal_and_is_a_moving_average(training: Any) -> None:
    state, plan = training()
    start = state.momentum_encoder.features[0].weight.clone()
    assert torch.equal(start, state.encoder.features[0].weight)
    next(train(state, plan))
    moved = state.encoder.features[0].weight.detach()
    torch.testing.assert_close(state.momentum_encoder.features[0].weight, 0.9 * start + 0.1 * moved)


def test_a_long_gradient_is_clipped_and_its_norm_before_clipping_is_reported(training: Any) -> None:
    (free, plan), (clipped, tight) = training(), training(clip_norm=0.01)
    norms = [
        run(state, replace(given, steps=1))[0]["gradient_norm"] for state, given in ((free, plan), (clipped, tight))
    ]
    assert norms[0] == norms[1] > 0.01
    gradients = [w.grad.flatten() for g in clipped.optimizer.param_groups for w in g["params"]]
    assert torch.cat(gradients).norm().item() == pytest.approx(0.01, rel=1e-4)


def test_biases_and_batch_norm_get_no_weight_decay(training: Any) -> None:
    state, _ = training(weight_decay=0.3)
    decaying, free = state.optimizer.param_groups
    assert (decaying["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    assert {w.ndim for w in decaying["params"]} == {2, 4} and {w.ndim for w in free["params"]} == {1}
    trained = [w for module in (state.encoder, state.objectives) for w in module.parameters() if w.requires_grad]
    assert len(trained) == len(decaying["params"]) + len(free["params"])


@pytest.mark.parametrize("step", [0, 5])
def test_a_nan_loss_is_an_error_with_the_step_and_no_weight_changes(training: Any, step: int) -> None:
    state, plan = training(BRANCHES)
    run(state, replace(plan, steps=step))
    with torch.no_grad():
        state.encoder.features[0].weight[0, 0, 0, 0] = torch.nan
    before = all_tensors(state)
    with pytest.raises(FailedError, match=f"the loss is nan at step {step + 1}") as caught:
        next(train(state, plan))
    assert "pretrain.learning_rate" in caught.value.hint and state.step == step
    after = {name: tensor.nan_to_num() for name, tensor in all_tensors(state).items()}
    different = {name for name, tensor in before.items() if not torch.equal(tensor.nan_to_num(), after[name])}
    assert {name.rpartition(".")[2] for name in different} <= {"running_mean", "running_var", "num_batches_tracked"}


class InfiniteGradient(Objective):
    """A finite loss with an infinite gradient: the square root at 0."""

    momentum = 0.9

    def forward(self, seen: MethodInput) -> tuple[Tensor, dict[str, Tensor]]:
        return (seen.online * 0).square().sum().sqrt(), {}

    def after_step(self) -> None: ...


def test_a_nan_gradient_is_an_error_before_any_weight_changes(training: Any) -> None:
    state, plan = training()
    plan = replace(plan, branches=(replace(plan.branches[0], objective=InfiniteGradient()),))
    before = state.encoder.features[0].weight.clone()
    with pytest.raises(FailedError, match="the gradient is nan at step 1"):
        next(train(state, plan))
    assert torch.equal(state.encoder.features[0].weight, before) and state.is_finite()


@pytest.mark.parametrize(
    ("branches", "given", "message", "cure"),
    [
        ({"centre": {"queue": 13}}, {}, "queue of 13 keys is not smaller than the 13", "mask_same_cell = true"),
        ({"centre": {}}, {"batch": 14}, "batch of 14 is larger than the 13", "set pretrain.batch to 13 or less"),
    ],
)
def test_a_queue_or_batch_larger_than_the_data_is_an_error_with_a_hint(
    training: Any, branches: Any, given: Any, message: str, cure: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        training(branches, **given)
    assert cure in caught.value.hint and caught.value.exit_code == 2


def test_a_training_without_branches_is_an_error_with_a_hint() -> None:
    from cellssl.stages.pretrain.settings import Settings

    section = {"branches": {"centre": {"weight": 0, "view": ["invert"]}}}
    with pytest.raises(UsageError, match="no branch with a weight above 0") as caught:
        Settings.model_validate(section).check()
    assert "[pretrain.branches.context]" in caught.value.hint
    Settings.model_validate(section | {"epochs": 0}).check()


def test_branches_of_different_momentum_are_an_error() -> None:
    from cellssl.stages.pretrain.settings import Settings

    branches = {
        name: {"view": ["invert"], "objective": {"name": "moco", "momentum": momentum}}
        for name, momentum in (("a", 0.9), ("b", 0.99))
    }
    with pytest.raises(ValueError, match="share one momentum encoder"):
        Settings.model_validate({"branches": branches})


def test_a_branch_of_weight_zero_and_no_branch_have_the_same_fingerprint() -> None:
    from cellssl.stages.pretrain.settings import Settings

    one = {"weight": 1.0, "view": ["invert"]}
    without = Settings.model_validate({"branches": {"centre": one}})
    with_zero = Settings.model_validate({"branches": {"centre": one, "context": one | {"weight": 0}}})
    assert with_zero.non_default() == without.non_default()


def test_the_random_baseline_has_the_first_weights_of_the_trained_network(training: Any) -> None:
    trained, _ = training(BRANCHES, seed=4)
    untrained, plan = training(branches=None, epochs=0, batch=128, seed=4)
    assert plan.steps == 0 and not list(train(untrained, plan))
    ours, theirs = trained.encoder.state_dict(), untrained.encoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_training_on_different_cells_learns_to_recognise_them(training: Any) -> None:
    """Chance level is 1 in 17 for the accuracy, and log(17) for the loss."""
    branch = {"queue": 16, "mask_same_cell": True, "dim": 16, "hidden_dim": 32}
    given = {"epochs": 60, "batch": 8, "learning_rate": 0.003, "encoder": {"name": "small", "widths": [8, 16]}}
    state, plan = training({"centre": branch}, cells=24, **given)
    metrics = run(state, plan)
    early, late = metrics[4:14], metrics[-10:]  # the queue is full of real keys from step 3 on
    loss = [np.mean([m["centre/loss"] for m in some]) for some in (early, late)]
    assert loss[1] < 0.5 * loss[0] and loss[1] < 0.5 * math.log(17)
    assert np.mean([m["centre/accuracy"] for m in late]) > 0.7


def test_a_step_works_with_five_channels(training: Any) -> None:
    state, plan = training(channels=5)
    rows = plan.batches.rows(0)
    assert math.isfinite(train_step(state, plan, plan.read(rows), plan.cell_keys[torch.from_numpy(rows)])["loss"])
