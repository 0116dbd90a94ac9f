"""LooC: draws that views share, the loss by its formula, and the content of queues and heads."""

import copy
import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from parts.test_objectives import build, random_input
from torch import Tensor

from cellssl.config import plugins
from cellssl.errors import UsageError
from cellssl.learning.methods.looc import space_scores
from cellssl.learning.view import View, render_all, same_draws
from cellssl.randomness import Keys

TRANSFORMS = "cellssl.learning.transforms"
SENSITIVE_TO = ("channel_jitter", "rotate")


def transforms() -> tuple[Any, ...]:
    settings = {"horizontal_flip": {}, "rotate": {}, "channel_jitter": {"brightness": 0.4}}
    return tuple(plugins.load(TRANSFORMS, name).Settings(**given) for name, given in settings.items())


def drawn(views: tuple[View, ...], number: int, name: str, cells: int = 64) -> dict[str, Tensor]:
    """Return what transform `name` draws in view `number`: from the keys of that view, or from those of view 0."""
    keys = Keys(torch.arange(cells)).fold("step")
    own, first = keys.fold(f"view{number}"), keys.fold("view0")
    view = views[number]
    part = next(part for part in view.transforms if part.plugin_name() == name)
    chosen = (first if name in view.as_first else own).fold(name, 0)
    parameters: dict[str, Tensor] = part.draw(chosen, 3 if name == "channel_jitter" else 16)  # type: ignore[attr-defined]
    return parameters


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


def test_key_i_shares_only_the_draw_of_transform_i_with_the_query() -> None:
    views = build("looc", sensitive_to=SENSITIVE_TO).make_views(transforms(), transforms())
    assert len(views) == 4
    for number in (1, 2, 3):
        for name in ("horizontal_flip", *SENSITIVE_TO):
            shared = number > 1 and name == SENSITIVE_TO[number - 2]
            assert equal(drawn(views, 0, name), drawn(views, number, name)) == shared


def test_a_view_that_shares_all_its_transforms_equals_the_first_view_bit_for_bit() -> None:
    parts = transforms()
    names = frozenset(part.plugin_name() for part in parts)
    crops = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = render_all((View(parts), View(parts, as_first=names), View(parts)), crops, Keys(torch.arange(5)), 16)[0]
    assert torch.equal(whole[0], whole[1]) and not torch.equal(whole[0], whole[2])


def test_the_loss_is_the_mean_over_spaces_of_the_formula() -> None:
    """-1/(n+1) [log E00 / (E00 + Σ E0-) + Σ_i log E_ii / (Σ_j E_ij + Σ E_i-)]."""
    objective = build("looc", sensitive_to=SENSITIVE_TO, temperature=0.2)
    batch = random_input(objective)
    exact = copy.deepcopy(objective).double()
    losses = []
    for cell in range(6):
        for space in range(3):
            query = F.normalize(exact.projectors[space](batch.online[0, cell].double()), dim=0)
            keys = [
                F.normalize(exact.momentum_projectors[space](batch.momentum[j, cell].double()), dim=0) for j in range(3)
            ]
            e = [math.exp(float(query @ key) / 0.2) for key in keys]
            former = sum(math.exp(float(query @ key) / 0.2) for key in exact.queue[space].T)
            own = e[0] if space == 0 else sum(e)
            losses.append(-math.log(e[space] / (own + former)))
    assert objective(batch)[0].item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_a_key_that_a_flip_happens_to_treat_like_the_query_is_not_a_negative() -> None:
    """Pixels show it: keys 0 and 2 are negatives in space 1 only where their flip differs from the query's."""
    view = (
        plugins.load(TRANSFORMS, "horizontal_flip").Settings(),
        plugins.load(TRANSFORMS, "channel_jitter").Settings(brightness=0.4),
    )
    objective = build("looc", sensitive_to=("horizontal_flip", "channel_jitter"))
    views = objective.make_views(view, view)
    keys = Keys(torch.arange(64)).fold("step")
    same_draw = partial(same_draws, views, keys=keys, channels=3, side=16)
    bright = torch.zeros(64, 3, 16, 16, dtype=torch.uint8)
    bright[..., :8] = 200  # the left half is bright, so that pixels reveal the flip
    is_left = render_all(views, bright, keys, 16)[0][..., :8].sum(dim=(2, 3, 4)) > 0  # (4, 64)
    same = [same_draw(number, "horizontal_flip") for number in (1, 2, 3)]
    assert all(torch.equal(one, is_left[number] == is_left[0]) for number, one in enumerate(same, start=1))
    assert same[1].all() and 16 < same[0].sum() < 48 and not same_draw(1, "channel_jitter").any()

    batch = replace(random_input(objective, cells=64), same_draw=same_draw)
    scores = space_scores(
        F.normalize(objective.projectors[1](batch.online[0]), dim=1),
        F.normalize(objective.momentum_projectors[1](batch.momentum), dim=2),
        objective.queue[1], 1, 0.2, same_draw=torch.stack(same, dim=1),
    )  # fmt: skip
    negatives = scores[:, 1:3].isfinite()  # keys 0 and 2
    assert torch.equal(negatives, torch.stack([~same[0], ~same[2]], dim=1))
    expected = (scores.logsumexp(dim=1) - scores[:, 0]).mean()
    torch.testing.assert_close(objective(batch)[1]["loss_horizontal_flip"], expected)


@pytest.mark.parametrize(
    ("name", "settings", "varies"),
    [
        ("center_crop", {"side": 0.5}, False),
        ("horizontal_flip", {"p": 1.0}, False),
        ("color_jitter", {}, False),
        ("color_jitter", {"brightness": 0.2, "p": 0.05}, True),
        ("random_resized_crop", {"scale": (0.9, 1.1)}, True),
    ],
)
def test_a_transform_that_does_the_same_to_every_view_is_refused(
    name: str, settings: dict[str, Any], varies: bool
) -> None:
    view = (plugins.load(TRANSFORMS, name).Settings(**settings),)
    objective = build("looc", sensitive_to=(name,))
    if varies:
        assert len(objective.make_views(view, view)) == 3
        return
    with pytest.raises(UsageError, match="does the same to every view") as caught:
        objective.make_views(view, view)
    assert "whose draws differ" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["color_jitter", "gaussian_blur", "random_resized_crop", "channel_drop", "vertical_flip"]
)
def test_equal_draws_give_the_same_pixels_and_other_draws_do_not(name: str) -> None:
    settings: dict[str, Any] = {
        "color_jitter": {"brightness": 0.5, "p": 0.5},
        "gaussian_blur": {"kernel_size": 3, "p": 0.5},
        "random_resized_crop": {"scale": (0.8, 1.4)},
    }
    views = (View((plugins.load(TRANSFORMS, name).Settings(**settings.get(name, {})),)),) * 2
    crops = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    keys = Keys(torch.arange(64))
    one, other = render_all(views, crops, keys, 16)[0]
    same = same_draws(views, 1, name, keys, channels=3, side=16)
    assert torch.equal(same, (one == other).flatten(1).all(dim=1)) and 0 < same.sum() < 64


def test_each_queue_gets_the_keys_of_its_own_space() -> None:
    objective = build("looc", sensitive_to=SENSITIVE_TO)
    batch = random_input(objective)
    objective(batch)
    expected = [
        F.normalize(head(batch.momentum[space]), dim=1).T for space, head in enumerate(objective.momentum_projectors)
    ]
    objective.after_step()
    torch.testing.assert_close(objective.queue[:, :, :6], torch.stack(expected))


def test_its_projection_concatenates_all_spaces() -> None:
    objective = build("looc", sensitive_to=SENSITIVE_TO)
    features = random_input(objective).online[0]
    whole = objective.project(features)
    assert whole.shape == (6, 3 * 8)
    for space, head in enumerate(objective.projectors):
        torch.testing.assert_close(whole[:, 8 * space : 8 * space + 8], F.normalize(head(features), dim=1))


def test_mask_same_cell_leaves_out_former_keys_of_the_same_cell() -> None:
    objective, batch = build("looc", mask_same_cell=True), random_input(build("looc"))
    objective.queue_cells.fill_(int(batch.cells[0]))
    loss, _ = objective(batch)
    objective.queue_cells.fill_(-1)
    assert loss < objective(batch)[0]


def test_a_transform_that_the_views_lack_is_refused_with_the_cure() -> None:
    with pytest.raises(
        UsageError, match="sensitive to 'channel_drop': the branch's views do not have this transform"
    ) as caught:
        build("looc", sensitive_to=("channel_drop",)).make_views(transforms(), transforms())
    assert "horizontal_flip" in caught.value.hint or "channel_jitter" in caught.value.hint
