"""Several geometric transforms are one resampling: equal to the chain inside the image, and sharper."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from cellssl.learning.transform import Geometric, Sampling
from cellssl.learning.view import ViewSettings
from cellssl.learning.warp import Warp, append, average_squares, grid_terms, shrink_factors
from cellssl.randomness import Keys, cell_keys, generator

CHAIN = (
    {"name": "horizontal_flip"},
    {"name": "rotate", "degrees": 360},
    {"name": "affine", "degrees": 20, "translate": 0.1, "scale": (0.9, 1.2), "shear": 10},
    {"name": "random_resized_crop", "scale": (0.5, 1.0), "size": 80},
    {"name": "vertical_flip"},
    {"name": "center_crop", "side": 0.8},
)


def geometric(*given: dict[str, Any]) -> list[tuple[Geometric, Keys]]:
    keys = Keys(torch.from_numpy(cell_keys(f"cell {i}" for i in range(12))))
    parts = TypeAdapter(ViewSettings).validate_python(given)
    return [(part, keys.fold(i)) for i, part in enumerate(parts) if isinstance(part, Geometric)]


def smooth(cells: int, side: int) -> torch.Tensor:
    """Return waves that are much longer than a pixel, so that interpolation errors are small."""
    at = torch.arange(side) / side
    waves = [torch.sin(6.0 * at[:, None] + 4.0 * at[None, :] * (1 + k % 4) + k) for k in range(2 * cells)]
    return 0.5 + 0.4 * torch.stack(waves).view(cells, 2, side, side)


def noise(channels: int, side: int) -> torch.Tensor:
    """Return twelve images in which every pixel differs from its neighbours."""
    return torch.from_numpy(generator("test", "noise").random((12, channels, side, side), dtype="float32"))


def compose(transforms: list[tuple[Geometric, Keys]], side: int) -> list[Warp]:
    """Join the warps of transforms as a view does: into as few as possible."""
    warps: list[Warp] = []
    for transform, keys in transforms:
        append(warps, Warp.of(transform, keys, warps[-1].side_out if warps else side))
    return warps


def one_by_one(crops: torch.Tensor, transforms: list[tuple[Geometric, Keys]]) -> torch.Tensor:
    for transform, keys in transforms:
        crops = Warp.of(transform, keys, crops.shape[-1]).apply(crops)
    return crops


def always_inside(transforms: list[tuple[Geometric, Keys]], side: int) -> torch.Tensor:
    """Return the output pixels whose four neighbours lie inside the image in every step of the chain."""
    return one_by_one(torch.ones(12, 1, side, side), transforms) > 1 - 1e-4


def test_a_chain_of_geometric_transforms_is_one_warp() -> None:
    (warp,) = compose(geometric(*CHAIN), 96)
    assert (warp.side_in, warp.side_out) == (96, 64)


def test_one_warp_equals_the_chain_where_the_chain_stays_inside_the_image() -> None:
    transforms = geometric(*CHAIN)
    (warp,) = compose(transforms, 96)
    crops, inside = smooth(12, 96), always_inside(transforms, 96)
    assert inside.float().mean() > 0.5
    error = (warp.apply(crops) - one_by_one(crops, transforms)).abs() * inside
    bilinear = 0.4 * (6**2 + 16**2) / 96**2 / 8  # amplitude x wave number squared / 8: the most that one sampling errs
    assert error.max() < 4 * bilinear
    assert error.sum() / inside.sum() / 2 < bilinear


STEPS: tuple[dict[str, Any], ...] = (
    {"name": "rotate", "degrees": 360},
    {"name": "affine", "degrees": 30, "translate": (0.1, 0.05), "scale": (0.9, 1.3), "shear": 15, "shear_y": 5},
    {"name": "horizontal_flip"},
    {"name": "random_resized_crop", "scale": (0.4, 1.1)},
    {"name": "center_crop", "side": 0.9},
    {"name": "vertical_flip"},
    {"name": "pad", "padding": 5},
    {"name": "random_crop", "size": 70},
    {"name": "resize", "size": 90},
)


def random_chain(number: int) -> list[tuple[Geometric, Keys]]:
    """Return a rotation, an affine map and up to three more steps, in random order."""
    dice = generator("test", "chain", number)
    chosen = [STEPS[0], STEPS[1], *(STEPS[i] for i in 2 + dice.permutation(len(STEPS) - 2)[: number % 4])]
    return geometric(*(chosen[i] for i in dice.permutation(len(chosen))))


@pytest.mark.parametrize("number", range(12))
def test_any_chain_equals_one_warp_where_it_stays_inside_the_image_and_the_warp_is_sharper(number: int) -> None:
    transforms = random_chain(number)
    (warp,) = compose(transforms, 96)
    inside = always_inside(transforms, 96)
    assert inside.float().mean() > 0.2
    bilinear = 0.4 * (6**2 + 16**2) / 96**2 / 8
    crops = smooth(12, 96)
    error = (warp.apply(crops) - one_by_one(crops, transforms)).abs() * inside
    assert error.max() < 1.5 * len(transforms) * bilinear
    grain = noise(2, 96)
    at_once, stepwise = (seen[inside.expand_as(seen)] for seen in (warp.apply(grain), one_by_one(grain, transforms)))
    assert at_once.std() > 1.15 * stepwise.std()


def test_one_warp_is_nearer_to_the_truth_than_the_chain() -> None:
    transforms = geometric({"name": "rotate", "degrees": (37, 37)}, {"name": "rotate", "degrees": (-37, -37)})
    crops, inside = smooth(12, 96), always_inside(transforms, 96)
    (warp,) = compose(transforms, 96)
    at_once = ((warp.apply(crops) - crops).abs() * inside).max()
    stepwise = ((one_by_one(crops, transforms) - crops).abs() * inside).max()
    assert at_once < 1e-4
    assert stepwise > 1e-3


def test_one_warp_shows_pixels_of_the_image_where_the_chain_shows_fill() -> None:
    transforms = geometric({"name": "rotate", "degrees": (37, 37)}, {"name": "rotate", "degrees": (-27, -27)})
    white = torch.ones(12, 1, 196, 196)
    black_at_once = 1 - compose(transforms, 196)[0].apply(white).mean().item()
    black_stepwise = 1 - one_by_one(white, transforms).mean().item()
    assert (black_at_once, black_stepwise) == pytest.approx((0.07, 0.17), abs=0.01)


def test_different_fills_are_not_joined() -> None:
    transforms = geometric(
        {"name": "rotate", "fill": 1.0}, {"name": "horizontal_flip"}, {"name": "rotate", "fill": 0.0}
    )
    assert [warp.sampling.fill for warp in compose(transforms, 32)] == [1.0, 0.0]


def test_detail_that_a_resize_averages_away_does_not_come_back() -> None:
    crops = noise(2, 96)
    small, large = compose(geometric({"name": "resize", "size": 32}, {"name": "resize", "size": 96}), 96)
    assert large.apply(small.apply(crops)).std() < 0.6 * crops.std()


def test_pixels_outside_the_image_are_the_fill() -> None:
    (warp,) = compose(geometric({"name": "affine", "scale": (0.5, 0.5), "fill": 0.25}), 32)
    seen = warp.apply(torch.ones(12, 1, 32, 32))
    assert torch.allclose(seen[:, :, :7], torch.tensor(0.25)) and torch.allclose(
        seen[:, :, 10:22, 10:22], torch.tensor(1.0)
    )


def test_enlarging_does_not_darken_the_edge() -> None:
    (warp,) = compose(geometric({"name": "resize", "size": 100}), 32)
    assert torch.allclose(warp.apply(torch.ones(12, 1, 32, 32)), torch.tensor(1.0))


def test_a_quarter_turn_moves_pixels_and_changes_none() -> None:
    crops = noise(1, 33)
    (warp,) = compose(geometric({"name": "rotate", "degrees": (90, 90)}), 33)
    torch.testing.assert_close(warp.apply(crops), crops.rot90(1, (2, 3)), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("side", "out", "square"), [(96, 96, 1), (96, 48, 1), (96, 32, 3), (100, 32, 3), (97, 12, 8)])
def test_squares_are_averaged_when_an_image_shrinks_more_than_twofold(side: int, out: int, square: int) -> None:
    assert shrink_factors(Warp.resize(1, side, out).matrix).tolist() == [square]


def test_shrinking_threefold_is_the_mean_of_nine_pixels() -> None:
    crops = noise(2, 96)
    means = crops.view(12, 2, 32, 3, 32, 3).mean(dim=(3, 5))
    torch.testing.assert_close(Warp.resize(12, 96, 32).apply(crops), means, atol=1e-5, rtol=0)


def test_shrinking_keeps_positions_where_the_side_is_no_multiple_of_the_squares() -> None:
    ramp = (torch.arange(100.0) / 100).expand(12, 1, 100, 100)
    seen = Warp.resize(12, 100, 32).apply(ramp)
    expected = ((torch.arange(32) + 0.5) * 100 / 32 - 0.5) / 100
    torch.testing.assert_close(seen[0, 0, 5, 1:-1], expected[1:-1], atol=1e-4, rtol=0)


def test_cells_that_shrink_differently_do_not_affect_each_other() -> None:
    share = torch.tensor([1.0, 2.5, 4.2], dtype=torch.float64)
    matrix = torch.diag_embed(torch.stack([share, share, torch.ones(3)], dim=1))
    crops = smooth(3, 64)
    whole = Warp(matrix, 64, 64, Sampling(fill=0.0))
    for i in range(3):
        alone = replace(whole, matrix=matrix[i : i + 1]).apply(crops[i : i + 1])
        torch.testing.assert_close(whole.apply(crops)[i : i + 1], alone, atol=1e-6, rtol=0)


def test_the_grid_agrees_with_affine_grid() -> None:
    (warp,) = compose(geometric(*CHAIN), 96)
    theta = warp.matrix[:, :2].clone()
    theta[:, :, :2] *= warp.side_out / 96
    theta[:, :, 2] *= 2 / 96
    expected = torch.nn.functional.affine_grid(
        theta.float(), [12, 1, warp.side_out, warp.side_out], align_corners=False
    )
    columns, rows = grid_terms(warp.matrix, 96, warp.side_out, torch.ones(12, dtype=torch.long))
    grid = torch.view_as_real(columns[:, None, :] + rows[:, :, None])
    torch.testing.assert_close(grid, expected, atol=1e-5, rtol=0)


def test_squares_of_one_pixel_are_the_pixels() -> None:
    crops = smooth(2, 16)
    assert average_squares(crops, 1, "constant") is crops
