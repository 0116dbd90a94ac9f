"""Rotation, denoising and masked autoencoders: their views, their losses, and views and encoders that they refuse."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from learning.conftest import MadeUpCrops
from parts.test_objectives import VIT, build, random_input

from cellssl.config import plugins
from cellssl.errors import UsageError
from cellssl.learning.methods.build_context import BuildContext
from cellssl.learning.methods.mae import normalise_patches, patchify
from cellssl.learning.view import render_all
from cellssl.learning.weight_init import init_encoder
from cellssl.randomness import Keys

TRANSFORMS = "cellssl.learning.transforms"


def part(name: str, **changes: Any) -> Any:
    return plugins.load(TRANSFORMS, name).Settings(**changes)


def crops(cells: int = 4) -> torch.Tensor:
    return torch.from_numpy(MadeUpCrops(cells).pixels)


# Rotation.


def test_the_four_views_are_exact_quarter_turns() -> None:
    whole = render_all(build("rotation").make_views((), ()), crops(), Keys(torch.arange(4)), 16)[0]
    for turn in range(4):
        torch.testing.assert_close(whole[turn], torch.rot90(whole[0], turn, dims=(-2, -1)), rtol=0, atol=1e-5)


def test_relative_views_are_quarter_turns_of_the_reference() -> None:
    view = (part("horizontal_flip"), part("rotate", degrees=(90.0, 90.0)))
    whole = render_all(build("rotation", relative=True).make_views(view, view), crops(), Keys(torch.arange(4)), 16)[0]
    assert len(whole) == 5
    for turn in range(4):
        torch.testing.assert_close(whole[1 + turn], torch.rot90(whole[0], turn, dims=(-2, -1)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("rotating", [part("rotate"), part("affine", degrees=5.0)])
def test_absolute_rotation_refuses_views_that_rotate_the_cell(rotating: Any) -> None:
    with pytest.raises(UsageError, match="rotation cannot be predicted") as caught:
        build("rotation").make_views((rotating,), (rotating,))
    assert "relative = true" in caught.value.hint
    build("rotation", relative=True).make_views((rotating,), (rotating,))
    build("rotation").make_views((part("affine", degrees=0.0),), ())


def test_flips_both_ways_are_half_a_turn_and_refused_without_a_reference() -> None:
    horizontal, vertical = part("horizontal_flip"), part("vertical_flip")
    with pytest.raises(UsageError, match="flip both ways") as caught:
        build("rotation").make_views((horizontal, vertical), ())
    assert "leave one of the flips out" in caught.value.hint
    build("rotation", relative=True).make_views((horizontal, vertical), (horizontal, vertical))
    for allowed in (
        (horizontal,),
        (vertical,),
        (horizontal, part("vertical_flip", p=0.0)),
        (horizontal, part("vertical_flip", p=1.0)),
    ):
        build("rotation").make_views(allowed, ())


def test_relative_rotation_needs_a_reference_with_the_same_rotation() -> None:
    rotate, jitter = part("rotate"), part("channel_jitter", brightness=0.3)
    for query, key in (((), (rotate,)), ((rotate,), ()), ((rotate,), (part("rotate", degrees=90.0),))):
        with pytest.raises(UsageError, match="rotated or flipped by different transforms") as caught:
            build("rotation", relative=True).make_views(query, key)
        assert "the same rotate, affine and flips" in caught.value.hint
    build("rotation", relative=True).make_views((rotate, jitter), (rotate, part("center_crop", side=0.5)))


@pytest.mark.parametrize("relative", [False, True])
def test_the_loss_is_the_cross_entropy_of_the_turn(relative: bool) -> None:
    objective = build("rotation", relative=relative)
    batch = random_input(objective)
    losses = []
    for turn in range(4):
        for cell in range(6):
            own = batch.online[turn + relative, cell]
            features = torch.cat([batch.online[0, cell], own]) if relative else own
            losses.append(-objective.classifier(features).log_softmax(dim=0)[turn].item())
    loss, diagnostics = objective(batch)
    assert loss.item() == pytest.approx(sum(losses) / 24, rel=1e-5)
    assert diagnostics["chance"].item() == pytest.approx(math.log(4))


# Denoising.


def test_the_target_has_the_geometry_of_the_noisy_view_and_its_original_intensities() -> None:
    view = (
        part("horizontal_flip"),
        part("channel_jitter", brightness=0.4),
        part("center_crop", side=0.5),
        part("random_resized_crop"),
    )
    objective = build("denoising", sigma=0.0)
    without_jitter = tuple(one for one in view if one.plugin_name() != "channel_jitter")
    jittered, clean = render_all(objective.make_views(view, view), crops(), Keys(torch.arange(4)), 16)[0]
    plain = objective.make_views(without_jitter, without_jitter)
    torch.testing.assert_close(render_all(plain, crops(), Keys(torch.arange(4)), 16)[0][0], clean, rtol=0, atol=1e-5)
    assert not torch.equal(jittered, clean)
    noisy = render_all(build("denoising", sigma=0.3).make_views((), ()), crops(), Keys(torch.arange(4)), 16)[0]
    torch.testing.assert_close(noisy[1], crops() / 255.0)
    assert (noisy[0] - noisy[1]).std() > 0.1


def test_the_denoising_loss_is_the_mean_over_cells_and_pixels() -> None:
    objective = build("denoising")
    batch = random_input(objective)
    assert batch.pixels is not None
    reconstructed = objective.decoder(batch.online[0])
    assert reconstructed.shape == (6, 3, 16, 16)
    torch.testing.assert_close(objective(batch)[0], F.mse_loss(reconstructed.flatten(1), batch.pixels[0]))


def test_a_reconstruction_by_the_mean_explains_nothing() -> None:
    objective = build("denoising")
    with torch.no_grad():
        for weight in objective.parameters():
            weight.zero_()
        objective.decoder.finer[-1].bias.fill_(0.5)
    batch = random_input(objective)
    assert batch.pixels is not None
    batch.pixels.copy_(0.5 + batch.pixels - batch.pixels.mean())
    assert objective(batch)[1]["explained"].item() == pytest.approx(0.0, abs=1e-5)


# Masked autoencoder.


def test_patches_are_cut_row_by_row_and_channel_by_channel() -> None:
    pixels = torch.arange(2 * 2 * 6 * 6.0).view(2, 2, 6, 6)
    patches = patchify(pixels, 3)
    assert patches.shape == (2, 4, 18)
    assert torch.equal(patches[1, 2], torch.cat([pixels[1, c, 3:6, 0:3].flatten() for c in range(2)]))


def test_a_normalised_patch_has_mean_0_and_standard_deviation_1() -> None:
    patches = normalise_patches(10 * torch.rand(2, 3, 48, generator=torch.Generator().manual_seed(0)) + 5)
    torch.testing.assert_close(patches.mean(dim=-1), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(patches.std(dim=-1), torch.ones(2, 3), atol=1e-5, rtol=0)


def masked(**changes: Any) -> tuple[Any, Any]:
    """Return the objective and its encoder, for crops of 16 px and patches of 4 px."""
    settings = plugins.load("cellssl.learning.encoders", "vit").Settings(
        **{name: value for name, value in VIT.items() if name != "name"}
    )
    context = BuildContext(8, 0, "centre", torch.arange(13), 4, 3, 16, settings)
    objective = plugins.load("cellssl.learning.objectives", "mae").Settings(dim=8, **changes).build(context)
    return objective, init_encoder(settings, 3, 0, "encoder")


def test_hidden_patches_do_not_change_the_tokens() -> None:
    objective, encoder = masked()
    keys, pixels = Keys(torch.arange(4)), crops() / 255.0
    patches = patchify(pixels, 4).clone()
    hidden = torch.ones(4, 16, dtype=torch.bool).scatter_(1, objective.visible_patches(keys), False)
    assert hidden.sum() == 4 * 12
    patches[hidden] = 0.3
    changed = patches.view(4, 4, 4, 3, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(4, 3, 16, 16)
    torch.testing.assert_close(
        objective.encode(encoder, pixels[None], keys), objective.encode(encoder, changed[None], keys)
    )
    assert not torch.equal(encoder(pixels), encoder(changed))


@pytest.mark.parametrize("normalise", [True, False])
def test_the_mae_loss_is_the_mean_over_pixels_of_hidden_patches(normalise: bool) -> None:
    objective, encoder = masked(normalise=normalise)
    keys, pixels = Keys(torch.arange(4)), crops() / 255.0
    tokens = objective.encode(encoder, pixels[None], keys)
    batch = random_input(build("mae"))
    batch = type(batch)(tokens, batch.momentum, torch.arange(4), {}, pixels.flatten(1)[None], keys)
    visible = objective.visible_patches(keys)
    reconstructed, target = objective._reconstruct(tokens[0], visible), patchify(pixels, 4)
    if normalise:
        target = normalise_patches(target)
    errors = [
        (reconstructed[i, p] - target[i, p]).square().mean().item()
        for i in range(4)
        for p in range(16)
        if p not in visible[i].tolist()
    ]
    assert objective(batch)[0].item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_hidden_patches_differ_between_steps_and_between_cells() -> None:
    objective, _ = masked()
    first, second = (objective.visible_patches(Keys(torch.arange(8)).fold(step)) for step in (0, 1))
    assert not torch.equal(first, second) and len({tuple(row) for row in first.tolist()}) > 1


def test_an_encoder_without_patches_is_refused() -> None:
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
