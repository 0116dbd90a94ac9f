"""What every file of the room `objectives` must do."""

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

ROOM = "cellssl.learning.objectives"
NAMES = plugins.names(ROOM)
DIM, CHANNELS, SIDE_PX, CELLS = 10, 3, 16, 13
CPU = torch.device("cpu")
PATCHES = {"name": "vit", "patch_px": 4, "dim": 8, "depth": 1, "heads": 2}
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
"""Knobs that make whatever has them quick."""


def settings_of(name: str, **knobs: Any) -> Any:
    model = plugins.load(ROOM, name).Settings
    return model(**{knob: value for knob, value in SMALLER.items() if knob in model.model_fields} | knobs)


def built(name: str, seed: int = 0, branch: str = "centre", **knobs: Any) -> Objective:
    encoder = plugins.load("cellssl.learning.encoders", "vit").Settings(patch_px=4)
    task = BuildContext(DIM, seed, branch, torch.arange(CELLS) * 7, 6, CHANNELS, SIDE_PX, encoder)
    objective: Objective = settings_of(name, **knobs).build(task)
    return objective


def seen(objective: Objective, cells: int = 6, number: int = 0) -> MethodInput:
    """Made-up features; of a masked autoencoder, made-up tokens."""
    chance = generator("test", "objectives", number)

    def noise(views: int, dim: int) -> torch.Tensor:
        return torch.from_numpy(chance.standard_normal((views, cells, dim), dtype="float32"))

    dim = DIM * getattr(objective, "seen_patches", 1)
    online, momentum = (noise(len(views), dim) for views in (objective.online_views, objective.momentum_views))
    rows = torch.arange(cells)
    known = {"label": rows % 2, "compound": rows % 2, "dose_micromolar": 10.0 ** (rows % 3)}
    pixels = noise(len(objective.pixel_views), CHANNELS * SIDE_PX**2)
    return MethodInput(online.requires_grad_(), momentum, rows * 7, known, pixels, Keys(rows))


def steps(objective: Objective, numbers: range) -> list[float]:
    optimizer = torch.optim.SGD([weight for weight in objective.parameters() if weight.requires_grad], lr=0.1)
    losses = []
    for number in numbers:
        optimizer.zero_grad()
        loss, _ = objective(seen(objective, number=number))
        loss.backward()
        optimizer.step()
        objective.after_step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", NAMES)
def test_the_views_it_looks_at_are_views_it_asks_for(name: str) -> None:
    objective = built(name)
    looked_at = {*objective.online_views, *objective.momentum_views, *objective.pixel_views}
    assert looked_at == set(range(objective.views))
    transform = plugins.load("cellssl.learning.transforms", "color_jitter").Settings(brightness=0.3)
    assert len(objective.shown((transform,), (transform,))) == objective.views
    assert 0 <= objective.momentum < 1


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_momentum_where_it_looks_through_the_momentum_encoder(name: str) -> None:
    assert hasattr(settings_of(name), "momentum") == bool(built(name).momentum_views)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_one_finite_number_that_teaches_the_encoder(name: str) -> None:
    objective = built(name)
    batch = seen(objective)
    loss, gauges = objective(batch)
    loss.backward()
    assert loss.shape == () and loss.isfinite()
    assert batch.online.grad is not None and batch.online.grad.abs().sum() > 0
    assert all(value.shape == () and value.isfinite() and not value.requires_grad for value in gauges.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_momentum_encoder_and_heads_get_no_gradient(name: str) -> None:
    objective = built(name)
    batch = seen(objective)
    batch.momentum.requires_grad_()
    objective(batch)[0].backward()
    assert batch.momentum.grad is None
    for weight_name, weight in objective.named_parameters():
        assert weight.grad is None or "momentum" not in weight_name


@pytest.mark.parametrize("name", [name for name in NAMES if not built(name).uses_stop_gradient])
def test_the_gradient_is_that_of_finite_differences(name: str) -> None:
    """Of features and heads at once, in a random direction, in float64."""
    objective = built(name).double().eval()
    batch = seen(objective)
    online = batch.online.detach().double().requires_grad_()
    exact = replace(batch, online=online, momentum=batch.momentum.double(), pixels=batch.pixels.double())
    moved = [online, *[weight for weight in objective.parameters() if weight.requires_grad]]
    chance = torch.Generator().manual_seed(1)
    towards = [torch.randn(one.shape, generator=chance, dtype=torch.float64) for one in moved]
    with torch.no_grad():
        torch._foreach_add_(moved, towards, alpha=0.01)  # biases of 0 put rectifiers on their kink
    slopes = torch.autograd.grad(objective(exact)[0], moved, allow_unused=True, materialize_grads=True)
    expected = sum((slope * step).sum() for slope, step in zip(slopes, towards, strict=True))
    losses = []
    with torch.no_grad():
        for size in (1e-6, -2e-6):
            torch._foreach_add_(moved, towards, alpha=size)
            losses.append(objective(exact)[0])
    assert ((losses[0] - losses[1]) / 2e-6).item() == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_all_that_it_remembers_is_in_its_state_dict(name: str) -> None:
    going_on = built(name)
    steps(going_on, range(3))
    taken_up = built(name, seed=9)
    taken_up.load_state_dict(copy.deepcopy(going_on.state_dict()))
    if name == "deepcluster_v2":
        taken_up.seed = going_on.seed  # of the recipe, which a training that goes on has too
    assert steps(taken_up, range(3, 6)) == steps(going_on, range(3, 6))


@pytest.mark.parametrize("name", NAMES)
def test_its_start_follows_from_seed_and_branch(name: str) -> None:
    start = built(name).state_dict()
    again = built(name).state_dict()
    assert all(torch.equal(start[key], again[key]) for key in start)
    for other in (built(name, seed=1).state_dict(), built(name, branch="context").state_dict()):
        assert any(not torch.equal(start[key], other[key]) for key in start)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_cells_in_a_batch_does_not_matter(name: str) -> None:
    objective = built(name)
    batch = seen(objective)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert batch.pixels is not None and batch.keys is not None
    turned = MethodInput(
        batch.online[:, order],
        batch.momentum[:, order],
        batch.cells[order],
        {column: values[order] for column, values in batch.known.items()},
        batch.pixels[:, order],
        Keys(batch.keys.values[order]),
    )
    torch.testing.assert_close(objective(turned)[0], objective(batch)[0])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_only_looked_at_is_not_remembered(name: str) -> None:
    objective = built(name).eval()
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    first, second = objective(seen(objective))[0], objective(seen(objective))[0]
    assert first == second
    assert all(torch.equal(value, objective.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize("name", NAMES)
def test_it_projects_single_cells_where_it_has_a_projector(name: str) -> None:
    objective = built(name).eval()
    features = seen(objective).online[0]
    if objective.projects:
        together = objective.project(features)
        torch.testing.assert_close(objective.project(features[2:3]), together[2:3])
    else:
        with pytest.raises(NotImplementedError):
            objective.project(features)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_explained_with_its_paper(name: str) -> None:
    model = plugins.load(ROOM, name).Settings
    assert all(field.description for field in model.model_fields.values())
    assert re.search(r"arXiv:\d{4}\.\d{5}|doi:10\.", model.__doc__ or "")
    plain = model()
    assert model.model_validate(plain.all_values()) == plain


# In a training, as one branch of two: the other is MoCo.

JITTER = {"name": "color_jitter", "brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.1}
VIEW = ["horizontal_flip", {"name": "center_crop", "side": 0.75}, JITTER]
EPOCHS, BATCH = 2, 5


def section(*names: str, **knobs: Any) -> Settings:
    """Each of the objectives beside MoCo, at the size of a toy."""
    tested = {
        f"b-{name}": {
            "view": VIEW,
            "weight": 0.4,
            "objective": {"name": name, **settings_of(name, **knobs).non_default()},
        }
        for name in names
    }
    moco = {"view": VIEW, "objective": {"name": "moco", **settings_of("moco").non_default()}}
    encoder = PATCHES if "mae" in names else {"name": "small", "widths": [4, 6]}
    given = {"branches": {**tested, "centre": moco}, "encoder": encoder, "batch": BATCH, "epochs": EPOCHS}
    fixed = {
        "precision": "float32",
        "schedule": "constant",
        "learning_rate": 0.01,
        "optimizer": "sgd",
        "clip_norm": 1.0,
    }
    return Settings.model_validate(given | fixed)


def ready(*names: str, group: Group = SINGLE_PROCESS, **knobs: Any) -> tuple[TrainState, Plan]:
    """At step 0; all that is known of training and validation cells is made up."""
    cells, others = ([f"{kind} {i}" for i in range(CELLS)] for kind in ("cell", "other"))
    columns: dict[str, list[object]] = {
        "label": [("treated", "control", None)[i % 3] for i in range(2 * CELLS)],
        "compound": [("taxol", "DMSO")[i % 2] for i in range(2 * CELLS)],
        "dose_micromolar": [(0.1, 0.0, 1.0, 3.0, None)[i % 5] for i in range(2 * CELLS)],
    }
    settings = section(*names, **knobs)
    asked = {name: columns.get(name, columns["label"]) for name in settings.metadata_columns()}
    known = CellMetadata.from_columns(keys_of(cells + others), asked)
    crops: Any = MadeUpCrops(CELLS)
    return prepare(settings, crops, cells, 0, CPU, group, known)


def looked(state: TrainState, plan: Plan, cells: int = BATCH + 1) -> float:
    """The validation loss on a batch and one cell more."""
    crops: Any = MadeUpCrops(cells)
    return validation_loss(state, plan, crop_reader(crops, CPU), keys_of([f"other {i}" for i in range(cells)]))


@pytest.mark.parametrize("name", NAMES)
def test_a_training_stopped_looked_at_and_taken_up_equals_one_that_was_not(name: str, tmp_path: Path) -> None:
    (undisturbed, plan), (stopped, same) = ready(name), ready(name)
    expected = [event.metrics for event in train(undisturbed, plan)]
    told = [event.metrics for event in train(stopped, replace(same, steps=4))]
    before = all_tensors(stopped)
    first, second = looked(stopped, same), looked(stopped, same)
    assert first == second and torch.tensor(first).isfinite()
    assert all(torch.equal(value, all_tensors(stopped)[key]) for key, value in before.items())
    stopped.save(tmp_path / "last.ckpt")
    taken_up, rest = ready(name)
    taken_up.load(tmp_path / "last.ckpt")
    assert told + [event.metrics for event in train(taken_up, rest)] == expected
    assert_same_bits(taken_up, undisturbed)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mae"])  # whose encoder is another
def test_it_leaves_the_start_and_the_views_of_the_branch_beside_it_alone(name: str) -> None:
    (state, plan), (alone, lonely) = ready(name), ready("moco")
    ours, theirs = (one.objectives["branch_centre"].state_dict() for one in (state, alone))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    first = [next(train(*run)).metrics["centre/loss"] for run in ((state, plan), (alone, lonely))]
    assert first[0] == first[1]


TRAINING = """
    from cellssl.learning.training.loop import train
    from parts.test_objectives import looked, ready, section
    result = {{}}
    for name in {names}:
        state, plan = ready(name, group=group)
        losses = [event.metrics[f"b-{{name}}/loss"] for event in train(state, plan)]
        weights = [float(weight.double().sum()) for weight in state.encoder.state_dict().values()]
        heads = [float(value.double().sum()) for value in state.objectives.state_dict().values()]
        result[name] = [losses, [looked(state, plan)], weights, heads]
"""


def test_two_processes_train_every_objective_as_one_does(tmp_path: Path) -> None:
    """Batches of 5, so shares of 2 and 3 cells, under an encoder with batch norm."""
    together = in_two_processes(tmp_path, TRAINING.format(names=list(NAMES)))
    for name in NAMES:
        state, plan = ready(name)
        losses = [event.metrics[f"b-{name}/loss"] for event in train(state, plan)]
        weights = [float(weight.double().sum()) for weight in state.encoder.state_dict().values()]
        for told in (one[name] for one in together):
            assert told[0] == pytest.approx(losses, rel=1e-3, abs=1e-4), name
            assert told[1] == pytest.approx([looked(state, plan)], rel=1e-3, abs=1e-4), name
            assert told[2] == pytest.approx(weights, rel=1e-3, abs=1e-3), name
        assert together[0][name] == together[1][name], name


# What cannot be learned.


def test_a_queue_that_would_hold_every_cell_is_refused_with_the_cure() -> None:
    with pytest.raises(UsageError, match="a queue of 13 keys is not smaller than the 13 training cells") as caught:
        plugins.load(ROOM, "moco").Settings(queue=13).check(13)
    assert "mask_same_cell = true" in caught.value.hint and "below 13" in caught.value.hint
    plugins.load(ROOM, "moco").Settings(queue=12).check(13)
    plugins.load(ROOM, "moco").Settings(queue=13, mask_same_cell=True).check(13)


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
def test_a_queue_in_which_every_cell_would_find_itself_is_refused(name: str, cure: str) -> None:
    plugins.load(ROOM, name).Settings(queue=12).check(13)
    with pytest.raises(UsageError, match="is not smaller than the 13 training cells") as caught:
        plugins.load(ROOM, name).Settings(queue=13).check(13)
    assert cure in caught.value.hint
    if "or" in cure:
        plugins.load(ROOM, name).Settings(**({"queue": 0} if name == "swav" else {"mask_same_cell": True})).check(13)


def test_a_masked_autoencoder_that_hides_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="hides none of the 16 patches") as caught:
        built("mae", mask_ratio=0.01)
    assert "raise mask_ratio" in caught.value.hint
    built("mae", mask_ratio=0.04)


def test_what_does_not_fit_into_memory_is_a_failure_in_words() -> None:
    with pytest.raises(FailedError, match="there is not enough memory") as caught, enough_memory("lower it"):
        torch.empty(2**50)
    assert caught.value.hint == "lower it"
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), enough_memory("lower it"):
        torch.ones(2, 3) @ torch.ones(2, 3)  # a fault of ours is none of memory


def test_small_views_that_the_encoder_cannot_take_are_refused_with_their_own_cure() -> None:
    view = {"view": VIEW, "objective": {"name": "swav", "local_side": 0.25, "queue": 8}}
    settings = Settings.model_validate({"encoder": "small", "branches": {"main": view}, "batch": 4})
    crops: Any = MadeUpCrops(CELLS)
    with pytest.raises(UsageError, match="small cannot see crops of 4 px, the size of the local crops of") as caught:
        prepare(settings, crops, [f"cell {i}" for i in range(CELLS)], 0, CPU)
    assert "local_crops = 0" in caught.value.hint


def test_more_clusters_than_cells_are_refused() -> None:
    with pytest.raises(UsageError, match="300 clusters were asked of 299 training cells"):
        plugins.load(ROOM, "deepcluster_v2").Settings().check(299)
