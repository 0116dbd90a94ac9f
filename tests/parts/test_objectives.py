"""The contract of all objectives: every file of the folder `objectives` must pass these tests."""

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from learning.conftest import MadeUpCrops
from learning.training.test_distributed import in_two_processes
from learning.training.test_loop import all_tensors, assert_same_bits

from cellssl.config import plugins
from cellssl.errors import FailedError, UsageError
from cellssl.learning.methods.base import MethodInput, Objective
from cellssl.learning.methods.build_context import BuildContext
from cellssl.learning.training.cell_metadata import CellMetadata
from cellssl.learning.training.distributed import SINGLE_PROCESS, Group
from cellssl.learning.training.loop import Plan, train
from cellssl.learning.training.memory import enough_memory
from cellssl.learning.training.state import TrainState
from cellssl.learning.training.validation import validation_loss
from cellssl.randomness import Keys, generator
from cellssl.stages.pretrain.networks import crop_reader, keys_of, prepare
from cellssl.stages.pretrain.settings import Settings

FOLDER = "cellssl.learning.objectives"
NAMES = plugins.names(FOLDER)
DIM, CHANNELS, SIDE_PX, CELLS = 10, 3, 16, 13
CPU = torch.device("cpu")
VIT = {"name": "vit", "patch_px": 4, "dim": 8, "depth": 1, "heads": 2}
SMALLER = {
    "hidden_dim": 6,
    "dim": 8,
    "predictor_dim": 4,
    "queue": 7,
    "prototypes": 5,
    "heads": 2,
    "width": 3,
    "local_crops": 1,
    "frozen_epochs": 0.0,
    "momentum": 0.9,
}
"""Settings that make an objective fast, for the objectives that have them."""


def settings_of(name: str, **changes: Any) -> Any:
    model = plugins.load(FOLDER, name).Settings
    return model(**{key: value for key, value in SMALLER.items() if key in model.model_fields} | changes)


def build(name: str, seed: int = 0, branch: str = "centre", **changes: Any) -> Objective:
    encoder = plugins.load("cellssl.learning.encoders", "vit").Settings(patch_px=4)
    context = BuildContext(DIM, seed, branch, torch.arange(CELLS) * 7, 6, CHANNELS, SIDE_PX, encoder)
    objective: Objective = settings_of(name, **changes).build(context)
    return objective


def random_input(objective: Objective, cells: int = 6, number: int = 0) -> MethodInput:
    """Return random features; for a masked autoencoder, random tokens."""
    rng = generator("test", "objectives", number)

    def noise(views: int, dim: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal((views, cells, dim), dtype="float32"))

    dim = DIM * getattr(objective, "n_visible", 1)
    online, momentum = (noise(len(views), dim) for views in (objective.online_views, objective.momentum_views))
    rows = torch.arange(cells)
    metadata = {"label": rows % 2, "compound": rows % 2, "dose_micromolar": 10.0 ** (rows % 3)}
    pixels = noise(len(objective.pixel_views), CHANNELS * SIDE_PX**2)
    return MethodInput(online.requires_grad_(), momentum, rows * 7, metadata, pixels, Keys(rows))


def train_steps(objective: Objective, numbers: range) -> list[float]:
    optimizer = torch.optim.SGD([weight for weight in objective.parameters() if weight.requires_grad], lr=0.1)
    losses = []
    for number in numbers:
        optimizer.zero_grad()
        loss, _ = objective(random_input(objective, number=number))
        loss.backward()
        optimizer.step()
        objective.after_step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", NAMES)
def test_every_view_is_used_and_every_used_view_exists(name: str) -> None:
    objective = build(name)
    used = {*objective.online_views, *objective.momentum_views, *objective.pixel_views}
    assert used == set(range(objective.n_views))
    transform = plugins.load("cellssl.learning.transforms", "color_jitter").Settings(brightness=0.3)
    assert len(objective.make_views((transform,), (transform,))) == objective.n_views
    assert 0 <= objective.momentum < 1


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_momentum_where_it_uses_the_momentum_encoder(name: str) -> None:
    assert hasattr(settings_of(name), "momentum") == bool(build(name).momentum_views)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_one_finite_number_with_a_gradient_for_the_encoder(name: str) -> None:
    objective = build(name)
    batch = random_input(objective)
    loss, diagnostics = objective(batch)
    loss.backward()
    assert loss.shape == () and loss.isfinite()
    assert batch.online.grad is not None and batch.online.grad.abs().sum() > 0
    assert all(value.shape == () and value.isfinite() and not value.requires_grad for value in diagnostics.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_momentum_encoder_and_heads_get_no_gradient(name: str) -> None:
    objective = build(name)
    batch = random_input(objective)
    batch.momentum.requires_grad_()
    objective(batch)[0].backward()
    assert batch.momentum.grad is None
    for weight_name, weight in objective.named_parameters():
        assert weight.grad is None or "momentum" not in weight_name


@pytest.mark.parametrize("name", [name for name in NAMES if not build(name).uses_stop_gradient])
def test_the_gradient_agrees_with_finite_differences(name: str) -> None:
    """Features and heads move together, in a random direction, in float64."""
    objective = build(name).double().eval()
    batch = random_input(objective)
    online = batch.online.detach().double().requires_grad_()
    exact = replace(batch, online=online, momentum=batch.momentum.double(), pixels=batch.pixels.double())
    variables = [online, *[weight for weight in objective.parameters() if weight.requires_grad]]
    rng = torch.Generator().manual_seed(1)
    direction = [torch.randn(one.shape, generator=rng, dtype=torch.float64) for one in variables]
    with torch.no_grad():
        torch._foreach_add_(variables, direction, alpha=0.01)  # biases of 0 would put ReLUs at their kink
    gradients = torch.autograd.grad(objective(exact)[0], variables, allow_unused=True, materialize_grads=True)
    expected = sum((gradient * step).sum() for gradient, step in zip(gradients, direction, strict=True))
    losses = []
    with torch.no_grad():
        for size in (1e-6, -2e-6):
            torch._foreach_add_(variables, direction, alpha=size)
            losses.append(objective(exact)[0])
    assert ((losses[0] - losses[1]) / 2e-6).item() == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_its_whole_state_is_in_its_state_dict(name: str) -> None:
    original = build(name)
    train_steps(original, range(3))
    restored = build(name, seed=9)
    restored.load_state_dict(copy.deepcopy(original.state_dict()))
    if name == "deepcluster_v2":
        restored.seed = original.seed  # from the recipe, which a resumed training has too
    assert train_steps(restored, range(3, 6)) == train_steps(original, range(3, 6))


@pytest.mark.parametrize("name", NAMES)
def test_its_initial_state_follows_from_seed_and_branch(name: str) -> None:
    initial = build(name).state_dict()
    again = build(name).state_dict()
    assert all(torch.equal(initial[key], again[key]) for key in initial)
    for other in (build(name, seed=1).state_dict(), build(name, branch="context").state_dict()):
        assert any(not torch.equal(initial[key], other[key]) for key in initial)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_cells_in_a_batch_does_not_matter(name: str) -> None:
    objective = build(name)
    batch = random_input(objective)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert batch.pixels is not None and batch.keys is not None
    permuted = MethodInput(
        batch.online[:, order],
        batch.momentum[:, order],
        batch.cells[order],
        {column: values[order] for column, values in batch.metadata.items()},
        batch.pixels[:, order],
        Keys(batch.keys.values[order]),
    )
    torch.testing.assert_close(objective(permuted)[0], objective(batch)[0])


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_changes_no_state(name: str) -> None:
    objective = build(name).eval()
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    first, second = objective(random_input(objective))[0], objective(random_input(objective))[0]
    assert first == second
    assert all(torch.equal(value, objective.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize("name", NAMES)
def test_it_projects_cells_independently_where_it_has_a_projector(name: str) -> None:
    objective = build(name).eval()
    features = random_input(objective).online[0]
    if objective.has_projector:
        together = objective.project(features)
        torch.testing.assert_close(objective.project(features[2:3]), together[2:3])
    else:
        with pytest.raises(NotImplementedError):
            objective.project(features)


@pytest.mark.parametrize("name", NAMES)
def test_its_settings_have_texts_and_name_its_paper(name: str) -> None:
    model = plugins.load(FOLDER, name).Settings
    assert all(model.descriptions().values())
    assert re.search(r"arXiv:\d{4}\.\d{5}|doi:10\.", model.__doc__ or "")
    default = model()
    assert model.model_validate(default.all_values()) == default


# In a training with two branches; the other branch is MoCo.

JITTER = {"name": "color_jitter", "brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.1}
VIEW = ["horizontal_flip", {"name": "center_crop", "side": 0.75}, JITTER]
EPOCHS, BATCH = 2, 5


def small_settings(*names: str, **changes: Any) -> Settings:
    """Return small settings with a branch for each of the objectives, and one for MoCo."""
    tested = {
        f"b-{name}": {
            "view": VIEW,
            "weight": 0.4,
            "objective": {"name": name, **settings_of(name, **changes).non_default()},
        }
        for name in names
    }
    moco = {"view": VIEW, "objective": {"name": "moco", **settings_of("moco").non_default()}}
    encoder = VIT if "mae" in names else {"name": "small", "widths": [4, 6]}
    given = {"branches": {**tested, "centre": moco}, "encoder": encoder, "batch": BATCH, "epochs": EPOCHS}
    fixed = {
        "precision": "float32",
        "schedule": "constant",
        "learning_rate": 0.01,
        "optimizer": "sgd",
        "clip_norm": 1.0,
    }
    return Settings.model_validate(given | fixed)


def prepare_small(*names: str, group: Group = SINGLE_PROCESS, **changes: Any) -> tuple[TrainState, Plan]:
    """Return state and plan at step 0, with made-up metadata of training and validation cells."""
    cells, validation_cells = ([f"{kind} {i}" for i in range(CELLS)] for kind in ("cell", "other"))
    columns: dict[str, list[object]] = {
        "label": [("treated", "control", None)[i % 3] for i in range(2 * CELLS)],
        "compound": [("taxol", "DMSO")[i % 2] for i in range(2 * CELLS)],
        "dose_micromolar": [(0.1, 0.0, 1.0, 3.0, None)[i % 5] for i in range(2 * CELLS)],
    }
    settings = small_settings(*names, **changes)
    requested = {name: columns.get(name, columns["label"]) for name in settings.metadata_columns()}
    metadata = CellMetadata.from_columns(keys_of(cells + validation_cells), requested)
    crops: Any = MadeUpCrops(CELLS)
    return prepare(settings, crops, cells, 0, CPU, group, metadata)


def validate(state: TrainState, plan: Plan, cells: int = BATCH + 1) -> float:
    """Return the validation loss on a batch and one more cell."""
    crops: Any = MadeUpCrops(cells)
    return validation_loss(state, plan, crop_reader(crops, CPU), keys_of([f"other {i}" for i in range(cells)]))


@pytest.mark.parametrize("name", NAMES)
def test_a_training_interrupted_validated_and_resumed_equals_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    (uninterrupted, plan), (interrupted, same) = prepare_small(name), prepare_small(name)
    expected = [event.metrics for event in train(uninterrupted, plan)]
    metrics = [event.metrics for event in train(interrupted, replace(same, steps=4))]
    before = all_tensors(interrupted)
    first, second = validate(interrupted, same), validate(interrupted, same)
    assert first == second and torch.tensor(first).isfinite()
    assert all(torch.equal(value, all_tensors(interrupted)[key]) for key, value in before.items())
    interrupted.save(tmp_path / "last.ckpt")
    restored, rest = prepare_small(name)
    restored.load(tmp_path / "last.ckpt")
    assert metrics + [event.metrics for event in train(restored, rest)] == expected
    assert_same_bits(restored, uninterrupted)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mae"])  # it needs another encoder
def test_it_does_not_change_the_initial_state_and_the_views_of_another_branch(name: str) -> None:
    (state, plan), (alone, alone_plan) = prepare_small(name), prepare_small("moco")
    ours, theirs = (one.objectives["branch_centre"].state_dict() for one in (state, alone))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    first = [next(train(*run)).metrics["centre/loss"] for run in ((state, plan), (alone, alone_plan))]
    assert first[0] == first[1]


TRAINING = """
    from cellssl.learning.training.loop import train
    from parts.test_objectives import prepare_small, validate
    result = {{}}
    for name in {names}:
        state, plan = prepare_small(name, group=group)
        losses = [event.metrics[f"b-{{name}}/loss"] for event in train(state, plan)]
        weights = [float(weight.double().sum()) for weight in state.encoder.state_dict().values()]
        heads = [float(value.double().sum()) for value in state.objectives.state_dict().values()]
        result[name] = [losses, [validate(state, plan)], weights, heads]
"""


@pytest.mark.soak
def test_two_processes_train_every_objective_like_one_process(tmp_path: Path) -> None:
    """With batches of 5, the processes have shares of 2 and 3 cells; the encoder has batch norm."""
    (together,) = in_two_processes(tmp_path, TRAINING.format(names=list(NAMES)))
    for name in NAMES:
        state, plan = prepare_small(name)
        losses = [event.metrics[f"b-{name}/loss"] for event in train(state, plan)]
        weights = [float(weight.double().sum()) for weight in state.encoder.state_dict().values()]
        for result in (one[name] for one in together):
            assert result[0] == pytest.approx(losses, rel=1e-3, abs=1e-4), name
            assert result[1] == pytest.approx([validate(state, plan)], rel=1e-3, abs=1e-4), name
            assert result[2] == pytest.approx(weights, rel=1e-3, abs=1e-3), name
        assert together[0][name] == together[1][name], name


# Settings that are refused.


def test_a_queue_that_would_hold_every_cell_is_refused_with_the_cure() -> None:
    with pytest.raises(UsageError, match="a queue of 13 keys is not smaller than the 13 training cells") as caught:
        plugins.load(FOLDER, "moco").Settings(queue=13).check(13)
    assert "mask_same_cell = true" in caught.value.hint and "below 13" in caught.value.hint
    plugins.load(FOLDER, "moco").Settings(queue=12).check(13)
    plugins.load(FOLDER, "moco").Settings(queue=13, mask_same_cell=True).check(13)


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("nnclr", "set queue below 13 in"),
        ("nnbyol", "set queue below 13 in"),
        ("ressl", "set queue below 13 in"),
        ("looc", "set queue below 13, or mask_same_cell = true, in"),
        ("swav", "set queue below 13, or to 0, in"),
    ],
)
def test_a_queue_that_would_hold_every_cell_is_refused_for_all_objectives_with_a_queue(name: str, cure: str) -> None:
    plugins.load(FOLDER, name).Settings(queue=12).check(13)
    with pytest.raises(UsageError, match="is not smaller than the 13 training cells") as caught:
        plugins.load(FOLDER, name).Settings(queue=13).check(13)
    assert cure in caught.value.hint
    if "or" in cure:
        plugins.load(FOLDER, name).Settings(**({"queue": 0} if name == "swav" else {"mask_same_cell": True})).check(13)


def test_a_masked_autoencoder_that_hides_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="hides none of the 16 patches") as caught:
        build("mae", mask_ratio=0.01)
    assert "raise mask_ratio" in caught.value.hint
    build("mae", mask_ratio=0.04)


def test_a_lack_of_memory_is_an_error_with_a_cure() -> None:
    with pytest.raises(FailedError, match="there is not enough memory") as caught, enough_memory("lower it"):
        torch.empty(2**50)
    assert caught.value.hint == "lower it"
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), enough_memory("lower it"):
        torch.ones(2, 3) @ torch.ones(2, 3)  # a bug is not a lack of memory


def test_local_crops_that_the_encoder_cannot_take_are_refused_with_their_own_cure() -> None:
    branch = {"view": VIEW, "objective": {"name": "swav", "local_side": 0.25, "queue": 8}}
    settings = Settings.model_validate({"encoder": "small", "branches": {"main": branch}, "batch": 4})
    crops: Any = MadeUpCrops(CELLS)
    with pytest.raises(
        UsageError, match="small cannot take crops of 4 px, the size of the local crops of branch main"
    ) as caught:
        prepare(settings, crops, [f"cell {i}" for i in range(CELLS)], 0, CPU)
    assert "local_crops = 0" in caught.value.hint


def test_more_clusters_than_cells_are_refused() -> None:
    with pytest.raises(UsageError, match="prototypes = 300 needs as many training cells, but there are 299"):
        plugins.load(FOLDER, "deepcluster_v2").Settings().check(299)
