"""Rotation, denoising and masked autoencoders: what they are shown, what they are asked, and that it can be learned."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from learning.conftest import MadeUpCrops
from parts.test_objectives import PATCHES, built, seen

from cellssl.config import plugins
from cellssl.errors import UsageError
from cellssl.learning.methods.build_context import BuildContext
from cellssl.learning.methods.mae import normalise_patches, patchify
from cellssl.learning.view import render_all
from cellssl.learning.weight_init import init_encoder
from cellssl.randomness import Keys

VIEWS = "cellssl.learning.transforms"


def part(name: str, **knobs: Any) -> Any:
    return plugins.load(VIEWS, name).Settings(**knobs)


def crops(cells: int = 4) -> torch.Tensor:
    return torch.from_numpy(MadeUpCrops(cells).pixels)


# Rotation.


def test_the_four_views_are_exact_quarter_turns() -> None:
    whole = render_all(built("rotation").make_views((), ()), crops(), Keys(torch.arange(4)), 16)[0]
    for turn in range(4):
        torch.testing.assert_close(whole[turn], torch.rot90(whole[0], turn, dims=(-2, -1)), rtol=0, atol=1e-5)


def test_relative_views_are_turns_of_what_the_reference_shows() -> None:
    view = (part("horizontal_flip"), part("rotate", degrees=(90.0, 90.0)))
    whole = render_all(built("rotation", relative=True).make_views(view, view), crops(), Keys(torch.arange(4)), 16)[0]
    assert len(whole) == 5
    for turn in range(4):
        torch.testing.assert_close(whole[1 + turn], torch.rot90(whole[0], turn, dims=(-2, -1)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("turning", [part("rotate"), part("affine", degrees=5.0)])
def test_absolute_rotation_refuses_views_that_turn_the_cell(turning: Any) -> None:
    with pytest.raises(UsageError, match="rotation cannot be predicted") as caught:
        built("rotation").make_views((turning,), (turning,))
    assert "relative = true" in caught.value.hint
    built("rotation", relative=True).make_views((turning,), (turning,))
    built("rotation").make_views((part("affine", degrees=0.0),), ())


def test_flips_both_ways_are_half_a_turn_and_refused_where_there_is_no_reference() -> None:
    across, along = part("horizontal_flip"), part("vertical_flip")
    with pytest.raises(UsageError, match="flip both ways") as caught:
        built("rotation").make_views((across, along), ())
    assert "leave one of the flips out" in caught.value.hint
    built("rotation", relative=True).make_views((across, along), (across, along))
    for allowed in (
        (across,),
        (along,),
        (across, part("vertical_flip", p=0.0)),
        (across, part("vertical_flip", p=1.0)),
    ):
        built("rotation").make_views(allowed, ())


def test_a_turn_against_a_reference_needs_one_that_is_turned_alike() -> None:
    rotate, jitter = part("rotate"), part("channel_jitter", brightness=0.3)
    for query, key in (((), (rotate,)), ((rotate,), ()), ((rotate,), (part("rotate", degrees=90.0),))):
        with pytest.raises(UsageError, match="rotated or flipped by different transforms") as caught:
            built("rotation", relative=True).make_views(query, key)
        assert "the same rotate, affine and flips" in caught.value.hint
    built("rotation", relative=True).make_views((rotate, jitter), (rotate, part("center_crop", side=0.5)))


@pytest.mark.parametrize("relative", [False, True])
def test_the_loss_is_the_cross_entropy_of_the_turn(relative: bool) -> None:
    objective = built("rotation", relative=relative)
    batch = seen(objective)
    losses = []
    for turn in range(4):
        for cell in range(6):
            own = batch.online[turn + relative, cell]
            asked = torch.cat([batch.online[0, cell], own]) if relative else own
            losses.append(-objective.classifier(asked).log_softmax(dim=0)[turn].item())
    loss, gauges = objective(batch)
    assert loss.item() == pytest.approx(sum(losses) / 24, rel=1e-5)
    assert gauges["chance"].item() == pytest.approx(math.log(4))


# Denoising.


def test_the_target_lies_where_the_spoilt_view_does_and_keeps_its_looks() -> None:
    view = (
        part("horizontal_flip"),
        part("channel_jitter", brightness=0.4),
        part("center_crop", side=0.5),
        part("random_resized_crop"),
    )
    objective = built("denoising", sigma=0.0)
    without_looks = tuple(one for one in view if one.plugin_name() != "channel_jitter")
    spoilt, clean = render_all(objective.make_views(view, view), crops(), Keys(torch.arange(4)), 16)[0]
    plain = objective.make_views(without_looks, without_looks)
    torch.testing.assert_close(render_all(plain, crops(), Keys(torch.arange(4)), 16)[0][0], clean, rtol=0, atol=1e-5)
    assert not torch.equal(spoilt, clean)
    noisy = render_all(built("denoising", sigma=0.3).make_views((), ()), crops(), Keys(torch.arange(4)), 16)[0]
    torch.testing.assert_close(noisy[1], crops() / 255.0)
    assert (noisy[0] - noisy[1]).std() > 0.1


def test_the_error_is_the_mean_over_cells_and_pixels() -> None:
    objective = built("denoising")
    batch = seen(objective)
    assert batch.pixels is not None
    drawn = objective.decoder(batch.online[0])
    assert drawn.shape == (6, 3, 16, 16)
    torch.testing.assert_close(objective(batch)[0], F.mse_loss(drawn.flatten(1), batch.pixels[0]))


def test_whoever_draws_the_mean_explains_nothing() -> None:
    objective = built("denoising")
    with torch.no_grad():
        for weight in objective.parameters():
            weight.zero_()
        objective.decoder.finer[-1].bias.fill_(0.5)
    batch = seen(objective)
    assert batch.pixels is not None
    batch.pixels.copy_(0.5 + batch.pixels - batch.pixels.mean())
    assert objective(batch)[1]["explained"].item() == pytest.approx(0.0, abs=1e-5)


# Masked autoencoder.


def test_patches_are_cut_row_by_row_and_channel_by_channel() -> None:
    pixels = torch.arange(2 * 2 * 6 * 6.0).view(2, 2, 6, 6)
    patches = patchify(pixels, 3)
    assert patches.shape == (2, 4, 18)
    assert torch.equal(patches[1, 2], torch.cat([pixels[1, c, 3:6, 0:3].flatten() for c in range(2)]))


def test_a_normalised_patch_has_no_mean_and_a_spread_of_one() -> None:
    patches = normalise_patches(10 * torch.rand(2, 3, 48, generator=torch.Generator().manual_seed(0)) + 5)
    torch.testing.assert_close(patches.mean(dim=-1), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(patches.std(dim=-1), torch.ones(2, 3), atol=1e-5, rtol=0)


def masked(**knobs: Any) -> tuple[Any, Any]:
    """The objective and its encoder, for crops of 16 px and patches of 4."""
    settings = plugins.load("cellssl.learning.encoders", "vit").Settings(
        **{name: value for name, value in PATCHES.items() if name != "name"}
    )
    context = BuildContext(8, 0, "centre", torch.arange(13), 4, 3, 16, settings)
    objective = plugins.load("cellssl.learning.objectives", "mae").Settings(dim=8, **knobs).build(context)
    return objective, init_encoder(settings, 3, 0, "encoder")


def test_the_encoder_does_not_see_hidden_patches() -> None:
    objective, encoder = masked()
    keys, shown = Keys(torch.arange(4)), crops() / 255.0
    patches = patchify(shown, 4).clone()
    hidden = torch.ones(4, 16, dtype=torch.bool).scatter_(1, objective.visible_patches(keys), False)
    assert hidden.sum() == 4 * 12
    patches[hidden] = 0.3
    spoilt = patches.view(4, 4, 4, 3, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(4, 3, 16, 16)
    torch.testing.assert_close(
        objective.encode(encoder, shown[None], keys), objective.encode(encoder, spoilt[None], keys)
    )
    assert not torch.equal(encoder(shown), encoder(spoilt))


@pytest.mark.parametrize("normalise", [True, False])
def test_the_loss_is_the_mean_over_pixels_of_hidden_patches(normalise: bool) -> None:
    objective, encoder = masked(normalise=normalise)
    keys, shown = Keys(torch.arange(4)), crops() / 255.0
    tokens = objective.encode(encoder, shown[None], keys)
    batch = seen(built("mae"))
    batch = type(batch)(tokens, batch.momentum, torch.arange(4), {}, shown.flatten(1)[None], keys)
    seen_patches = objective.visible_patches(keys)
    drawn, target = objective._reconstruct(tokens[0], seen_patches), patchify(shown, 4)
    if normalise:
        target = normalise_patches(target)
    errors = [
        (drawn[i, p] - target[i, p]).square().mean().item()
        for i in range(4)
        for p in range(16)
        if p not in seen_patches[i].tolist()
    ]
    assert objective(batch)[0].item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_other_patches_are_hidden_in_another_step_and_for_another_cell() -> None:
    objective, _ = masked()
    here, there = (objective.visible_patches(Keys(torch.arange(8)).fold(step)) for step in (0, 1))
    assert not torch.equal(here, there) and len({tuple(row) for row in here.tolist()}) > 1


def test_an_encoder_that_sees_no_patches_is_refused() -> None:
    small = plugins.load("cellssl.learning.encoders", "small").Settings()
    with pytest.raises(UsageError, match="the encoder has no patches") as caught:
        plugins.load("cellssl.learning.objectives", "mae").Settings().build(
            BuildContext(8, 0, "centre", torch.arange(13), 4, 3, 16, small)
        )
    assert "vit" in caught.value.hint


def test_patches_that_do_not_fill_the_crop_are_refused() -> None:
    vit = plugins.load("cellssl.learning.encoders", "vit").Settings()
    with pytest.raises(UsageError, match="patches of 8 px do not fill crops of 68 px") as caught:
        vit.check_side(68)
    assert "input_px = 64" in caught.value.hint
